// `verify`: reads what the relying party holds, and hands the pure verification its appraisers.
import { createReadStream, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { appraiseCertification, appraiseQuote, compareClock } from '../attestation/appraisal.ts';
import { type EnrolmentRecord, parseEnrolment } from '../attestation/enrolment.ts';
import { checkEnrolment, type EnrolmentTrust } from '../attestation/enrolment-appraisal.ts';
import { appraiseEventLog } from '../attestation/eventlog-appraisal.ts';
import { appraiseNvCertification } from '../attestation/nv-certification.ts';
import { publicGoodRoot } from '../attestation/public-good-root.ts';
import { verifySigstoreBundle } from '../attestation/sigstore-verify.ts';
import { readUnsigned } from '../attestation/unsigned.ts';
import type { CustodyHead } from '../custody/chain.ts';
import type { Appraisers, ExpectedIdentity } from '../forensics/appraisers.ts';
import { type Appraisal, acceptable, failed, notProven, type VerifyReport } from '../forensics/claims.ts';
import { decrypted, isEncrypted } from '../forensics/encryption.ts';
import { type Assurance, largestStatement, sigstoreName } from '../forensics/format.ts';
import type { BundleFacts } from '../forensics/series.ts';
import { appraiseBundle } from '../forensics/verify.ts';
import { readVerifyPolicy, type VerifyPolicy } from '../forensics/verify-policy.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { repeatsKey } from '../host/json.ts';
import { isUnsignedNote } from './assurance.ts';
import { CaseKey } from './case-key.ts';
import { readTrust } from './pins.ts';
import { policyPath } from './policies.ts';

export interface VerifyOptions {
  readonly archive: string;
  /** Beside the archive unless told. */
  readonly sigstore?: string | undefined;
  /** trusted_root.json; the public-good root unless told. */
  readonly trustedRoot?: string | undefined;
  readonly enrolment?: string | undefined;
  readonly policy?: string | undefined;
  /** Directory of TPM makers' CA certificates; as the policy says unless told. */
  readonly ekCa?: string | undefined;
  /** Public keys of those who are trusted to enrol; as the policy says unless told. */
  readonly enrolledBy?: string | undefined;
  readonly caseKey?: string | undefined;
  /** age identities, by which an encrypted archive is opened. */
  readonly ageIdentity?: string | undefined;
  readonly identity?: ExpectedIdentity | undefined;
  /** `SEQUENCE:HASH` of a custody head that was seen earlier. */
  readonly knownHead?: string | undefined;
  readonly allowBypassed: boolean;
}

export interface Verification {
  readonly report: VerifyReport;
  /** Exit status 0: proven, or incomplete only where that is allowed. */
  readonly accepted: boolean;
}

/** @throws Failure `file-missing`, `enrolment-invalid`, `trusted-root-invalid`, `usage`, all with status 2. */
export async function verifyFiles(options: VerifyOptions): Promise<Verification> {
  const { archive } = options;
  requireFile('The archive', archive);
  refuseStatement(archive);
  if (options.sigstore !== undefined) requireFile('The signed statement', options.sigstore);
  using party = relyingParty(options);
  return await verifyOne(party, archive, options.sigstore ?? sigstoreName(archive));
}

/** A bundle by itself. */
export async function verifyOne(
  party: RelyingParty,
  archive: string,
  sigstore: string,
): Promise<Verification> {
  const { report } = await party.appraise(archive, sigstore, party.knownHead);
  return { report, accepted: party.accepts(report) };
}

/**
 * Opens the archive, decrypted where it is encrypted; null where that cannot be. What cannot be read shows when it is read.
 * @throws Failure `archive-encrypted`, when it is read, where the identity does not open it.
 */
export function archiveOf(
  archive: string,
  ageIdentity: string | undefined,
): (() => AsyncIterable<Uint8Array>) | null {
  if (!beginsEncrypted(archive)) return () => createReadStream(archive);
  if (ageIdentity === undefined) return null;
  const identities = readGiven('The file of age identities', ageIdentity).toString('utf8');
  return () => decrypted(identities, createReadStream(archive));
}

function beginsEncrypted(archive: string): boolean {
  try {
    return isEncrypted(archive);
  } catch {
    return false;
  }
}

/** Whoever verifies, with all that it brings: read once, for as many bundles as there are. */
export interface RelyingParty extends Disposable {
  readonly policy: VerifyPolicy;
  readonly knownHead: CustodyHead | undefined;
  readonly appraisers: Appraisers<EnrolmentRecord>;
  appraise(
    archive: string,
    sigstore: string,
    knownHead?: CustodyHead,
  ): Promise<{ readonly report: VerifyReport; readonly facts: BundleFacts | null }>;
  accepts(report: Parameters<typeof acceptable>[0]): boolean;
}

/** @throws Failure as `verifyFiles`. */
export function relyingParty(options: Omit<VerifyOptions, 'archive' | 'sigstore'>): RelyingParty {
  const path = options.policy ?? policyPath('verify.toml');
  const read = readVerifyPolicy(path);
  const appraisers = appraisersBy(readTrust(options, { path, enrolment: read.enrolment }));
  const policy = options.identity === undefined ? read : { ...read, identity: options.identity };
  const enrolments = new Enrolments(options.enrolment);
  const caseKey = options.caseKey === undefined ? undefined : new CaseKey(options.caseKey);
  const { allowBypassed } = options;
  const held = {
    trustedRoot:
      options.trustedRoot === undefined
        ? publicGoodRoot()
        : readGivenJson('The trusted root', options.trustedRoot),
    policy,
    allowBypassed,
    ...(caseKey === undefined ? {} : { caseKey: caseKey.bytes }),
  };
  return {
    policy,
    appraisers,
    knownHead: options.knownHead === undefined ? undefined : parseHead(options.knownHead),
    appraise: async (archive, sigstore, knownHead) =>
      await appraiseBundle<EnrolmentRecord>(
        {
          ...held,
          archive: archiveOf(archive, options.ageIdentity),
          sigstoreBundle: readEvidenceJson(sigstore),
          enrolment: enrolments.of(archive),
          ...(knownHead === undefined ? {} : { knownHead }),
        },
        appraisers,
      ),
    accepts: (report) => acceptable(report, policy, allowBypassed),
    [Symbol.dispose]: () => caseKey?.[Symbol.dispose](),
  };
}

/** One record for all, or a directory with those of several nodes. */
class Enrolments {
  readonly #only: EnrolmentRecord | null = null;
  readonly #byNode = new Map<string, EnrolmentRecord>();

  constructor(path: string | undefined) {
    if (path === undefined) return;
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
      this.#only = readEnrolment(path);
      return;
    }
    for (const name of readdirSync(path).filter((each) => each.endsWith('.json'))) {
      const record = readEnrolment(join(path, name));
      if (this.#byNode.has(record.node)) throw twoRecords(path, record.node);
      this.#byNode.set(record.node, record);
    }
  }

  /** By the file's name, which nobody vouches for: a bundle that is held against the wrong record is rejected. */
  of(archive: string): EnrolmentRecord | null {
    const [, node = ''] = /^(.*)-\d{6,}-\d{8}T\d{6}Z\./.exec(basename(archive)) ?? [];
    return this.#only ?? this.#byNode.get(node) ?? null;
  }
}

const twoRecords = (path: string, node: string): Failure =>
  new Failure('enrolment-ambiguous', `${path} holds two enrolment records of node ${node}.`, {
    remedy: 'Keep one record of each node there.',
    status: exitStatus.usage,
  });

const appraisersBy = (trust: EnrolmentTrust): Appraisers<EnrolmentRecord> => ({
  sigstore: (evidence) => {
    const unsigned = readUnsigned(evidence.bundle);
    if (unsigned === null) return verifySigstoreBundle(evidence);
    const nobody = notProven('Nobody signed this bundle.');
    return {
      statement: unsigned,
      claims: {
        signature: appraiseUnsigned(evidence.admitted),
        'signer identity': nobody,
        transparency: nobody,
        time: nobody,
      },
    };
  },
  quote: appraiseQuote,
  certification: appraiseCertification,
  nvCertification: appraiseNvCertification,
  eventLog: appraiseEventLog,
  clock: compareClock,
  enrolment: (record) => checkEnrolment(record, trust),
});

/** A bundle that nobody signed is as forgeable as one without a statement, so it must say why. */
function appraiseUnsigned(admitted: readonly Assurance[]): Appraisal {
  if (admitted.some(({ tpm, sigstore }) => tpm === 'bypassed' || sigstore === 'bypassed')) {
    return notProven('Nobody signed this bundle: TPM or Sigstore were bypassed when it was made.');
  }
  const note = admitted.flatMap(({ notes }) => notes).find(isUnsignedNote);
  if (note !== undefined) {
    return notProven(
      `Nobody signed this bundle. It says that ${note.replace(/: .*/, '')}, which is only asserted: a forger could say so too.`,
    );
  }
  return failed('Nobody signed this bundle, although neither TPM nor Sigstore is said to be bypassed.');
}

/** Null where there is no such file; what cannot be read, or is no JSON, is bad evidence and not a usage error. */
function readEvidenceJson(path: string): unknown {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) return null;
    if (!found.isFile()) return new Error('The signed statement (.sigstore.json) is not a file.');
    if (found.size > largestStatement) {
      return new Error(`The signed statement (.sigstore.json) is larger than ${largestStatement} bytes.`);
    }
    return parseEvidenceJson(readFileSync(path, 'utf8'));
  } catch (error) {
    return new Error(`The signed statement cannot be read: ${reasonOf(error)}`);
  }
}

