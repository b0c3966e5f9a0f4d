// The claims that hang on the TPM: its identity, the quote over the archive, PCR policy, event log and clock. Pure; what a
// simulator or a stand-in vouches for comes out as not proven, however well it agrees.
import { createHash } from 'node:crypto';
import type { CustodyRecord } from '../custody/chain.ts';
import type { Appraisers, ClockReading, EarlierClock, Enrolment } from './appraisers.ts';
import { type Appraisal, failed, notProven, proven, weakened } from './claims.ts';
import type { BundlePredicate } from './format.ts';
import type { Evidence } from './verify.ts';

/** What the AK signs when it certifies the signing key. */
const signingKeyQualifyingData = createHash('sha256').update('esoteric-appliance/signing-key/1').digest();

type TpmEnrolment = NonNullable<Enrolment['tpm']>;
type TpmClaim = 'TPM identity' | 'quote' | 'PCR policy' | 'event log' | 'clock';

export interface TpmAppraisal {
  readonly claims: Readonly<Record<TpmClaim, Appraisal>>;
  /** The enrolled AK signed a quote over this archive's digest, whatever kind of TPM holds it. */
  readonly quoteHolds: boolean;
  /** Of that quote; null where it does not hold. */
  readonly clock: ClockReading | null;
  /** Why nothing that this TPM signs is proof; undefined where a maker vouches for it. */
  readonly simulated: string | undefined;
}

export function appraiseTpm<E extends Enrolment>(
  evidence: Evidence,
  held: { readonly enrolment: E | null; readonly previousClock?: EarlierClock },
  appraisers: Appraisers<E>,
): TpmAppraisal {
  const identity = appraiseIdentity(evidence, held.enrolment, appraisers);
  const enrolled = held.enrolment?.tpm ?? null;
  const { predicate } = evidence;
  const simulated =
    identity.result === 'proven'
      ? undefined
      : 'But no maker vouches for the TPM: whoever runs a simulator can make it say anything.';
  if (predicate === null || predicate.quote === null || enrolled === null) {
    const why = notProven(whyNoQuote(evidence, held.enrolment));
    const claims = { 'TPM identity': identity, quote: why, 'PCR policy': why, 'event log': why, clock: why };
    return { claims, quoteHolds: false, clock: null, simulated };
  }
  const quote = appraiseQuote(evidence, predicate.quote, enrolled, appraisers);
  const quoteHolds = quote.result === 'proven';
  const upon = (claim: () => Appraisal): Appraisal =>
    quoteHolds ? weakened(claim(), simulated) : notProven('The quote that would show it is not proven.');
  const claims = {
    'TPM identity': identity,
    quote: weakened({ result: quote.result, detail: quote.detail }, simulated),
    'PCR policy': upon(() => appraisePcrs(evidence, predicate, enrolled)),
    'event log': upon(() => appraiseLog(evidence, predicate, appraisers)),
    clock: upon(() => appraiseClock(predicate, quote.clock, enrolled, held.previousClock, appraisers)),
  };
  return { claims, quoteHolds, clock: quoteHolds ? quote.clock : null, simulated };
}

function whyNoQuote({ predicate, tpm }: Evidence, enrolment: Enrolment | null): string {
  if (tpm === 'bypassed') return 'The TPM was bypassed when this bundle was made.';
  if (predicate === null) return 'There is no signed statement that could carry a quote.';
  if (enrolment === null) return 'No enrolment record of this node was given.';
  return predicate.quote === null ? 'The bundle carries no quote.' : 'The node was enrolled without a TPM.';
}

function appraiseIdentity<E extends Enrolment>(
  { predicate, tpm }: Evidence,
  enrolment: E | null,
  appraisers: Appraisers<E>,
): Appraisal {
  if (enrolment === null) return notProven('No enrolment record of this node was given.');
  const record = appraisers.enrolment(enrolment);
  if (record.result === 'failed') return record;
  if (enrolment.tpm === null || tpm === 'bypassed') return notProven('The TPM was bypassed.');
  const certification = predicate?.signingKeyCertification ?? null;
  if (certification !== null) {
    const certified = appraisers.certification({
      attest: decode(certification.attest),
      signature: decode(certification.signature),
      akPublic: decode(enrolment.tpm.ak.public),
      certifiedPublic: decode(enrolment.tpm.signingKey.public),
      expectedQualifyingData: signingKeyQualifyingData,
    });
    if (certified.result !== 'proven') return certified;
  }
  if (tpm === 'simulator')
    return notProven(
      'No EK certificate ties this TPM to its maker: it may be a simulator, whose keys can be copied.',
    );
  return record;
}

