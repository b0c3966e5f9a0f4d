// Verification of a forensic bundle: bytes in, verdict out. Pure: no clock, no TPM, no network, no file but the stream it is
// given. Evidence that is malformed makes a claim `failed`, never an exception.
import { createHash } from 'node:crypto';
import { type ChainCheck, type CustodyHead, checkChain } from '../custody/chain.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import type { Appraisers, EarlierClock, Enrolment, SigstoreAppraisal } from './appraisers.ts';
import { type Appraisal, conclude, failed, notProven, type VerifyReport, weakened } from './claims.ts';
import {
  type Assurance,
  type BundlePredicate,
  custodyPath,
  decodeManifest,
  isRecordsPath,
  type Manifest,
  manifestPath,
  type StatedProgram,
  statementSchema,
} from './format.ts';
import type { BundleFacts } from './series.ts';
import { type ArchiveMember, readArchive } from './unpack.ts';
import {
  appraiseArchive,
  appraiseCustody,
  appraiseManifest,
  appraiseRollback,
  appraiseSequence,
} from './verify-content.ts';
import { withoutContent } from './verify-encrypted.ts';
import { type NvTestimony, readNv } from './verify-nv.ts';
import type { VerifyPolicy } from './verify-policy.ts';
import { appraiseRedaction } from './verify-redaction.ts';
import { appraiseTpm } from './verify-tpm.ts';
import { appraiseZeroize } from './verify-zeroize.ts';

export interface VerifyInput<E extends Enrolment = Enrolment> {
  /** The archive, or a function that opens it as a stream; it may be opened several times. Null: encrypted, and not to be opened here. */
  readonly archive: Uint8Array | (() => AsyncIterable<Uint8Array>) | null;
  /** The parsed `.sigstore.json`; null where there is none, an Error where it cannot be read. */
  readonly sigstoreBundle: unknown;
  /** The node's enrolment record, kept by the relying party; null where there is none. */
  readonly enrolment: E | null;
  /** The parsed trusted_root.json; null where there is none. */
  readonly trustedRoot: unknown;
  readonly policy: VerifyPolicy;
  /** Go on although TPM or Sigstore were bypassed when the bundle was made. */
  readonly allowBypassed: boolean;
  /** A head of this node's custody log that was seen earlier. */
  readonly knownHead?: CustodyHead;
  /** The clock of an earlier quote of this node. */
  readonly previousClock?: EarlierClock;
  /** The sequence of the last bundle of this node that was seen. */
  readonly previousSequence?: number;
  /** The key of the case, by which redaction can be looked at. */
  readonly caseKey?: Uint8Array;
}

/** What has been read of a bundle, before any of it is believed. */
export interface Evidence {
  /** As stated, where the archive cannot be opened; empty where it cannot be read. */
  readonly archiveSha256: string;
  /** Why the archive cannot be read; absent when it can. */
  readonly archiveProblem?: string;
  readonly members: ReadonlyMap<string, ArchiveMember>;
  readonly manifest: Manifest | null;
  readonly manifestProblem?: string;
  readonly sigstore: SigstoreAppraisal;
  /** Of the statement about this archive; null where there is none or it cannot be read. */
  readonly predicate: BundlePredicate | null;
  /** The archive's digest as the statement tells it. */
  readonly statedSha256: string | null;
  /** Null where the bundle has no custody log. */
  readonly custody: ChainCheck | null;
  readonly enrolment: Enrolment | null;
  /** Labels that manifest, statement or enrolment admit. */
  readonly standIns: readonly string[];
  /** The weakest TPM that any of them admits. */
  readonly tpm: Assurance['tpm'];
}

/** The verdict alone. @throws as `appraiseBundle`. */
export const verifyBundle = async <E extends Enrolment>(
  input: VerifyInput<E>,
  appraisers: Appraisers<E>,
): Promise<VerifyReport> => (await appraiseBundle(input, appraisers)).report;

/** What is said of a claim that rests on a custody log of which this was found. */
const doubts = {
  proven: undefined,
  failed: 'But the custody log itself failed.',
  'not-proven': 'But the custody log is not proven to be the whole history.',
} as const;

/**
 * Appraises a bundle against what the relying party holds, and keeps what can be compared with other bundles of its node.
 * @throws Failure with status 2 for what the relying party itself brought and that cannot be used (a trusted root).
 */