/** An Error, which is no evidence, in place of a text that is not JSON or that readers may differ about. */
export function parseEvidenceJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return repeatsKey(text)
      ? new Error('The signed statement (.sigstore.json) has a key twice in one object.')
      : value;
  } catch (error) {
    return new Error(`The signed statement (.sigstore.json) is not JSON: ${reasonOf(error)}.`);
  }
}

/** What the relying party itself brought and cannot be used is its own mistake, and no evidence. */
function readEnrolment(path: string): EnrolmentRecord {
  const text = readGiven('The enrolment record', path).toString('utf8');
  try {
    return parseEnrolment(text);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const { code, message, remedy = 'Give the enrolment record that `provision` wrote on the node.' } = error;
    throw new Failure(code, message, { remedy, status: exitStatus.usage });
  }
}

export function readGiven(what: string, path: string): Buffer {
  requireFile(what, path);
  return readFileSync(path);
}

/** The other of the two files, which as an archive would read as tampered with. */
function refuseStatement(archive: string): void {
  const named = sigstoreName('');
  if (!archive.endsWith(named)) return;
  throw new Failure('usage', `${archive} is the signed statement of a bundle, not its archive.`, {
    remedy: `Give the archive, ${archive.slice(0, -named.length)}, or an archive and this file with --sigstore-bundle.`,
    status: exitStatus.usage,
  });
}

