// Policy digests computed without a TPM against what a TPM computes in trial sessions.
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { publicFromPem, signerName } from '../../src/tpm/external.ts';
import type { TpmObject } from '../../src/tpm/object.ts';
import { PolicyDigest, pcrDigest } from '../../src/tpm/policy-digest.ts';
import type { PolicySession } from '../../src/tpm/session.ts';
import { signatureFromDer } from '../../src/tpm/signature.ts';
import { parsePublic } from '../../src/tpm/structures.ts';
import { endorsementKeyEcc, endorsementKeyRsa, storageRootKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const counter = 0x01800001;
const ownerName = Uint8Array.of(0x40, 0, 0, 1);
const policyRef = createHash('sha256').update('reference').digest();
const unseal = 0x15e;
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();

describe('a policy digest', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-policy-'));
  let swtpm: Swtpm;
  let tpm: Tpm;
  let root: TpmObject;
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
    tpm = await openTpm({ tcti: swtpm.tcti });
    root = await tpm.createPrimary('owner', storageRootKey);
    await tpm.nvDefine(counter, { attributes: 'counter', byteLength: 8 });
    await tpm.nvIncrement(counter);
    await tpm.pcrExtend(7, { sha256: digestOf(Buffer.from('event')) });
  });
  afterAll(async () => {
    await tpm?.close();
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  async function trial(build: (session: PolicySession) => Promise<void>): Promise<string> {
    await using session = await tpm.startPolicySession(root, 'trial');
    await build(session);
    return hex(await session.digest());
  }

  it('of PCRs is the TPM’s, in whatever order they are named', async () => {
    const values = await tpm.pcrRead('sha256', [0, 7, 14]);
    const ours = hex(PolicyDigest.start.pcr(values).value);
    expect(await trial((session) => session.policyPcr([0, 7, 14]))).toBe(ours);
    expect(await trial((session) => session.policyPcr([14, 0, 7], pcrDigest(values)))).toBe(ours);
    expect(hex(PolicyDigest.start.pcr(new Map([...values].reverse())).value)).toBe(ours);
  });

  it.each(['equal', 'notEqual', 'unsignedAtLeast'] as const)(
    'of an NV comparison (%s) is the TPM’s',
    async (compare) => {
      const { name } = await tpm.nvPublic(counter);
      const operand = Buffer.from('0000000000000003', 'hex');
      const ours = PolicyDigest.start.nv(name, operand, 0, compare).value;
      expect(await trial((session) => session.policyNv(counter, operand, 0, compare))).toBe(hex(ours));
    },
  );

  it('of what a key may approve is the TPM’s, and forgets what came before', async () => {
    const values = await tpm.pcrRead('sha256', [0]);
    const approved = PolicyDigest.start.pcr(values).value;
    const message = Buffer.concat([approved, policyRef]);
    const theirs = await trial(async (session) => {
      await session.policyPcr([0]);
      await using signer = await tpm.loadExternal(publicFromPem(pem));
      expect(hex(signer.name)).toBe(hex(signerName(pem)));
      const signature = signatureFromDer(sign('sha256', message, privateKey));
      const ticket = await tpm.verifySignature(signer, digestOf(message), signature);
      await session.policyAuthorize(signer.name, approved, policyRef, ticket);
    });
    const ours = PolicyDigest.start.pcr(values).authorize(signerName(pem), policyRef);
    expect(theirs).toBe(hex(ours.value));
    expect(theirs).toBe(hex(PolicyDigest.start.authorize(signerName(pem), policyRef).value));
  });

  it('of a signature, a hierarchy’s secret, a command and a choice is the TPM’s', async () => {
    const signed = await trial(async (session) => {
      await using signer = await tpm.loadExternal(publicFromPem(pem));
      await session.policySigned(signer, policyRef, (message) =>
        signatureFromDer(sign('sha256', message, privateKey)),
      );
    });
    expect(signed).toBe(hex(PolicyDigest.start.signed(signerName(pem), policyRef).value));
    const secret = await trial((session) => session.policySecret('owner'));
    expect(secret).toBe(hex(PolicyDigest.start.secret(ownerName).value));
    const command = PolicyDigest.start.commandCode(unseal);
    expect(await trial((session) => session.policyCommandCode(unseal))).toBe(hex(command.value));
    const either = PolicyDigest.or(command, PolicyDigest.start.secret(ownerName));
    const theirs = await trial(async (session) => {
      await session.policyCommandCode(unseal);
      await session.policyOr([command.value, PolicyDigest.start.secret(ownerName).value]);
    });
    expect(theirs).toBe(hex(either.value));
  });

  it('binds a session to one command', async () => {
    await using session = await tpm.startPolicySession(root, 'policy');
    await session.policyCommandCode(unseal);
    expect(hex(await session.digest())).toBe(hex(PolicyDigest.start.commandCode(unseal).value));
    expect(await session.nonce()).toHaveLength(32);
  });

  it('refuses a comparison that does not hold, and one with an index never written', async () => {
    await using session = await tpm.startPolicySession(root, 'policy');
    const attempt = session.policyNv(counter, new Uint8Array(8));
    await expect(attempt).rejects.toMatchObject({ code: 'tpm-policy', rc: 0x126 });
    await tpm.nvDefine(counter + 1, { attributes: 'counter', byteLength: 8 });
    await expect(session.policyNv(counter + 1, new Uint8Array(8))).rejects.toMatchObject({
      code: 'tpm-nv-unwritten',
    });
    await tpm.nvUndefine(counter + 1);
  });

  it('has no ticket for a signature that does not verify', async () => {
    await using signer = await tpm.loadExternal(publicFromPem(pem));
    const signature = signatureFromDer(sign('sha256', Buffer.from('another'), privateKey));
    await expect(tpm.verifySignature(signer, policyRef, signature)).rejects.toMatchObject({
      code: 'tpm-refused',
    });
  });
});

describe('the default templates of endorsement keys', () => {
  it('have the policy that the profile prints (TCG EK Credential Profile, annex B.3)', () => {
    const printed = '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa';
    for (const template of [endorsementKeyEcc, endorsementKeyRsa]) {
      expect(hex(parsePublic(template).authPolicy)).toBe(printed);
      expect(parsePublic(template).attributes).toBe(0x000300b2);
    }
  });
});

describe('a signer outside the TPM', () => {
  it('must be ECDSA P-256, in PEM', () => {
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey;
    const ed25519 = generateKeyPairSync('ed25519').publicKey;
    for (const other of [p384, ed25519].map((key) =>
      key.export({ type: 'spki', format: 'pem' }).toString(),
    )) {
      expect(() => publicFromPem(other)).toThrow(expect.objectContaining({ code: 'signer-unsupported' }));
    }
    expect(() => publicFromPem('not a key')).toThrow(expect.objectContaining({ code: 'signer-unsupported' }));
  });
});