export async function appraiseBundle<E extends Enrolment>(
  input: VerifyInput<E>,
  appraisers: Appraisers<E>,
): Promise<{ readonly report: VerifyReport; readonly facts: BundleFacts | null }> {
  const evidence = await readEvidence(input, appraisers);
  const { manifest, predicate, enrolment } = evidence;
  const tpm = appraiseTpm(evidence, input, appraisers);
  const nv = readNv(evidence, appraisers);
  const custody = appraiseCustody(evidence, nv.custody);
  const bound = evidence.sigstore.claims.signature.result === 'proven' || tpm.quoteHolds;
  const unbound = bound ? undefined : 'But it is not proven that anybody signed the statement.';
  const redaction = await appraiseRedaction(evidence, input);
  const results = {
    ...evidence.sigstore.claims,
    ...tpm.claims,
    'TPM identity': weakened(tpm.claims['TPM identity'], unbound),
    'archive integrity': appraiseArchive(evidence, bound),
    manifest: weakened(appraiseManifest(evidence), unbound),
    'custody chain': weakened(custody, unbound),
    'custody rollback': appraiseRollback(evidence, custody, input.knownHead),
    sequence: weakened(appraiseSequence(evidence, custody, input.previousSequence, nv.sequence), unbound),
    zeroize: weakened(
      appraiseZeroize(evidence, tpm.simulated, appraisers),
      unbound ?? doubts[custody.result],
    ),
    redaction: weakened(redaction, unbound),
  };
  const said = [manifest?.assurance, predicate?.assurance, enrolment?.assurance].filter(
    (assurance) => assurance !== undefined,
  );
  const report = conclude(
    input.archive === null ? withoutContent(results) : results,
    { bundle: summary(manifest), program: predicate?.program ?? null },
    [...(input.allowBypassed ? [] : bypasses(said)), ...unattested(predicate?.program, input.policy)],
  );
  const opened = input.archive !== null;
  return { report, facts: factsOf(evidence, report, { opened, bound, clock: tpm.clock, nv }) };
}

/**
 * What a bundle that was altered says is no word of its node, so there is nothing to compare. Of one that cannot be opened the
 * statement tells what the manifest would.
 */
function factsOf(
  { manifest, predicate, custody, archiveSha256 }: Evidence,
  { claims }: VerifyReport,
  known: Pick<BundleFacts, 'opened' | 'bound' | 'clock'> & { readonly nv: NvTestimony },
): BundleFacts | null {
  const altered = claims.some(
    ({ claim, result }) =>
      result === 'failed' && ['archive integrity', 'manifest', 'signature', 'quote'].includes(claim),
  );
  const { opened, bound, clock, nv } = known;
  const told = opened ? manifest : predicate;
  if (told === null || altered) return null;
  const { node, sequence, created } = told;
  const numberOf = (counter: NvTestimony['armed']): bigint | null =>
    counter?.problem === undefined ? (counter?.value ?? null) : null;
  return {
    archiveSha256,
    node,
    sequence,
    created,
    opened,
    bound,
    custody: custody?.ok ? custody : null,
    clock,
    counters: { sequence: numberOf(nv.sequence), armed: numberOf(nv.armed) },
  };
}

function bypasses(said: readonly Assurance[]): string[] {
  const bypassed = [
    ...(said.some(({ tpm }) => tpm === 'bypassed') ? ['the TPM'] : []),
    ...(said.some(({ sigstore }) => sigstore === 'bypassed') ? ['Sigstore'] : []),
  ];
  return bypassed.map(
    (what) => `This bundle was made with ${what} bypassed; accept that with --allow-bypassed.`,
  );
}

/** What the relying party's policy asks of a node's program, and the node did not find. */
function unattested(program: StatedProgram | undefined, { requiredOfProgram }: VerifyPolicy): string[] {
  return requiredOfProgram.flatMap((kind) => {
    const { result, detail, standIns } = program?.[kind] ?? {
      result: 'absent',
      detail: 'the statement tells nothing of it',
    };
    if (result === 'verified' && standIns !== true) return [];
    const name = kind === 'sbom' ? 'SBOM' : kind;
    const found = standIns === true ? `${result} against stand-ins alone` : result;
    return [`The policy asks for a verified ${name} of the node's program, and it is ${found}: ${detail}.`];
  });
}

function summary(manifest: Manifest | null): VerifyReport['bundle'] {
  if (manifest === null) return null;
  const { node, sequence, created, reason, assurance } = manifest;
  return { node, sequence, created, reason, assurance };
}

async function readEvidence<E extends Enrolment>(
  input: VerifyInput<E>,
  appraisers: Appraisers<E>,
): Promise<Evidence> {
  const { enrolment } = input;
  const { admits, ...archive } =
    input.archive === null
      ? await statedContent(input, appraisers)
      : { ...(await readContent(input, input.archive)), admits: [] };
  const manifest = readManifest(archive.members.get(manifestPath));
  const admitted = [manifest.manifest?.assurance, enrolment?.assurance, ...admits].flatMap(
    (assurance) => assurance ?? [],
  );
  const sigstore = await appraiseSigstore(
    input,
    appraisers,
    archive.archiveSha256,
    manifest.manifest,
    admitted,
  );
  const statement = statementSchema.safeParse(sigstore.statement).data;
  const all = [...admitted, ...(statement === undefined ? [] : [statement.predicate.assurance])];
  const log = archive.members.get(custodyPath)?.bytes;
  return {
    ...archive,
    ...manifest,
    sigstore,
    predicate: statement?.predicate ?? null,
    statedSha256: statement?.subject[0]?.digest.sha256 ?? null,
    custody: log === undefined ? null : checkChain(log),
    enrolment,
    standIns: [...new Set(all.flatMap(({ standIns }) => standIns))],
    tpm:
      (['bypassed', 'simulator'] as const).find((kind) => all.some(({ tpm }) => tpm === kind)) ?? 'hardware',
  };
}

