// Appraisal of a node's evidence (RFC 9334, section 9): documents and what the verifier holds in, a verdict on each claim out. Pure:
// no TPM, no files, no clock of its own. Nothing is believed because the node says it; bad evidence fails and never throws.
import { appraiseCertification, appraiseQuote, type PcrValues, type QuoteAppraisal } from './appraisal.ts';
import { type ClockReading, compareClock } from './clock.ts';
import type { AttestEvidence, AttestRequest } from './documents.ts';
import { type EnrolmentRecord, signingKeyQualifyingData } from './enrolment.ts';
import { checkEnrolment, checkRecordKeys, type EnrolmentTrust } from './enrolment-appraisal.ts';
import { parseEventLog } from './eventlog.ts';
import { appraiseEventLogBanks } from './eventlog-appraisal.ts';
import { findingsOf, type LogFindings } from './eventlog-findings.ts';
import { type Appraisal, attempt, conclude, failed, notProven, proven, weakened } from './verdict.ts';

/** In the order in which they are reported. Before a node is enrolled there is nothing to hold `node` and `clock` against. */
const claimNames = [
  'freshness',
  'quote',
  'node',
  'TPM identity',
  'signing key',
  'PCR policy',
  'event log',
  'clock',
] as const;
export type AttestClaimName = (typeof claimNames)[number];

export interface AttestInput {
  readonly evidence: AttestEvidence;
  /** `quotedDigest` of the statement as it came. */
  readonly digest: Uint8Array;
  /** The verifier's own, which the evidence must answer. */
  readonly request: AttestRequest;
  readonly at: Date;
  /** Seconds after which a request has no fresh answer. */
  readonly maxAge: number;
}

/** What the verifier knows of an enrolled node. */
export interface Known {
  /** Null where the verifier has none. */
  readonly record: EnrolmentRecord | null;
  readonly trust: EnrolmentTrust;
  /** The clock of an earlier quote, where the verifier has kept one later than the record. */
  readonly lastSeen?: EarlierClock;
}

export type EarlierClock = Pick<ClockReading, 'resetCount' | 'restartCount'> & { readonly clock?: string };

/** `checks`: the single steps, where there are some. */
export interface AttestClaim extends Appraisal {
  readonly claim: AttestClaimName;
  readonly checks?: Readonly<Record<string, Appraisal>>;
}

/** The JSON document of `attest appraise --json` (docs/cli.md). */
export interface AttestReport {
  readonly verdict: 'proven' | 'incomplete' | 'rejected';
  /** As it calls itself. */
  readonly node: string;
  readonly claims: readonly AttestClaim[];
  /** What a replay cannot show (docs/attestation.md); null without a log that can be read. */
  readonly eventLog: LogFindings | null;
  /** As quoted; to be believed as far as the claims carry it. */
  readonly clock: (Omit<ClockReading, 'clock'> & { readonly clock: string }) | null;
  readonly pcrs: AttestEvidence['quote']['pcrs'];
}

const unvouched = 'But no maker vouches for the TPM: whoever runs a simulator can make it say anything.';

/** Of a node that the verifier has enrolled, or of one that it has not: then nothing of it is proven. */
export function appraiseEvidence(input: AttestInput, known: Known): AttestReport {
  const { statement, quote } = input.evidence;
  const identity = appraiseIdentity(input.evidence, known);
  return report(input, identity, (clock) => ({
    node: appraiseNode(statement.enrolment, known.record),
    'PCR policy': appraisePcrPolicy(quote.pcrs.sha256, known.record),
    clock: appraiseClock(clock, known),
  }));
}

/** Of a node that is being enrolled. `identity`: what came of its endorsement key and, at the end, of the challenge. */
export function appraiseNewcomer(input: AttestInput, identity: Appraisal): AttestReport {
  const { statement, quote } = input.evidence;
  return report(input, identity, () => ({
    'PCR policy': appraiseFirstPcrs(quote.pcrs.sha256, statement.enrolment),
  }));
}

