// What verification asks of attestation, in the words of forensics: src/appliance hands the functions in. Each is pure and
// answers bad evidence with a verdict, not with an exception.
import type { Appraisal } from './claims.ts';
import type { Assurance } from './format.ts';

type Awaitable<T> = T | Promise<T>;

/** TPMS_CLOCK_INFO; `clock` in milliseconds (a decimal number where it is text). */
export interface ClockReading {
  readonly clock: bigint | string;
  readonly resetCount: number;
  readonly restartCount: number;
  readonly safe: boolean;
}

/** An earlier reading; an enrolment record may keep the counts only. */
export type EarlierClock = Omit<ClockReading, 'clock' | 'safe'> & { readonly clock?: bigint | string };

/** What is needed of an enrolment record. Names and PCR values are hex, public areas base64 of TPMT_PUBLIC. */
export interface Enrolment {
  readonly node: string;
  /** RFC 3339. */
  readonly created: string;
  readonly assurance: Assurance;
  readonly tpm: {
    readonly ak: { readonly public: string };
    readonly signingKey: { readonly public: string; readonly publicKey: string };
    readonly pcrPolicy: { readonly pcrs: Readonly<Record<string, string>> };
    readonly capPcr: number;
    readonly resetCount: number;
    readonly restartCount: number;
    /** Milliseconds, decimal; only where the relying party saw a quote when it enrolled the node. */
    readonly clock?: string;
    /** Handles of NV indices. */
    readonly nv?: { readonly sequence: string; readonly armed: string; readonly custody: string };
  } | null;
  /** Only where there is no TPM. */
  readonly signingKey?: { readonly publicKey: string } | null;
  readonly custodyHead: { readonly sequence: number; readonly hash: string };
}

export interface ExpectedIdentity {
  readonly subject: string;
  readonly issuer: string;
}

export interface SigstoreAppraisal {
  /** The in-toto statement, checked for its form here; null where it cannot be read. */
  readonly statement: unknown;
  readonly claims: Readonly<Record<'signature' | 'signer identity' | 'transparency' | 'time', Appraisal>>;
}

/** `E` is the enrolment record as attestation parses it. */
export interface Appraisers<E extends Enrolment = Enrolment> {
  sigstore(evidence: {
    readonly bundle: unknown;
    readonly archiveSha256: string;
    readonly trustedRoot: unknown;
    readonly publicKeyPem: string | null;
    readonly identity: ExpectedIdentity | null;
    readonly standIns: readonly string[];
    /** What the manifest and the enrolment record admit, as far as there are such. */
    readonly admitted: readonly Assurance[];
  }): Awaitable<SigstoreAppraisal>;
  quote(evidence: {
    readonly attest: Uint8Array;
    readonly signature: Uint8Array;
    readonly akPublic: Uint8Array;
    readonly expectedQualifyingData: Uint8Array;
    readonly pcrValues: Readonly<Record<string, string>>;
    /** The quote must select these and no others. */
    readonly requiredPcrs: readonly number[];
  }): Appraisal & { readonly clock: ClockReading | null };
  certification(evidence: {
    readonly attest: Uint8Array;
    readonly signature: Uint8Array;
    readonly akPublic: Uint8Array;
    readonly certifiedPublic: Uint8Array;
    readonly expectedQualifyingData: Uint8Array;
  }): Appraisal;
  nvCertification(evidence: {
    readonly attest: Uint8Array;
    readonly signature: Uint8Array;
    readonly akPublic: Uint8Array;
    /** It was made for one of these. */
    readonly qualifyingData: readonly Uint8Array[];
    readonly index: number;
    readonly use: 'counter' | 'custody head';
  }): Appraisal & { readonly contents: Uint8Array | null };
  eventLog(evidence: {
    readonly log: Uint8Array;
    readonly pcrValues: Readonly<Record<string, string>>;
  }): Appraisal;
  clock(previous: EarlierClock | null, current: ClockReading): Appraisal;
  enrolment(record: E): Appraisal;
}
