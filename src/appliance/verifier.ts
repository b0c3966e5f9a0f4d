// The verifier's side of attestation (RFC 9334): asks, appraises what comes, and enrols. It needs no TPM and no node of its own; what
// it knows are the files that it is given. The judging itself is pure and lies in src/attestation.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { fingerprintOf, requireP256 } from '../attestation/activation.ts';
import { admit, appraiseAnswer, appraiseNewIdentity, challengeFor } from '../attestation/admission.ts';
import {
  type AttestChallenge,
  type AttestRequest,
  parseAnswer,
  parseEvidence,
} from '../attestation/documents.ts';
import { keyOfKind } from '../attestation/endorsement.ts';
import { type EnrolmentRecord, parseEnrolment } from '../attestation/enrolment.ts';
import type { EnrolmentTrust } from '../attestation/enrolment-appraisal.ts';
import {
  type AttestInput,
  type AttestReport,
  appraiseEvidence,
  appraiseNewcomer,
  type EarlierClock,
} from '../attestation/evidence-appraisal.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import { publicKeyPem } from '../tpm/structures.ts';
import { endSession, type Session } from './verifier-session.ts';

/** What of the verifier's own goes into every appraisal. */
export interface VerifierContext {
  readonly trust: EnrolmentTrust;
  readonly at: Date;
  /** Seconds. */
  readonly maxAge: number;
  /** Accept what is not proven, as long as nothing fails. */
  readonly allowBypassed: boolean;
}

export interface Judgement {
  readonly report: AttestReport;
  /** Exit status 0. */
  readonly accepted: boolean;
}

const judge = (report: AttestReport, { allowBypassed }: VerifierContext): Judgement => ({
  report,
  accepted: report.verdict === 'proven' || (report.verdict === 'incomplete' && allowBypassed),
});

const inputOf = (text: string, request: AttestRequest, { at, maxAge }: VerifierContext): AttestInput => ({
  ...parseEvidence(text),
  request,
  at,
  maxAge,
});

/**
 * Appraises evidence of a node. What was seen is kept in `lastSeen`, so that the next evidence can only be later.
 * @throws Failure `attest-evidence-invalid` (status 3), `last-seen-invalid`, `last-seen-foreign` (2).
 */
export function appraiseNode(
  context: VerifierContext,
  request: AttestRequest,
  evidence: string,
  known: { readonly record: EnrolmentRecord | null; readonly lastSeen?: string | undefined },
): Judgement {
  const input = inputOf(evidence, request, context);
  const ak = (known.record ?? input.evidence.statement.enrolment).tpm?.ak.name ?? '';
  const earlier = known.lastSeen === undefined ? undefined : readLastSeen(known.lastSeen, ak);
  const report = appraiseEvidence(input, {
    record: known.record,
    trust: context.trust,
    ...(earlier === undefined ? {} : { lastSeen: earlier }),
  });
  const judgement = judge(report, context);
  if (known.lastSeen !== undefined && judgement.accepted)
    keepLastSeen(known.lastSeen, ak, report, context.at);
  return judgement;
}

/**
 * The verifier's challenge to a newcomer whose evidence holds so far; null where it does not.
 * @throws Failure `attest-evidence-invalid` (status 3).
 */
export function challengeNewcomer(
  context: VerifierContext,
  session: Session,
  evidence: string,
): Judgement & { readonly challenge: AttestChallenge | null; readonly session: Session } {
  const input = inputOf(evidence, session.request, context);
  const pins = { pinned: context.trust.pinned, at: context.at };
  const report = appraiseNewcomer(input, appraiseNewIdentity(input.evidence, pins));
  if (report.verdict === 'rejected' || input.evidence.statement.enrolment.endorsement === undefined) {
    return { report, accepted: false, challenge: null, session };
  }
  const { challenge, expected } = challengeFor(input.evidence, pins);
  return { report, accepted: true, challenge, session: { ...session, evidence, expected } };
}

export interface Enrolment extends Judgement {
  /** As it was written; null where nobody was enrolled. */
  readonly record: EnrolmentRecord | null;
  /** The key that activated: which machine it is in is for the operator to know. `sha256`: of its SubjectPublicKeyInfo, hex. */
  readonly endorsementKey: { readonly kind: 'rsa' | 'ecc'; readonly sha256: string } | null;
}

/** As whom the verifier enrols, and where the record goes. */
export interface EnrolOptions {
  readonly by: string;
  readonly output: string;
  readonly verifierKey: KeyObject;
  /** Taken away when the record is written. */
  readonly session?: string | undefined;
}

/**
 * Judges the answer to the challenge and, where all holds, writes the record.
 * @throws Failure `session-unanswered` without a challenge; `enrolled-otherwise` where another node's record is in the way.
 */
