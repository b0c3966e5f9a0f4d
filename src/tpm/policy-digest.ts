// What a policy's digest comes to, by the formulas of TPM 2.0 Library, Part 3, section 23, over SHA-256: for whoever writes
// or checks a policy without a TPM. Pure.
import { createHash } from 'node:crypto';
import { pcrSelection } from './structs.ts';
import { Writer } from './wire.ts';

/** TPM_CC, the part of each formula that tells the assertions apart. */
const commandCode = {
  policyNv: 0x149,
  policySecret: 0x151,
  policySigned: 0x160,
  policyAuthorize: 0x16a,
  policyCommandCode: 0x16c,
  policyOr: 0x171,
  policyPcr: 0x17f,
} as const;

/** TPM_EO: how PolicyNV compares what the index holds (left) with the operand (right), both unsigned. */
export const comparison = { equal: 0x0000, notEqual: 0x0001, unsignedAtLeast: 0x0007 } as const;
export type Comparison = keyof typeof comparison;

const none = new Uint8Array();
const empty = new Uint8Array(32);

const sha256 = (...parts: Uint8Array[]): Uint8Array => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const u32 = (value: number): Uint8Array => new Writer().u32(value).done();

/** A policy so far; each method returns the policy with one assertion more. */
export class PolicyDigest {
  /** 32 bytes. */
  readonly value: Uint8Array;

  private constructor(value: Uint8Array) {
    this.value = value;
  }

  static readonly start: PolicyDigest = new PolicyDigest(empty);

  /** Section 23.7. PCR values of the SHA-256 bank, 32 bytes each. */
  pcr(values: ReadonlyMap<number, Uint8Array>): PolicyDigest {
    const selection = pcrSelection('sha256', [...values.keys()]);
    return this.#then(commandCode.policyPcr, selection, pcrDigest(values));
  }

  /** Section 23.9. `indexName`: TPM Name of the NV index once written. */
  nv(indexName: Uint8Array, operand: Uint8Array, offset: number, compare: Comparison): PolicyDigest {
    const args = sha256(operand, new Writer().u16(offset).u16(comparison[compare]).done());
    return this.#then(commandCode.policyNv, args, indexName);
  }

  /** Section 23.16: whatever came before is replaced by the key that may approve it. */
  authorize(signerName: Uint8Array, policyRef: Uint8Array = none): PolicyDigest {
    return PolicyDigest.start.#then(commandCode.policyAuthorize, signerName).#qualified(policyRef);
  }

  /** Section 23.3. */
  signed(signerName: Uint8Array, policyRef: Uint8Array = none): PolicyDigest {
    return this.#then(commandCode.policySigned, signerName).#qualified(policyRef);
  }

  /** Section 23.4. The Name of a hierarchy is its handle. */
  secret(entityName: Uint8Array, policyRef: Uint8Array = none): PolicyDigest {
    return this.#then(commandCode.policySecret, entityName).#qualified(policyRef);
  }

  /** Section 23.11. */
  commandCode(code: number): PolicyDigest {
    return this.#then(commandCode.policyCommandCode, u32(code));
  }

  /** Section 23.6: two to eight branches. */
  static or(...branches: readonly PolicyDigest[]): PolicyDigest {
    return PolicyDigest.start.#then(commandCode.policyOr, ...branches.map(({ value }) => value));
  }

  #then(code: number, ...parts: Uint8Array[]): PolicyDigest {
    return new PolicyDigest(sha256(this.value, u32(code), ...parts));
  }

  /** The second half of PolicyUpdate (section 23.2.3). */
  #qualified(policyRef: Uint8Array): PolicyDigest {
    return new PolicyDigest(sha256(this.value, policyRef));
  }
}

/** What a quote and PolicyPCR hold of PCR values: SHA-256 over them in ascending order of the PCRs' numbers. */
export function pcrDigest(values: ReadonlyMap<number, Uint8Array>): Uint8Array {
  return sha256(...[...values].sort(([a], [b]) => a - b).map(([, value]) => value));
}
