// The TPM as the rest of the appliance sees it: keys, sealing, PCRs, quotes, NV. Every command is queued, has a time
// limit, and leaves nothing behind in the TPM or in memory.
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { flushAbandoned } from './abandoned.ts';
import { noSessions } from './commands.ts';
import { Connection } from './connection.ts';
import * as endorsement from './endorsement.ts';
import * as external from './external.ts';
import * as lockout from './lockout.ts';
import * as nv from './nv.ts';
import type { NvDefinition, NvPublic } from './nv-public.ts';
import { nvReadSecret, nvWriteSecret } from './nv-secret.ts';
import type { Hierarchy, ObjectBlob, TpmObject } from './object.ts';
import * as objects from './object.ts';
import * as pcr from './pcr.ts';
import { handlesFrom, pcrBanks, readProperties, type TpmProperties } from './properties.ts';
import type { RawChannel } from './raw.ts';
import { type PolicySession, startPolicySession } from './session.ts';
import type { SignedAttest } from './signing.ts';
import * as signing from './signing.ts';
import type { PcrBank } from './structs.ts';
import { sizedContent } from './structs.ts';

export interface TpmOptions {
  /** As tpm2-tss names it: `device:/dev/tpmrm0`, `swtpm:path=/x.sock`, `swtpm:host=127.0.0.1,port=2321`, `pcap:…`. */
  readonly tcti: string;
  /** For each command; default 5000. */
  readonly commandTimeoutMilliseconds?: number;
}

/**
 * @throws Failure `tss-missing` without tpm2-tss; `tpm-unreachable` when no TPM answers.
 */
export async function openTpm(options: TpmOptions): Promise<Tpm> {
  return new Tpm(
    await Connection.open(options.tcti, options.commandTimeoutMilliseconds ?? 5000),
    options.tcti,
  );
}

const firstPersistent = 0x81000000;
const firstNvIndex = 0x01000000;
const mostRandomAtOnce = 32;

/** Hierarchy authorizations are taken to be empty. All methods throw TpmError. */
export class Tpm implements AsyncDisposable {
  readonly #connection: Connection;
  readonly #tcti: string;

  constructor(connection: Connection, tcti: string) {
    this.#connection = connection;
    this.#tcti = tcti;
  }