/** The members and the digest of the archive; where it cannot be read, its digest and why. */
async function readContent(
  input: VerifyInput,
  archive: NonNullable<VerifyInput['archive']>,
): Promise<Pick<Evidence, 'archiveSha256' | 'archiveProblem' | 'members'>> {
  const open = (): AsyncIterable<Uint8Array> | Uint8Array[] =>
    archive instanceof Uint8Array ? [archive] : archive();
  const wanted = (path: string) => {
    if (path === manifestPath || /^(custody|evidence)\//.test(path)) return true;
    return input.caseKey !== undefined && isRecordsPath(path) ? 'where-it-fits' : false;
  };
  const hash = createHash('sha256');
  try {
    const content = await readArchive(hashed(open(), hash), input.policy.limits, wanted);
    if (content.members[0]?.path !== manifestPath) throw new Error('Its first member is not the manifest.');
    const members = new Map(content.members.map((member) => [member.path, member]));
    return { archiveSha256: hash.digest('hex'), members };
  } catch (error) {
    // An identity that is none is the relying party's own mistake.
    if (error instanceof Failure && error.status === exitStatus.usage) throw error;
    return { members: new Map(), ...(await digestAlone(open(), reasonOf(error))) };
  }
}

/** Of what is no archive; of what cannot be read to its end either, there is no digest. */
async function digestAlone(
  chunks: AsyncIterable<Uint8Array> | Uint8Array[],
  archiveProblem: string,
): Promise<Pick<Evidence, 'archiveSha256' | 'archiveProblem'>> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of chunks) hash.update(chunk);
    return { archiveSha256: hash.digest('hex'), archiveProblem };
  } catch (error) {
    return { archiveSha256: '', archiveProblem: reasonOf(error) };
  }
}

/** Of an archive that cannot be opened: the digest that the statement tells, to which signature and quote are then held. */
async function statedContent<E extends Enrolment>(
  input: VerifyInput<E>,
  appraisers: Appraisers<E>,
): Promise<Pick<Evidence, 'archiveSha256' | 'members'> & { readonly admits: readonly Assurance[] }> {
  const read = await appraiseSigstore(input, appraisers, '', null, []);
  const statement = statementSchema.safeParse(read.statement).data;
  return {
    archiveSha256: statement?.subject[0]?.digest.sha256 ?? '',
    members: new Map(),
    admits: statement === undefined ? [] : [statement.predicate.assurance],
  };
}

async function* hashed(
  chunks: AsyncIterable<Uint8Array> | Uint8Array[],
  hash: ReturnType<typeof createHash>,
) {
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
}

function readManifest(member: ArchiveMember | undefined) {
  if (member?.bytes === undefined)
    return { manifest: null, manifestProblem: 'There is no manifest to read.' };
  try {
    return { manifest: decodeManifest(member.bytes) };
  } catch (error) {
    return { manifest: null, manifestProblem: reasonOf(error) };
  }
}

async function appraiseSigstore<E extends Enrolment>(
  input: VerifyInput<E>,
  appraisers: Appraisers<E>,
  archiveSha256: string,
  manifest: Manifest | null,
  admitted: readonly Assurance[],
): Promise<SigstoreAppraisal> {
  const { enrolment } = input;
  if (input.sigstoreBundle === null || input.sigstoreBundle === undefined) {
    const unsigned = admitted.some(({ sigstore, tpm }) => sigstore === 'bypassed' || tpm === 'bypassed');
    return withoutStatement(
      unsigned || manifest === null
        ? notProven('The bundle is not signed.')
        : failed(
            'The signed statement (.sigstore.json) is missing, although the manifest says that there is one.',
          ),
      'There is no signed statement.',
    );
  }
  if (input.sigstoreBundle instanceof Error)
    return withoutStatement(failed(input.sigstoreBundle.message), 'The signed statement cannot be read.');
  try {
    return await appraisers.sigstore({
      bundle: input.sigstoreBundle,
      archiveSha256,
      trustedRoot: input.trustedRoot ?? null,
      publicKeyPem: enrolment?.tpm?.signingKey.publicKey ?? enrolment?.signingKey?.publicKey ?? null,
      identity: input.policy.identity,
      standIns: admitted.flatMap(({ standIns }) => standIns),
      admitted,
    });
  } catch (error) {
    if (error instanceof Failure && error.status === exitStatus.usage) throw error;
    return withoutStatement(failed(reasonOf(error)), 'The signed statement cannot be read.');
  }
}

function withoutStatement(signature: Appraisal, why: string): SigstoreAppraisal {
  const unread = notProven(why);
  return {
    statement: null,
    claims: { signature, 'signer identity': unread, transparency: unread, time: unread },
  };
}
