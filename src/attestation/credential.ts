// TPM2_MakeCredential on the verifier's side, without a TPM: a challenge that only the TPM with this endorsement key can read,
// and only while it holds the key of this Name (TPM 2.0 Library, Part 1, section 24; key derivation, section 11.4.10).
import {
  constants,
  createCipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  publicEncrypt,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { Failure } from '../host/failure.ts';
import type { CredentialBlob } from '../tpm/endorsement.ts';
import { coordinateSize } from '../tpm/registry.ts';
import { type HashName, type PublicArea, parsePublic, publicKeyPem } from '../tpm/structures.ts';
import { Writer } from '../tpm/wire.ts';

/** A seed shared with the endorsement key, and the form in which it travels. */
interface SharedSeed {
  readonly seed: Uint8Array;
  readonly encryptedSecret: Uint8Array;
}

const none = new Uint8Array();
const aes = 0x0006;
const cfb = 0x0043;

/**
 * Hides `secret` (at most the size of the endorsement key's digest) so that `TPM2_ActivateCredential` returns it.
 * `endorsementPublic`: TPMT_PUBLIC; `keyName`: TPM Name of the attestation key.
 * @throws Failure `endorsement-key-unsuitable` for a key that is not a restricted decryption key of RSA or ECC;
 * `tpm-structure-invalid`.
 */
export function makeCredential(
  endorsementPublic: Uint8Array,
  keyName: Uint8Array,
  secret: Uint8Array,
): CredentialBlob {
  const area = parsePublic(endorsementPublic);
  const { nameAlg, symmetric } = area;
  if (!area.restricted || !area.decrypt) throw unsuitable('it is not a restricted decryption key');
  if (symmetric?.algorithm !== aes || symmetric.mode !== cfb)
    throw unsuitable('it does not protect with AES-CFB');
  if (secret.length === 0 || secret.length > digestSize(nameAlg))
    throw new RangeError(`A credential has 1 to ${digestSize(nameAlg)} bytes, not ${secret.length}.`);
  const { seed, encryptedSecret } = area.rsa
    ? rsaSeed(area, endorsementPublic)
    : eccSeed(area, endorsementPublic);
  const key = kdfA(nameAlg, seed, 'STORAGE', keyName, none, symmetric.bits);
  const cipher = createCipheriv(`aes-${symmetric.bits}-cfb` as 'aes-128-cfb', key, Buffer.alloc(16));
  const identity = cipher.update(new Writer().sized(secret).done());
  const integrityKey = kdfA(nameAlg, seed, 'INTEGRITY', none, none, digestSize(nameAlg) * 8);
  const integrity = createHmac(nameAlg, integrityKey).update(identity).update(keyName).digest();
  return { idObject: new Writer().sized(integrity).bytes(identity).done(), encryptedSecret };
}

/** A fresh challenge, 32 bytes, to hide and to compare the answer with. */
export const newChallenge = (): Uint8Array => randomBytes(32);

/** Whether the TPM gave back what was hidden for it. */
export const answers = (challenge: Uint8Array, answer: Uint8Array): boolean =>
  challenge.length === answer.length && timingSafeEqual(challenge, answer);

/** Part 1, annex B.10.4: a random seed, OAEP-encrypted with the label "IDENTITY". */
function rsaSeed({ nameAlg }: PublicArea, endorsementPublic: Uint8Array): SharedSeed {
  const seed = randomBytes(digestSize(nameAlg));
  const encryptedSecret = publicEncrypt(
    {
      key: publicKeyPem(endorsementPublic),
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: nameAlg,
      oaepLabel: Buffer.from('IDENTITY\0'),
    },
    seed,
  );
  return { seed, encryptedSecret };
}

/** Part 1, annex C.6.4: one-pass Diffie-Hellman with an ephemeral key; what travels is its point. */
function eccSeed({ nameAlg, ecc }: PublicArea, endorsementPublic: Uint8Array): SharedSeed {
  if (ecc === undefined) throw unsuitable('it is neither RSA nor ECC');
  const size = coordinateSize[ecc.curve];
  const ephemeral = generateKeyPairSync('ec', { namedCurve: ecc.curve });
  const shared = diffieHellman({
    privateKey: ephemeral.privateKey,
    publicKey: createPublicKey(publicKeyPem(endorsementPublic)),
  });
  const { x = '', y = '' } = ephemeral.publicKey.export({ format: 'jwk' });
  const [ownX, ownY] = [Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')];
  const theirX = Buffer.concat([Buffer.alloc(size - ecc.x.length), ecc.x]);
  return {
    seed: kdfE(nameAlg, shared, 'IDENTITY', ownX, theirX),
    encryptedSecret: new Writer().sized(ownX).sized(ownY).done(),
  };
}

/** KDFa (Part 1, section 11.4.10.2; SP 800-108 in counter mode with HMAC). `bits`: a multiple of 8. */
export function kdfA(
  hash: HashName,
  key: Uint8Array,
  label: string,
  contextU: Uint8Array,
  contextV: Uint8Array,
  bits: number,
): Uint8Array {
  return derive(hash, bits, (counter) =>
    createHmac(hash, key)
      .update(counter)
      .update(`${label}\0`)
      .update(contextU)
      .update(contextV)
      .update(u32(bits))
      .digest(),
  );
}

/** KDFe (section 11.4.10.3; SP 800-56A, single-step), as many bits as the digest has. */
function kdfE(
  hash: HashName,
  z: Uint8Array,
  label: string,
  partyU: Uint8Array,
  partyV: Uint8Array,
): Uint8Array {
  return derive(hash, digestSize(hash) * 8, (counter) =>
    createHash(hash).update(counter).update(z).update(`${label}\0`).update(partyU).update(partyV).digest(),
  );
}

function derive(hash: HashName, bits: number, block: (counter: Uint8Array) => Uint8Array): Uint8Array {
  const blocks = Array.from({ length: Math.ceil(bits / 8 / digestSize(hash)) }, (_, at) =>
    block(u32(at + 1)),
  );
  return Buffer.concat(blocks).subarray(0, bits / 8);
}

const digestSize = (hash: HashName): number => ({ sha1: 20, sha256: 32, sha384: 48, sha512: 64 })[hash];
const u32 = (value: number): Uint8Array => new Writer().u32(value).done();

function unsuitable(why: string): Failure {
  return new Failure('endorsement-key-unsuitable', `The endorsement key cannot take a credential: ${why}.`, {
    remedy:
      'Enrol the node with an endorsement key made by a default template of the TCG EK Credential Profile.',
  });
}
