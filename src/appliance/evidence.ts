// The making of a forensic bundle: collect -> redact -> pack -> quote and sign -> hand to the courier. Works while the node runs,
// when it is zeroized, and with the TPM gone: what is missing is said in the manifest and never stops the bundle.
import { chmodSync, chownSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Severity } from '../alerts/alert.ts';
import { checkPacked } from '../custody/aside.ts';
import type { CustodyLog } from '../custody/log.ts';
import { type Collected, type Collector, collectInto } from '../forensics/collect.ts';
import { encryptedSuffix, requireRecipients } from '../forensics/encryption.ts';
import {
  archiveName,
  bundleFormat,
  bundleGivenUp,
  custodyPath,
  type Manifest,
  sigstoreName,
} from '../forensics/format.ts';
import { collectedPath } from '../forensics/member-file.ts';
import { packBundle } from '../forensics/pack.ts';
import type { Redactor } from '../forensics/redact.ts';
import type { Room } from '../forensics/room.ts';
import { removeAbandoned, WorkingDirectory } from '../forensics/working-directory.ts';
import { writeDurably } from '../host/durable.ts';
import { reasonOf } from '../host/failure.ts';
import { keepHeapSmall } from '../host/heap.ts';
import { findUser } from '../host/privileges.ts';
import { utcNow } from '../host/time.ts';
import { diskFull, isForFullDisk, requireTurn, roomFor, type Trigger } from './bundle-limits.ts';
import type { BundleSubject } from './bundle-members.ts';
import { beginBundle } from './bundle-number.ts';
import { membersOf, runOptions } from './bundle-plan.ts';
import { redactionRules, redactorFor } from './bundle-redactor.ts';
import { signBundle } from './bundle-signing.ts';
import { CaseKey } from './case-key.ts';
import type { Config } from './config.ts';
import { handOver, handOverLeftBehind } from './handover.ts';
import type { Anchored, NodeKeys } from './node-keys.ts';
import type { ProgramAppraisal } from './program.ts';
import { assuranceUnder, troubleWithTpm } from './unsigned-bundle.ts';

/** What the bundle is about, beside what every bundle holds. */
export interface BundleRequest {
  readonly reason: string;
  /** Default `hand`. */
  readonly trigger?: Trigger | undefined;
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  /** Instead of journal.units. */
  readonly units?: readonly string[] | undefined;
  /** A boot ID, or an offset from the current boot. */
  readonly boot?: string | undefined;
  /** At most this many entries, the newest. */
  readonly lines?: number | undefined;
  /** A journal directory or file to read instead of the configured one. */
  readonly journalPath?: string | undefined;
  /** Instead of journal.namespace. */
  readonly namespace?: string | undefined;
  readonly caseName?: string | undefined;
  readonly examiner?: string | undefined;
  /** A file, instead of forensics.case_key: whoever holds the case brings it and takes it away again. */
  readonly caseKey?: string | undefined;
  /** age recipients, instead of forensics.recipients. */
  readonly recipients?: readonly string[] | undefined;
  /** Instead of forensics.upload; empty for no upload. */
  readonly upload?: string | undefined;
  /** Of what it is about: the more urgent, the longer it is kept. Default `notice`. */
  readonly severity?: Severity | undefined;
}

export interface BundleMade {
  readonly archive: string;
  readonly sigstore: string;
  readonly sequence: number;
  /** Of the archive; of that in it, where it is encrypted. */
  readonly sha256: string;
  readonly bytes: number;
  /** To how many age recipients it is encrypted; 0: it is in clear. */
  readonly recipients: number;
  /** Where the courier will take it; null where it stays here. */
  readonly upload: string | null;
  /**
   * Why the TPM signed nothing, or knows another custody log; collectors that did not end well; bundles that were given up for it,
   * and delivered nowhere.
   */
  readonly problems: readonly string[];
}