export function requireFile(what: string, path: string): void {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw missing(what, path);
  if (!found.isFile()) {
    throw new Failure('file-invalid', `${what} ${path} is not a file.`, {
      remedy: 'Check the path.',
      status: exitStatus.usage,
    });
  }
}

function readGivenJson(what: string, path: string): unknown {
  try {
    const value: unknown = JSON.parse(readGiven(what, path).toString('utf8'));
    if (value !== null) return value;
    // Else it would be taken for one that was not given.
    throw new Failure('file-invalid', `${what} ${path} holds nothing but null.`, {
      status: exitStatus.usage,
    });
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure('file-invalid', `${what} ${path} is not JSON: ${reasonOf(error)}`, {
      status: exitStatus.usage,
    });
  }
}

function parseHead(text: string): CustodyHead {
  const [, sequence, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (sequence === undefined || hash === undefined) {
    throw new Failure('usage', `A custody head is written SEQUENCE:HASH, not "${text}".`, {
      remedy: 'Take it from `esoteric-appliance status --json` of an earlier day, or from an earlier bundle.',
      status: exitStatus.usage,
    });
  }
  return { sequence: Number(sequence), hash };
}

const missing = (what: string, path: string): Failure =>
  new Failure('file-missing', `${what} ${path} does not exist.`, {
    remedy: 'Check the path.',
    status: exitStatus.usage,
  });