function report(
  input: AttestInput,
  identity: Appraisal,
  more: (clock: QuoteAppraisal['clock']) => Partial<Record<AttestClaimName, Appraisal>>,
): AttestReport {
  const { evidence } = input;
  const { statement } = evidence;
  const quote = appraiseStatementQuote(input);
  const doubt = identity.result === 'proven' ? undefined : unvouched;
  const upon = (appraisal: Appraisal): Appraisal =>
    quote.result === 'proven'
      ? weakened(appraisal, doubt)
      : notProven('The quote that would show it is not proven.');
  const { node, ...others } = more(quote.clock);
  const results: Partial<Record<AttestClaimName, Appraisal>> = {
    ...Object.fromEntries(Object.entries(others).map(([claim, appraisal]) => [claim, upon(appraisal)])),
    ...(node === undefined ? {} : { node }),
    freshness: upon(appraiseFreshness(input)),
    quote: weakened(quote, doubt),
    'TPM identity': identity,
    'signing key': upon(appraiseSigningKey(statement.enrolment)),
    'event log': upon(appraiseLog(evidence)),
  };
  const claims = claimNames.flatMap((claim) => {
    const appraisal = results[claim];
    return appraisal === undefined ? [] : [claimOf(claim, appraisal)];
  });
  return {
    verdict: verdictOf(claims),
    node: statement.enrolment.node,
    claims,
    eventLog: eventLogFindings(statement.eventLog),
    clock: quote.clock === null ? null : { ...quote.clock, clock: String(quote.clock.clock) },
    pcrs: evidence.quote.pcrs,
  };
}

const claimOf = (claim: AttestClaimName, appraisal: Appraisal & Partial<AttestClaim>): AttestClaim => ({
  claim,
  result: appraisal.result,
  detail: appraisal.detail,
  ...(appraisal.checks === undefined ? {} : { checks: appraisal.checks }),
});

function verdictOf(claims: readonly AttestClaim[]): AttestReport['verdict'] {
  if (claims.some(({ result }) => result === 'failed')) return 'rejected';
  return claims.every(({ result }) => result === 'proven') ? 'proven' : 'incomplete';
}

/** By the key in the statement, over the statement: whether that key is the node's is the claim `node`. */
function appraiseStatementQuote({ evidence, digest, request }: AttestInput): QuoteAppraisal {
  const { sha256, ...otherBanks } = evidence.quote.pcrs;
  const { tpm } = evidence.statement.enrolment;
  if (tpm === null) return { ...conclude({ TPM: noTpm }, ''), clock: null };
  return appraiseQuote({
    attest: bytes(evidence.quote.attest),
    signature: bytes(evidence.quote.signature),
    akPublic: bytes(tpm.ak.public),
    expectedQualifyingData: digest,
    pcrValues: sha256,
    otherBanks,
    requiredPcrs: request.pcrs,
  });
}

const noTpm = failed('The evidence is of a node without a TPM.');

function appraiseFreshness({ evidence, request, at, maxAge }: AttestInput): Appraisal {
  if (evidence.statement.nonce !== request.nonce) {
    return failed(
      'The evidence answers another request than this one: its nonce is not that of the request.',
    );
  }
  const age = (at.getTime() - new Date(request.created).getTime()) / 1000;
  if (age < 0) return failed('The request is from the future: the verifier’s clock was set back.');
  return age <= maxAge
    ? proven(`The evidence was made within the ${Math.ceil(age)} seconds since it was asked for.`)
    : failed(
        `The request is ${Math.floor(age)} seconds old, more than ${maxAge}: the node may have changed since.`,
      );
}

/** The evidence is of the node that the record is of: its keys are the same, whatever it calls itself. */
function appraiseNode(stated: EnrolmentRecord, record: EnrolmentRecord | null): Appraisal {
  const own = checkRecordKeys(stated);
  if (own.result === 'failed') return own;
  if (record === null) return notProven('The node is not enrolled: no record of it was given.');
  if (record.tpm === null) return failed('The node was enrolled without a TPM.');
  if (stated.tpm?.ak.public !== record.tpm.ak.public) {
    return failed(`The attestation key is not that of ${record.node} as it was enrolled.`);
  }
  if (stated.tpm.signingKey.public !== record.tpm.signingKey.public) {
    return failed(`The signing key is not that of ${record.node} as it was enrolled: enrol the node anew.`);
  }
  return stated.node === record.node
    ? proven(`The attestation key and the signing key are those of ${record.node} as it was enrolled.`)
    : failed(`The node calls itself ${stated.node}; it was enrolled as ${record.node}.`);
}

function appraiseIdentity({ statement }: AttestEvidence, { record, trust }: Known): Appraisal {
  if (record === null)
    return notProven('The node is not enrolled: nobody has tied its attestation key to a TPM.');
  return weakened(
    checkEnrolment(record, trust),
    statement.simulator ? 'But the TPM now says that it is a simulator.' : undefined,
  );
}