function appraiseQuote(
  evidence: Evidence,
  quote: NonNullable<BundlePredicate['quote']>,
  enrolled: TpmEnrolment,
  appraisers: Pick<Appraisers, 'quote'>,
): Appraisal & { readonly clock: ClockReading | null } {
  const { values } = quote.pcrs;
  const absent = Object.keys(enrolled.pcrPolicy.pcrs).filter((pcr) => values[pcr] === undefined);
  if (absent.length > 0) return { ...failed(`The quote leaves out PCR ${absent.join(', ')}.`), clock: null };
  return appraisers.quote({
    attest: decode(quote.attest),
    signature: decode(quote.signature),
    akPublic: decode(enrolled.ak.public),
    expectedQualifyingData: Buffer.from(evidence.archiveSha256, 'hex'),
    pcrValues: values,
    requiredPcrs: Object.keys(values).map(Number),
  });
}

/** The firmware's PCRs are as enrolled; the cap PCR too, unless a zeroize since the node was last armed capped it. */
function appraisePcrs(evidence: Evidence, predicate: BundlePredicate, enrolled: TpmEnrolment): Appraisal {
  const quoted = predicate.quote?.pcrs.values ?? {};
  const differs = ([pcr, value]: readonly [string, string]) =>
    quoted[pcr]?.toLowerCase() !== value.toLowerCase();
  const cap = String(enrolled.capPcr);
  const expected = Object.entries(enrolled.pcrPolicy.pcrs);
  const changed = expected.filter(([pcr]) => pcr !== cap).filter(differs);
  if (changed.length > 0) {
    return failed(
      `PCR ${changed.map(([pcr]) => pcr).join(', ')} ${changed.length > 1 ? 'are not as they were' : 'is not as it was'} when the node was enrolled.`,
    );
  }
  const same = `PCR ${expected
    .map(([pcr]) => pcr)
    .filter((pcr) => pcr !== cap)
    .join(', ')} as enrolled`;
  if (!expected.filter(([pcr]) => pcr === cap).some(differs)) {
    return proven(`${same}, PCR ${cap} not capped.`);
  }
  const zeroized = evidence.custody?.ok ? cappedBy(evidence.custody.records) : undefined;
  if (zeroized !== undefined) {
    return proven(
      `${same}; PCR ${cap} is capped, as record ${zeroized.sequence} of the custody log says (${zeroized.event}).`,
    );
  }
  return failed(
    `PCR ${cap} was extended, but the custody log tells of no zeroize that caps it since the node was armed.`,
  );
}

/** The last record of a zeroize that reached the TPM, unless the node was armed anew after it. A purge does not. */
function cappedBy(records: readonly CustodyRecord[]): CustodyRecord | undefined {
  const armed = records.findLastIndex(({ event }) => event === 'provisioned' || event === 're-armed');
  return records.slice(armed + 1).findLast(({ event, detail }) => {
    // Nodes write it only after a lock or a destroy.
    if (event === 'zeroize-interrupted') return true;
    const level = event === 'zeroized' ? detail.level : event === 'zeroize-deepened' ? detail.to : undefined;
    return level === 'lock' || level === 'destroy';
  });
}

function appraiseLog(
  evidence: Evidence,
  predicate: BundlePredicate,
  appraisers: Pick<Appraisers, 'eventLog'>,
): Appraisal {
  if (predicate.eventLog === null) return notProven('The bundle carries no firmware event log.');
  const { path, sha256 } = predicate.eventLog;
  const member = evidence.members.get(path);
  if (member?.bytes === undefined) return failed(`The event log ${path} is not in the archive.`);
  if (member.sha256 !== sha256) return failed(`The SHA-256 of ${path} is not the stated one.`);
  const { result, detail } = appraisers.eventLog({
    log: member.bytes,
    pcrValues: predicate.quote?.pcrs.values ?? {},
  });
  const synthetic = evidence.standIns.includes('synthetic event log')
    ? 'But the event log is synthetic: no firmware measured it.'
    : undefined;
  return weakened({ result, detail }, synthetic);
}

function appraiseClock(
  predicate: BundlePredicate,
  quoted: ClockReading | null,
  enrolled: TpmEnrolment,
  previous: EarlierClock | undefined,
  appraisers: Pick<Appraisers, 'clock'>,
): Appraisal {
  if (quoted === null) return notProven('The quote tells no clock.');
  const stated = predicate.clock;
  const same =
    stated === null ||
    (stated.clock === String(quoted.clock) &&
      stated.resetCount === quoted.resetCount &&
      stated.restartCount === quoted.restartCount &&
      stated.safe === quoted.safe);
  if (!same) return failed('The clock of the statement is not that of the quote.');
  const { resetCount, restartCount, clock } = enrolled;
  const atEnrolment = { resetCount, restartCount, ...(clock === undefined ? {} : { clock }) };
  return appraisers.clock(previous ?? atEnrolment, quoted);
}

const decode = (base64: string): Uint8Array => Buffer.from(base64, 'base64');