/** What the caller has at hand of the node. */
export interface EvidenceContext extends BundleSubject {
  readonly custody: CustodyLog;
  /** Null where the TPM cannot be reached or is bypassed. */
  readonly keys: NodeKeys | null;
  /** Why there are none, where that is known. */
  readonly tpmTrouble?: unknown;
  /** Brings the custody head into the TPM; undefined where that cannot be. `whole`: every line of the log is read for it. */
  readonly anchor: (whole?: boolean) => Promise<Anchored | undefined>;
  /** What is attested of the program, as it was found at the start of a running node. */
  readonly program?: ProgramAppraisal | undefined;
  /** Members beside the journal, the log and the host: live state, certificates. */
  readonly collectors: readonly Collector[];
  readonly onProgress?: (step: string) => void;
}

/**
 * What only the making of a bundle would find wrong with the configuration, and must be found before one is needed.
 * @throws Failure `case-key-unreadable`, `case-key-invalid`, `recipient-invalid`; `config-missing`, `config-invalid` of the rules of
 *   redaction.
 */
export async function requireEvidenceSettings({ forensics }: Config): Promise<void> {
  redactionRules(forensics.redaction_rules);
  if (forensics.case_key !== '') new CaseKey(forensics.case_key, { allowSwappable: true })[Symbol.dispose]();
  if (forensics.recipients.length > 0) await requireRecipients(forensics.recipients);
}

/**
 * One at a time: the caller holds the state, and lets nobody else begin meanwhile.
 * @throws Failure `bundles-limited`, `case-key-unreadable`, `case-key-invalid`, `config-missing`, `config-invalid`, `namespace-missing`,
 *   `recipient-invalid`, `disk-full`, `canary-survived`, `pack-failed`.
 */
export async function makeBundle(context: EvidenceContext, request: BundleRequest): Promise<BundleMade> {
  keepHeapSmall();
  const { layout, record, config } = context;
  const { trigger = 'hand', severity = 'notice' } = request;
  const recipients = request.recipients ?? config.forensics.recipients;
  if (recipients.length > 0) await requireRecipients(recipients);
  await requireTurn(config, layout, trigger);
  const troubles: string[] = [];
  const tell = (trouble: string) => troubles.push(trouble);
  using caseKey = caseKeyOf(request.caseKey ?? config.forensics.case_key, trigger, tell);
  const redactor = await redactorFor(caseKey, config, request, tell);
  removeAbandoned(layout.bundles);
  await handOverLeftBehind(context).catch((error: unknown) =>
    troubles.push(`left behind: what is ready is handed on later: ${reasonOf(error)}`),
  );
  const room = roomFor(config, layout, trigger);
  const created = utcNow();
  const sequence = await beginBundle(context, { reason: request.reason, severity });
  using working = new WorkingDirectory(layout.bundles, sequence, recipients.length > 0);
  const name = archiveName(record.node, sequence, created);
  const archive = join(layout.bundles, recipients.length === 0 ? name : `${name}${encryptedSuffix}`);
  const begun = { created, sequence, working, name, archive, recipients, room, trigger, redactor };
  const made = await fillBundle(context, request, begun).catch((error: unknown) => {
    throw givenUp(context, begun, error);
  });
  const { sigstore, packed, signed } = made;
  const upload = request.upload ?? config.forensics.upload;
  const problems = [...troubles, ...made.problems];
  try {
    handOver(context, {
      archive,
      sigstore,
      sequence,
      sha256: packed.sha256,
      fileSha256: packed.fileSha256,
      signed: signed.by,
      challenge: signed.challenge,
      severity,
      recipients: recipients.length,
      upload,
      configured: request.upload === undefined,
    });
  } catch (error) {
    problems.push(`delivery: it is made, and is handed on later: ${reasonOf(error)}`);
  }
  return {
    archive,
    sigstore,
    sequence,
    sha256: packed.sha256,
    bytes: packed.size,
    recipients: recipients.length,
    upload: upload === '' ? null : upload,
    problems,
  };
}

interface BegunBundle {
  readonly created: string;
  readonly sequence: number;
  /** Where members are collected. */
  readonly working: WorkingDirectory;
  /** Of the archive before it is encrypted. */
  readonly name: string;
  readonly archive: string;
  readonly recipients: readonly string[];
  readonly room: Room;
  readonly trigger: Trigger;
  readonly redactor: Redactor;
}