function appraiseSigningKey(stated: EnrolmentRecord): Appraisal {
  const { tpm } = stated;
  if (tpm === null) return noTpm;
  const keys = checkRecordKeys(stated);
  if (keys.result === 'failed') return keys;
  return appraiseCertification({
    attest: bytes(tpm.signingKey.certification.attest),
    signature: bytes(tpm.signingKey.certification.signature),
    akPublic: bytes(tpm.ak.public),
    certifiedPublic: bytes(tpm.signingKey.public),
    expectedQualifyingData: signingKeyQualifyingData,
  });
}

function appraisePcrPolicy(quoted: PcrValues, record: EnrolmentRecord | null): Appraisal {
  if (record === null) return notProven('There are no enrolled PCR values to compare with.');
  const { tpm } = record;
  if (tpm === null) return failed('The node was enrolled without a TPM.');
  const unusable = unusablePcrs(quoted, tpm);
  if (unusable !== undefined) return unusable;
  const cap = String(tpm.capPcr);
  const firmware = Object.entries(tpm.pcrPolicy.pcrs).filter(([pcr]) => pcr !== cap);
  const changed = firmware.filter(([pcr, value]) => quoted[pcr]?.toLowerCase() !== value);
  const numbers = (entries: typeof firmware): string => entries.map(([pcr]) => pcr).join(', ');
  return changed.length > 0
    ? failed(
        `PCR ${numbers(changed)} ${changed.length > 1 ? 'are not as they were' : 'is not as it was'} when the node was enrolled.`,
      )
    : proven(`PCR ${numbers(firmware)} as enrolled, PCR ${cap} not capped.`);
}

/** There are no enrolled values yet, and these become them: so they must be of a machine that was measured and is not locked. */
function appraiseFirstPcrs(quoted: PcrValues, { tpm }: EnrolmentRecord): Appraisal {
  if (tpm === null) return noTpm;
  const unusable = unusablePcrs(quoted, tpm);
  if (unusable !== undefined) return unusable;
  const cap = String(tpm.capPcr);
  const firmware = Object.keys(tpm.pcrPolicy.pcrs).filter((pcr) => pcr !== cap);
  const blank = firmware.filter((pcr) => /^(?:0+|f+)$/i.test(quoted[pcr] ?? ''));
  return blank.length > 0
    ? notProven(`PCR ${blank.join(', ')} has never been extended: nothing measured this machine’s boot.`)
    : proven(`PCR ${firmware.join(', ')} as quoted becomes the reference; PCR ${cap} is not capped.`);
}

function unusablePcrs(
  quoted: PcrValues,
  { capPcr, pcrPolicy }: NonNullable<EnrolmentRecord['tpm']>,
): Appraisal | undefined {
  const absent = Object.keys(pcrPolicy.pcrs).filter((pcr) => quoted[pcr] === undefined);
  if (absent.length > 0)
    return failed(`The quote leaves out PCR ${absent.join(', ')}: ask for them with --pcrs.`);
  const uncapped = pcrPolicy.pcrs[capPcr];
  if (uncapped === undefined || quoted[capPcr]?.toLowerCase() === uncapped) return undefined;
  return failed(`PCR ${capPcr} is capped: the node was locked and its TPM has not been reset since.`);
}

function appraiseLog({ statement, quote }: AttestEvidence): Appraisal & Partial<AttestClaim> {
  if (statement.eventLog === null) return notProven('The node has no firmware event log.');
  const { result, detail, banks } = appraiseEventLogBanks(bytes(statement.eventLog), { ...quote.pcrs });
  const synthetic = statement.enrolment.assurance.standIns.includes('synthetic event log')
    ? 'But the event log is synthetic: no firmware measured it.'
    : undefined;
  return { ...weakened({ result, detail }, synthetic), checks: banks };
}

function eventLogFindings(log: string | null): LogFindings | null {
  const parsed = log === null ? undefined : attempt(() => parseEventLog(bytes(log))).value;
  return parsed === undefined ? null : findingsOf(parsed);
}

/** Against the latest that the verifier knows. */
function appraiseClock(current: QuoteAppraisal['clock'], { record, lastSeen }: Known): Appraisal {
  if (current === null) return notProven('The quote tells no clock.');
  const tpm = record?.tpm ?? null;
  if (lastSeen !== undefined) return compareClock(lastSeen, current);
  if (tpm === null) return compareClock(null, current);
  const { resetCount, restartCount, clock } = tpm;
  return compareClock({ resetCount, restartCount, ...(clock === undefined ? {} : { clock }) }, current);
}

const bytes = (base64: string): Uint8Array => Buffer.from(base64, 'base64');