export function enrolNewcomer(
  context: VerifierContext,
  session: Session,
  answer: string,
  options: EnrolOptions,
): Enrolment {
  const { evidence, expected, request } = session;
  if (evidence === undefined || expected === undefined) throw unanswered();
  const input = inputOf(evidence, request, context);
  const activation = appraiseAnswer(input.evidence, parseAnswer(answer), expected);
  const admission = appraiseNewIdentity(
    input.evidence,
    { pinned: context.trust.pinned, at: context.at },
    { kind: expected.kind, activation },
  );
  const judgement = judge(appraiseNewcomer(input, admission), context);
  const { clock } = judgement.report;
  if (!judgement.accepted || clock === null)
    return { ...judgement, accepted: false, record: null, endorsementKey: null };
  const word = { by: options.by, at: context.at.toISOString(), kind: expected.kind };
  const record = admit(input.evidence, admission, word, clock, options.verifierKey);
  requireSameNode(options.output, record);
  writeDurably(options.output, `${JSON.stringify(record, null, 2)}\n`, 0o644);
  if (options.session !== undefined) endSession(options.session);
  const key = record.endorsement && keyOfKind(record.endorsement, expected.kind);
  const sha256 = key && fingerprintOf(publicKeyPem(Buffer.from(key.public, 'base64')));
  return {
    ...judgement,
    record,
    endorsementKey: sha256 === undefined ? null : { kind: expected.kind, sha256 },
  };
}

const unanswered = (): Failure =>
  new Failure('session-unanswered', 'This session has not challenged anybody yet.', {
    remedy:
      'Make the challenge with `esoteric-appliance attest challenge --session FILE EVIDENCE`, and have the node answer it.',
    status: exitStatus.usage,
  });

/** A record is replaced by one of the same TPM only: the other way an exchanged node would pass for the enrolled one. */
function requireSameNode(path: string, record: EnrolmentRecord): void {
  const present = readIfPresent(path);
  if (present === undefined) return;
  const former = parseRecord(present, path);
  if (former.tpm?.ak.name === record.tpm?.ak.name) return;
  throw new Failure(
    'enrolled-otherwise',
    `${path} is the record of another attestation key: that of ${former.node}.`,
    {
      kept: 'It was left as it is, and nobody was enrolled.',
      remedy:
        'If the node really has got another TPM, move the old record away; else find out who answers in its place.',
    },
  );
}

/** @throws Failure `enrolment-invalid`, status 2: it is the verifier's own. */
export function parseRecord(text: string, path: string): EnrolmentRecord {
  try {
    return parseEnrolment(text);
  } catch (error) {
    const { message, remedy = '' } = error as Failure;
    throw new Failure('enrolment-invalid', `${path}: ${message}`, { remedy, status: exitStatus.usage });
  }
}

/**
 * The key with which this verifier signs the records that it writes; made where there is none. Its public half lies beside it, as
 * `PATH.pub`, for `--enrolled-by`.
 * @throws Failure `verifier-key-unsuitable`.
 */
export function verifierKey(path: string): {
  readonly key: KeyObject;
  readonly made: boolean;
  readonly publicPath: string;
} {
  const publicPath = `${path}.pub`;
  const present = readIfPresent(path);
  const key = present === undefined ? makeKey(path) : readKey(present, path);
  if (readIfPresent(publicPath) === undefined) {
    writeDurably(publicPath, createPublicKey(key).export({ type: 'spki', format: 'pem' }), 0o644);
  }
  return { key, made: present === undefined, publicPath };
}

function makeKey(path: string): KeyObject {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeDurably(path, privateKey.export({ type: 'pkcs8', format: 'pem' }), 0o600);
  return privateKey;
}

function readKey(pem: string, path: string): KeyObject {
  try {
    const key = createPrivateKey(pem);
    requireP256(key);
    return key;
  } catch (error) {
    throw new Failure('verifier-key-unsuitable', `${path} cannot be used: ${reasonOf(error)}`, {
      remedy:
        'Name a file that does not exist yet, and a key is made; or one with an unencrypted P-256 key in PEM.',
      status: exitStatus.usage,
    });
  }
}

const lastSeenSchema = z.object({
  format: z.literal('esoteric-appliance-attest-seen/1'),
  /** Name of the attestation key, hex. */
  ak: z.string(),
  clock: z.string().regex(/^\d{1,20}$/),
  resetCount: z.int().nonnegative(),
  restartCount: z.int().nonnegative(),
  at: z.string(),
});

function readLastSeen(path: string, ak: string): EarlierClock | undefined {
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  const fail = (code: string, why: string): Failure =>
    new Failure(code, `${path} ${why}.`, {
      remedy: 'Name a file of this node’s own; where there is none, it is made.',
      status: exitStatus.usage,
    });
  let seen: z.infer<typeof lastSeenSchema>;
  try {
    seen = lastSeenSchema.parse(JSON.parse(text));
  } catch {
    throw fail('last-seen-invalid', 'does not tell what was last seen of a node');
  }
  if (seen.ak !== ak) throw fail('last-seen-foreign', 'is of another attestation key');
  const { clock, resetCount, restartCount } = seen;
  return { clock, resetCount, restartCount };
}

/** A clock that the TPM itself doubts is not kept: it may be told again. */
function keepLastSeen(path: string, ak: string, { clock }: AttestReport, at: Date): void {
  if (clock === null || !clock.safe) return;
  const { safe: _safe, ...reading } = clock;
  const seen: z.infer<typeof lastSeenSchema> = {
    format: 'esoteric-appliance-attest-seen/1',
    ak,
    ...reading,
    at: at.toISOString(),
  };
  writeDurably(path, `${JSON.stringify(seen, null, 2)}\n`, 0o600);
}