async function fillBundle(context: EvidenceContext, request: BundleRequest, begun: BegunBundle) {
  const { record } = context;
  const { created, sequence, working, name, archive, recipients, room, trigger, redactor } = begun;
  const work = working.path;
  const progress = context.onProgress ?? (() => {});
  const anchored = await context.anchor();
  const members = membersOf(context, request);
  const collected = await collectInto(working, members, {
    ...runOptions(members, progress),
    redactor,
    room,
    clock: utcNow,
  });
  const trouble = await troubleWithTpm(context);
  const manifest: Manifest = {
    format: bundleFormat,
    node: record.node,
    sequence,
    created,
    reason: redactor.text(request.reason),
    trigger,
    assurance: assuranceUnder(record.assurance, trouble),
    ...inRedactedWords(collected, redactor),
    redaction: { keyId: redactor.keyId },
    ...(request.caseName === undefined ? {} : { case: redactor.text(request.caseName) }),
    ...(request.examiner === undefined ? {} : { examiner: request.examiner }),
  };
  progress('packing');
  const packed = await packBundle(work, manifest, archive, recipients);
  progress('signing');
  const log = await checkPacked(collectedPath(work, custodyPath), anchored?.last ?? undefined);
  const signed = await signBundle(context, manifest, packed, name, {
    custodyHead: { ...log.head },
    anchored,
  });
  // What lies in the bundle was read from the first line on. Where it is not what was anchored, that is looked at closely, and told.
  const custodyProblem = anchored?.problem ?? (log.ok ? undefined : (await context.anchor(true))?.problem);
  const sigstore = sigstoreName(archive);
  writeDurably(sigstore, `${JSON.stringify(signed.bundle)}\n`);
  shareWithCourier(context.config, archive, sigstore);
  const problems = [
    ...(trouble === undefined ? [] : [`TPM: ${trouble.why}`]),
    ...(custodyProblem === undefined ? [] : [`custody log: ${custodyProblem}`]),
    ...collected.collectors
      .filter(({ status }) => status === 'failed' || status === 'truncated')
      .map(({ name, detail }) => `${name}: ${detail}`),
  ];
  return { sigstore, packed, signed, problems };
}

/** What collectors say may quote what they have read, or the words of the request. */
const inRedactedWords = ({ files, collectors }: Collected, redactor: Redactor): Collected => ({
  files: files.map(({ source, error, ...file }) => ({
    ...file,
    source: redactor.text(source),
    ...(error === undefined ? {} : { error: redactor.text(error) }),
  })),
  collectors: collectors.map((one) => ({ ...one, detail: redactor.text(one.detail) })),
});

/** Clears away what is of no use to anyone, and returns what to say. */
function givenUp(
  context: EvidenceContext,
  { sequence, working, archive }: BegunBundle,
  error: unknown,
): unknown {
  for (const file of [archive, sigstoreName(archive)]) rmSync(file, { force: true });
  const isFull = isForFullDisk(error);
  if (!isFull) working.keep();
  const why = isFull ? diskFull(context.layout, error) : error;
  try {
    context.custody.append(bundleGivenUp, { sequence, why: reasonOf(why) });
  } catch {} // That disk is full as well; the next bundle's number tells that this one is missing.
  return why;
}

/** For the courier's group to read. Their directory is the node's alone, so the paths are what they were. */
function shareWithCourier(config: Config, ...files: string[]): void {
  if (config.courier.user === '' || process.geteuid?.() !== 0) return;
  const { gid } = findUser(config.courier.user);
  for (const file of files) {
    chownSync(file, 0, gid);
    chmodSync(file, 0o640);
  }
}

/**
 * The key of the case. Without one a fresh one is made and thrown away: pseudonyms still hold together within the bundle,
 * and nobody can guess what they stand for. So it is after a zeroize whose case key cannot be read: its evidence waits for nobody.
 */
function caseKeyOf(path: string, trigger: Trigger, tell: (trouble: string) => void): CaseKey {
  if (path === '') return CaseKey.fresh();
  try {
    return new CaseKey(path, { allowSwappable: true });
  } catch (error) {
    if (trigger !== 'zeroize') throw error;
    tell(`redaction: under a key that was thrown away. ${reasonOf(error)}`);
    return CaseKey.fresh();
  }
}
