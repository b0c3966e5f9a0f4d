// The making of a forensic bundle: collect -> redact -> pack -> quote and sign -> hand to the courier. Works while the node runs,
// when it is zeroized, and with the TPM gone: what is missing is said in the manifest and never stops the bundle.
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, readFileSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Severity } from '../alerts/alert.ts';
import { dropJob } from '../alerts/spool.ts';
import { fulcioChallenge, preAuthEncoding } from '../attestation/dsse.ts';
import { bareBundle } from '../attestation/sigstore-bundle.ts';
import { type BundlePredicate, makeStatement, statementPayloadType } from '../attestation/statement.ts';
import { unsignedBundle } from '../attestation/unsigned.ts';
import { checkChain } from '../custody/chain.ts';
import type { CustodyLog } from '../custody/log.ts';
import { type Collector, collectInto } from '../forensics/collect.ts';
import { encryptedSuffix, requireRecipients } from '../forensics/encryption.ts';
import {
  archiveName,
  bundleBegun,
  bundleFormat,
  bundleGivenUp,
  bundleMade,
  custodyPath,
  type Manifest,
  numbersSkipped,
  sigstoreName,
} from '../forensics/format.ts';
import { packBundle } from '../forensics/pack.ts';
import { caseKeyBytes } from '../forensics/pseudonym.ts';
import { Redactor } from '../forensics/redact.ts';
import { readRedactionRules } from '../forensics/redaction-policy.ts';
import type { Room } from '../forensics/room.ts';
import { removeAbandoned, WorkingDirectory } from '../forensics/working-directory.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { reasonOf } from '../host/failure.ts';
import { keepHeapSmall } from '../host/heap.ts';
import { findUser } from '../host/privileges.ts';
import { utcNow } from '../host/time.ts';
import { parseAttest, publicKeyPem } from '../tpm/structures.ts';
import { diskFull, isForFullDisk, requireTurn, roomFor, type Trigger } from './bundle-limits.ts';
import { type BundleSubject, eventLogPath } from './bundle-members.ts';
import { membersOf, runOptions } from './bundle-plan.ts';
import type { Config } from './config.ts';
import { type Anchored, type NodeKeys, signedText } from './node-keys.ts';
import { policyPath } from './policies.ts';
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
  /** Why the TPM signed nothing, and collectors that did not end well. */
  readonly problems: readonly string[];
}

/** What the caller has at hand of the node. */
export interface EvidenceContext extends BundleSubject {
  readonly custody: CustodyLog;
  /** Null where the TPM cannot be reached or is bypassed. */
  readonly keys: NodeKeys | null;
  /** Why there are none, where that is known. */
  readonly tpmTrouble?: unknown;
  /** Brings the custody head into the TPM; undefined where that cannot be. */
  readonly anchor: () => Promise<Anchored | undefined>;
  /** Members beside the journal, the log and the host: live state, certificates. */
  readonly collectors: readonly Collector[];
  readonly onProgress?: (step: string) => void;
}

/**
 * One at a time: the caller holds the state, and lets nobody else begin meanwhile.
 * @throws Failure `bundles-limited`, `disk-full`, `canary-survived`, `pack-failed`.
 */