  /** Maker, firmware, lockout, clock (GetCapability, ReadClock). */
  properties(): Promise<TpmProperties> {
    return readProperties(this.#connection, this.#tcti);
  }
  /** Ascending (GetCapability). */
  persistentHandles(): Promise<number[]> {
    return handlesFrom(this.#connection, firstPersistent);
  }
  /** For the one user of a TPM without a resource manager (swtpm, /dev/tpm0): flushes what killed processes left loaded. */
  flushAbandoned(): Promise<void> {
    return flushAbandoned(this.#connection, this.#tcti);
  }
  /** Ascending (GetCapability). */
  nvIndices(): Promise<number[]> {
    return handlesFrom(this.#connection, firstNvIndex);
  }

  /** An object at a persistent handle, or an NV index. @throws TpmError `tpm-no-object`. */
  at(handle: number): Promise<TpmObject> {
    return objects.objectAt(this.#connection, handle);
  }
  /** TPMT_PUBLIC and Name of what is at a persistent handle. @throws TpmError `tpm-no-object`. */
  async readPublic(handle: number): Promise<{ public: Uint8Array; name: Uint8Array }> {
    await using object = await objects.describedObjectAt(this.#connection, handle);
    return { public: object.public, name: object.name };
  }

  /** A key that the hierarchy's seed and `template` (TPMT_PUBLIC, see templates.ts) determine; dispose it. */
  createPrimary(hierarchy: Hierarchy, template: Uint8Array): Promise<TpmObject> {
    return objects.createPrimary(this.#connection, hierarchy, template);
  }
  /** Authorized by the owner whichever hierarchy the object is in, as the Library wants it below 0x81800000. */
  persist(object: TpmObject, _hierarchy: Hierarchy, handle: number): Promise<void> {
    return objects.persist(this.#connection, object, handle);
  }
  /** Frees a persistent handle (EvictControl); the object is gone. @throws TpmError `tpm-no-object`. */
  unpersist(handle: number, _hierarchy: Hierarchy): Promise<void> {
    return objects.unpersist(this.#connection, handle);
  }
  /** Makes a key, or seals `sensitive` (at most 128 bytes), in a session salted to `parent`. */
  create(parent: TpmObject, template: Uint8Array, sensitive?: SecretBuffer): Promise<ObjectBlob> {
    return objects.create(this.#connection, parent, template, sensitive);
  }
  /** Loads what `create` made under the same parent; dispose it. @throws TpmError `tpm-foreign-blob`. */
  load(parent: TpmObject, blob: ObjectBlob): Promise<TpmObject> {
    return objects.load(this.#connection, parent, blob);
  }
  /** A public key (TPMT_PUBLIC) of a signer outside the TPM, see external.ts. */
  loadExternal(publicArea: Uint8Array): Promise<TpmObject> {
    return external.loadExternal(this.#connection, publicArea);
  }
  /** A ticket for `PolicySession.policyAuthorize`. @throws TpmError `tpm-refused` when it does not verify. */
  verifySignature(
    key: TpmObject,
    sha256: Uint8Array,
    signature: Uint8Array,
  ): Promise<external.VerifiedTicket> {
    return external.verifySignature(this.#connection, key, sha256, signature);
  }
  /** Unseals into the arena; dispose of the result to wipe it. @throws TpmError `tpm-policy`. */
  unseal(object: TpmObject, policy: PolicySession, into: SecretArena, label: string): Promise<SecretBuffer> {
    return objects.unseal(this.#connection, object, policy, into, label);
  }
  /** Salted to `saltKey` (the SRK), with AES-128-CFB parameter encryption both ways. */
  startPolicySession(saltKey: TpmObject, kind: 'policy' | 'trial'): Promise<PolicySession> {
    return startPolicySession(this.#connection, saltKey, kind);
  }

  /** Hash algorithms of the banks that hold any PCR: `sha256`. */
  pcrBanks(): Promise<string[]> {
    return pcrBanks(this.#connection);
  }
  /** By PCR number, ascending. @throws TpmError `tpm-no-pcr`. */
  pcrRead(bank: PcrBank, pcrs: readonly number[]): Promise<Map<number, Uint8Array>> {
    return pcr.pcrRead(this.#connection, bank, pcrs);
  }
  /** Extends the banks given. */
  pcrExtend(number: number, digests: pcr.PcrDigests): Promise<void> {
    return pcr.pcrExtend(this.#connection, number, digests);
  }

  /** Over the same PCRs of each bank (of SHA-256 alone unless told); `qualifyingData` has at most 64 bytes. */
  quote(
    ak: TpmObject,
    qualifyingData: Uint8Array,
    pcrs: readonly number[],
    banks?: readonly PcrBank[],
  ): Promise<SignedAttest> {
    return signing.quote(this.#connection, ak, qualifyingData, pcrs, banks);
  }
  /** States that `object` is loaded in this TPM, by Name; `qualifyingData` as in `quote`. */
  certify(object: TpmObject, ak: TpmObject, qualifyingData: Uint8Array): Promise<SignedAttest> {
    return signing.certify(this.#connection, object, ak, qualifyingData);
  }
  /** The TPM's clock and counts, in words that a verifier can check. */
  getTime(ak: TpmObject, qualifyingData: Uint8Array): Promise<SignedAttest> {
    return signing.getTime(this.#connection, ak, qualifyingData);
  }
  /** ECDSA over a SHA-256 digest; DER. */
  sign(key: TpmObject, sha256: Uint8Array): Promise<Uint8Array> {
    return signing.sign(this.#connection, key, sha256);
  }

  /** Under the owner. @throws TpmError `tpm-nv-defined`, `tpm-nv-full`. */
  nvDefine(index: number, definition: NvDefinition): Promise<void> {
    return nv.nvDefine(this.#connection, index, definition);
  }
  /** Attributes, TPMS_NV_PUBLIC and Name. @throws TpmError `tpm-no-object`. */
  nvPublic(index: number): Promise<NvPublic & { readonly area: Uint8Array; readonly name: Uint8Array }> {
    return nv.nvPublic(this.#connection, index);
  }
  /** With all it holds; a counter defined anew goes on from the highest. @throws TpmError `tpm-no-object`. */
  nvUndefine(index: number): Promise<void> {
    return nv.nvUndefine(this.#connection, index);
  }
  /** By one; the first one makes a counter readable. */
  nvIncrement(index: number): Promise<void> {
    return nv.nvIncrement(this.#connection, index);
  }
  /** All of it, or its first `size` bytes. @throws TpmError `tpm-nv-unwritten`. */
  nvRead(index: number, size?: number): Promise<Uint8Array> {
    return nv.nvRead(this.#connection, index, size);
  }
  /** @throws TpmError `tpm-nv-unwritten` before the first increment. */
  nvReadCounter(index: number): Promise<bigint> {
    return nv.nvReadCounter(this.#connection, index);
  }
  /** From its start, in several commands where one does not carry all. */
  nvWrite(index: number, bytes: Uint8Array): Promise<void> {
    return nv.nvWrite(this.#connection, index, bytes);
  }
  /** In a session salted to `saltKey`, so that the secret is not seen on the bus. */
  nvWriteSecret(saltKey: TpmObject, index: number, secret: SecretBuffer): Promise<void> {
    return nvWriteSecret(this.#connection, saltKey, index, secret);
  }
  /** Into the arena; `session` encrypts the answer and authorizes nothing. @throws TpmError `tpm-no-object`. */
  nvReadSecret(
    index: number,
    byteLength: number,
    session: PolicySession,
    into: SecretArena,
    label: string,
  ): Promise<SecretBuffer> {
    return nvReadSecret(this.#connection, index, byteLength, session, into, label);
  }
  /** An extend-only index becomes the digest of what it held and `bytes`. */
  nvExtend(index: number, bytes: Uint8Array): Promise<void> {
    return nv.nvExtend(this.#connection, index, bytes);
  }
  /** States what the index holds, by its Name. */
  nvCertify(index: number, ak: TpmObject, qualifyingData: Uint8Array): Promise<SignedAttest> {
    return nv.nvCertify(this.#connection, index, ak, qualifyingData);
  }

  /** By the default template of the TCG EK Credential Profile; the persisted one where there is one. */
  endorsementKey(kind: endorsement.EndorsementKind): Promise<TpmObject> {
    return endorsement.endorsementKey(this.#connection, kind);
  }
  /** DER, from NV; undefined where the TPM holds none. */
  endorsementCertificate(kind: endorsement.EndorsementKind): Promise<Uint8Array | undefined> {
    return endorsement.endorsementCertificate(this.#connection, kind);
  }
  /** DER, from NV: certificates between the maker's root and the endorsement key's, where the maker put them there. */
  endorsementChain(): Promise<Uint8Array[]> {
    return endorsement.endorsementChain(this.#connection);
  }
  /** The answer to a challenge that only this TPM, holding both keys, can give. @throws TpmError `tpm-foreign-blob`. */
  activateCredential(
    endorsementKey: TpmObject,
    key: TpmObject,
    credential: endorsement.CredentialBlob,
  ): Promise<Uint8Array> {
    return endorsement.activateCredential(this.#connection, endorsementKey, key, credential);
  }

  /** With an empty lockout authorization. */
  setLockoutParameters(parameters: lockout.LockoutParameters): Promise<void> {
    return lockout.setLockoutParameters(this.#connection, parameters);
  }
  /** Ends a lockout and forgives all wrong tries; with an empty lockout authorization. */
  resetLockout(): Promise<void> {
    return lockout.resetLockout(this.#connection);
  }

  /** Crosses the bus in clear: for nonces and as one input among several to a DRBG, never as a key by itself. */
  async getRandom(byteLength: number, into: Uint8Array = new Uint8Array(byteLength)): Promise<Uint8Array> {
    for (let done = 0; done < byteLength; ) {
      const wanted = Math.min(mostRandomAtOnce, byteLength - done);
      const part = await this.#connection.execute('GetRandom', [...noSessions, wanted], ([bytes = 0n]) =>
        sizedContent(this.#connection, bytes),
      );
      into.set(part, done);
      done += part.byteLength;
    }
    return into;
  }

  /** For another thread (`RawTransport`), which reaches the same TPM on a handle of its own; structured-cloneable. */
  rawChannel(): RawChannel {
    return { tcti: this.#tcti };
  }

  /** After the commands under way; safe to repeat. Later ones are `tpm-closed`. */
  close(): Promise<void> {
    return this.#connection.close();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