export async function makeBundle(context: EvidenceContext, request: BundleRequest): Promise<BundleMade> {
  keepHeapSmall();
  const { layout, custody, record, config } = context;
  const trigger = request.trigger ?? 'hand';
  const recipients = request.recipients ?? config.forensics.recipients;
  if (recipients.length > 0) await requireRecipients(recipients);
  requireTurn(config, layout, trigger);
  removeAbandoned(layout.bundles);
  const room = roomFor(config, layout, trigger);
  const created = utcNow();
  const sequence = await nextSequence(context);
  using working = new WorkingDirectory(layout.bundles, sequence, recipients.length > 0);
  const name = archiveName(record.node, sequence, created);
  const archive = join(layout.bundles, recipients.length === 0 ? name : `${name}${encryptedSuffix}`);
  const begun: BegunBundle = { created, sequence, working, name, archive, recipients, room, trigger };
  const made = await fillBundle(context, request, begun).catch((error: unknown) => {
    throw givenUp(context, begun, error);
  });
  const { sigstore, packed, signed, problems } = made;
  custody.append(bundleMade, {
    sequence,
    sha256: packed.sha256,
    signed: signed.by,
    severity: request.severity ?? 'notice',
    ...(recipients.length === 0 ? {} : { recipients: recipients.length }),
  });
  const upload = request.upload ?? context.config.forensics.upload;
  if (upload !== '' || signed.by === 'tpm') {
    const job: BundleJob = { archive, sigstore, upload, proofOfPossession: signed.challenge };
    const key = `${record.node}-bundle-${String(sequence).padStart(6, '0')}`;
    dropJob(layout.spool, { kind: 'bundle', key, payload: { ...job } });
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
}

async function fillBundle(context: EvidenceContext, request: BundleRequest, begun: BegunBundle) {
  const { custody, record } = context;
  const { created, sequence, working, name, archive, recipients, room, trigger } = begun;
  const work = working.path;
  const progress = context.onProgress ?? (() => {});
  custody.append(bundleBegun, { sequence, reason: request.reason });
  const anchored = await context.anchor();
  const redactor = redactorOf(context.config);
  const members = membersOf(context, request);
  const collected = await collectInto(work, members, {
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
    reason: request.reason,
    trigger,
    assurance: assuranceUnder(record.assurance, trouble),
    files: collected.files,
    collectors: collected.collectors,
    redaction: { keyId: redactor.keyId },
    ...(request.caseName === undefined ? {} : { case: request.caseName }),
    ...(request.examiner === undefined ? {} : { examiner: request.examiner }),
  };
  progress('packing');
  const packed = await packBundle(work, manifest, archive, recipients);
  progress('signing');
  const { head } = checkChain(readFileSync(join(work, custodyPath)));
  const signed = await sign(context, manifest, packed, name, {
    custodyHead: { ...head },
    anchored,
  });
  const sigstore = sigstoreName(archive);
  writeDurably(sigstore, `${JSON.stringify(signed.bundle)}\n`);
  shareWithCourier(context.config, archive, sigstore);
  const problems = [
    ...(trouble === undefined ? [] : [`TPM: ${trouble.why}`]),
    ...collected.collectors
      .filter(({ status }) => status === 'failed' || status === 'truncated')
      .map(({ name, detail }) => `${name}: ${detail}`),
  ];
  return { sigstore, packed, signed, problems };
}

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

/** The job of the courier: countersign, upload, read back. Paths, and nothing secret. */
export interface BundleJob {
  readonly archive: string;
  readonly sigstore: string;
  /** Empty: countersign only. */
  readonly upload: string;
  readonly proofOfPossession: Signed['challenge'];
}

/** The next bundle's number: the TPM's counter, or a file where there is no TPM or it does not answer. */
async function nextSequence(context: EvidenceContext): Promise<number> {
  const { keys, layout, custody } = context;
  const path = join(layout.directory, 'sequence');
  const last = Number(readIfPresent(path) ?? 0);
  let next = last + 1;
  if (keys !== null) {
    try {
      next = Math.max(next, await keys.nextSequence());
    } catch (error) {
      custody.append('sequence-uncounted', { sequence: next, why: reasonOf(error) });
    }
  }
  // Counted by the TPM, and then a kill came before anything was begun. The counter of a new TPM may begin anywhere.
  if (last > 0 && next > last + 1) custody.append(numbersSkipped, { from: last + 1, to: next - 1 });
  writeDurably(path, `${next}\n`);
  return next;
}

/**
 * The redactor under the case key. Without a configured key a fresh one is made and thrown away: pseudonyms still hold
 * together within the bundle, and nobody can guess what they stand for.
 */
function redactorOf(config: Config): Redactor {
  const path = config.forensics.case_key;
  const key = path === '' ? randomBytes(caseKeyBytes) : readFileSync(path);
  return new Redactor({ rules: readRedactionRules(policyPath('redaction.toml')), hosts: ownNames(), key });
}

/** The names of this machine, whole and up to the first dot. `localhost` tells nothing of anyone. */
function ownNames(): string[] {
  const whole = hostname();
  const names = new Set([whole, whole.replace(/\..*/, '')]);
  return [...names].filter((name) => name !== '' && name !== 'localhost');
}

interface Signed {
  readonly bundle: unknown;
  readonly by: 'tpm' | 'nobody';
  /** Proof of possession for Fulcio, made beforehand so that the courier needs no signing oracle. */
  readonly challenge: { readonly subject: string; readonly signature: string } | null;
}

async function sign(
  context: EvidenceContext,
  manifest: Manifest,
  packed: { readonly sha256: string; readonly manifestSha256: string },
  name: string,
  custodyState: {
    readonly custodyHead: BundlePredicate['custodyHead'];
    readonly anchored: Anchored | undefined;
  },
): Promise<Signed> {
  const { record, keys, custody, config } = context;
  const quoted = keys === null ? null : await keys.quote(Buffer.from(packed.sha256, 'hex')).catch(() => null);
  const attest = quoted === null ? null : parseAttest(quoted.attest);
  const counters = await keys?.certifyCounters(Buffer.from(packed.sha256, 'hex')).catch(() => undefined);
  const certified = custodyState.anchored?.certification;
  const log = manifest.files.find(({ path }) => path === eventLogPath);
  const predicate: BundlePredicate = {
    node: record.node,
    sequence: manifest.sequence,
    created: manifest.created,
    reason: manifest.reason,
    assurance: manifest.assurance,
    manifestDigest: { sha256: packed.manifestSha256 },
    quote:
      quoted === null
        ? null
        : {
            ...signedText(quoted),
            pcrs: { bank: 'sha256', values: quoted.pcrs },
          },
    eventLog: log === undefined || log.error !== undefined ? null : { path: log.path, sha256: log.sha256 },
    clock:
      attest === null
        ? null
        : {
            clock: attest.clock.toString(),
            resetCount: attest.resetCount,
            restartCount: attest.restartCount,
            safe: attest.safe,
          },
    signingKeyCertification: record.tpm === null ? null : record.tpm.signingKey.certification,
    nv:
      counters === undefined || certified == null
        ? null
        : {
            sequence: signedText(counters.sequence),
            armed: signedText(counters.armed),
            custody: signedText(certified),
          },
    custodyHead: custodyState.custodyHead,
  };
  const statement = makeStatement({ archiveName: name, archiveSha256: packed.sha256, predicate });
  if (keys === null || record.tpm === null) {
    return { bundle: unsignedBundle(statement), by: 'nobody', challenge: null };
  }
  try {
    const signature = await keys.sign(preAuthEncoding(statementPayloadType, statement));
    const publicKeyPemText = publicKeyPem(Buffer.from(record.tpm.signingKey.public, 'base64'));
    const { identity, fulcio } = config.sigstore;
    const wanted = fulcio !== '' && identity !== '' && config.sigstore.mode === 'on';
    return {
      bundle: bareBundle({ statement, signatureDer: signature, publicKeyPem: publicKeyPemText }),
      by: 'tpm',
      challenge: wanted
        ? {
            subject: identity,
            signature: Buffer.from(await keys.sign(fulcioChallenge(identity))).toString('base64'),
          }
        : null,
    };
  } catch (error) {
    custody.append('bundle-unsigned', { sequence: manifest.sequence, why: reasonOf(error) });
    return { bundle: unsignedBundle(statement), by: 'nobody', challenge: null };
  }
}
