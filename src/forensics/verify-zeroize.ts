// The claim about a zeroize: what its certificate says is the node's word, but that the TPM was capped by then, and where the armed
// counter stood, the TPM has signed over the digest of that word (docs/bundle-format.md). Pure.
import { createHash } from 'node:crypto';
import canonicalize from 'canonicalize';
import type { CustodyRecord } from '../custody/chain.ts';
import { reasonOf } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import type { Appraisers, Enrolment } from './appraisers.ts';
import { type Appraisal, failed, notProven, proven, weakened } from './claims.ts';
import { certificatePath, pastCertificatesPath } from './format.ts';
import type { Evidence } from './verify.ts';
import { readCounter } from './verify-nv.ts';

const signed = z.looseObject({ attest: z.base64(), signature: z.base64() });
const certificateSchema = z.looseObject({
  asserted: z.looseObject({
    format: z.literal('esoteric-appliance-zeroize/1'),
    node: z.string(),
    level: z.enum(['purge', 'lock', 'destroy']),
  }),
  proven: signed
    .extend({ pcrs: z.record(z.string(), z.string()), armedCounter: signed.optional() })
    .nullable(),
});
type Certificate = z.infer<typeof certificateSchema>;
type TpmEnrolment = NonNullable<Enrolment['tpm']>;

export function appraiseZeroize(
  evidence: Evidence,
  simulated: string | undefined,
  appraisers: Pick<Appraisers, 'quote' | 'nvCertification'>,
): Appraisal {
  const { custody, manifest } = evidence;
  if (custody === null || !custody.ok) return notProven('There is no whole custody log to look at.');
  const past = evidence.members.get(pastCertificatesPath)?.bytes;
  const foreign = past === undefined ? undefined : foreignIn(past, custody.records);
  if (foreign !== undefined) return failed(foreign);
  const member = evidence.members.get(certificatePath)?.bytes;
  if (member === undefined) return withoutCertificate(custody.records);
  const certificate = parseCertificate(member);
  if (typeof certificate === 'string')
    return failed(`The zeroize certificate cannot be read: ${certificate}.`);
  const { asserted } = certificate;
  if (asserted.node !== manifest?.node) return failed(`The zeroize certificate is of node ${asserted.node}.`);
  const digest = digestOf(asserted);
  const certified = certifiedAt(custody.records, digest);
  if (certified === -1) {
    return failed('The custody log tells of no zeroize certificate with this digest.');
  }
  const signed = appraiseSigned(certificate, digest, evidence.enrolment?.tpm ?? null, appraisers);
  if (signed.result === 'failed') return signed;
  const later = custody.records.slice(certified + 1).find(({ event }) => outdating.has(event));
  if (later !== undefined) {
    return notProven(
      `The zeroize certificate is an older one: after it the custody log tells of ${later.event} (record ${later.sequence}).`,
    );
  }
  return weakened(signed, simulated);
}

const digestOf = (asserted: Certificate['asserted']): Buffer =>
  createHash('sha256')
    .update(canonicalize(asserted) ?? '')
    .digest();

/**
 * What is wrong with the certificates of earlier zeroizes; undefined where nothing is. What the TPM signed of them is not looked at: it may
 * have been another key of the TPM, or another TPM.
 */
function foreignIn(past: Uint8Array, records: readonly CustodyRecord[]): string | undefined {
  const lines = Buffer.from(past).toString('utf8').split('\n');
  for (const [index, line] of lines.entries()) {
    if (line === '') continue;
    const certificate = parseCertificate(Buffer.from(line));
    const where = `Line ${index + 1} of the earlier zeroize certificates`;
    if (typeof certificate === 'string') return `${where} cannot be read: ${certificate}.`;
    if (certifiedAt(records, digestOf(certificate.asserted)) === -1)
      return `${where} is one of which the custody log does not tell.`;
  }
  return undefined;
}

function withoutCertificate(records: readonly CustodyRecord[]): Appraisal {
  const zeroized = zeroizedSince(records);
  return zeroized === undefined
    ? proven('The custody log tells of no zeroize since the node was last armed.')
    : notProven(
        `The custody log tells of a zeroize (record ${zeroized.sequence}), but the bundle carries no certificate of it.`,
      );
}

const armings = ['provisioned', 're-armed', 'restarted-after-purge'];
/** What goes further has the certificate made anew. That a zeroize had been interrupted may be told after its certificate. */
const zeroizes = ['zeroized', 'zeroize-deepened', 'zeroize-finished'];
const certification = 'zeroize-certified';
const outdating = new Set([...armings, ...zeroizes, certification]);

/** The last record of a zeroize, unless the node was put to work again after it. */
function zeroizedSince(records: readonly CustodyRecord[]): CustodyRecord | undefined {
  const armed = records.findLastIndex(({ event }) => armings.includes(event));
  return records
    .slice(armed + 1)
    .findLast(({ event }) => [...zeroizes, 'zeroize-interrupted'].includes(event));
}

/** Where the log tells of a certificate last; -1: nowhere. */
const certifiedAt = (records: readonly CustodyRecord[], digest: Uint8Array): number =>
  records.findLastIndex(
    ({ event, detail }) => event === certification && detail.sha256 === Buffer.from(digest).toString('hex'),
  );

function appraiseSigned(
  { asserted, proven: shown }: Certificate,
  digest: Uint8Array,
  enrolled: TpmEnrolment | null,
  appraisers: Pick<Appraisers, 'quote' | 'nvCertification'>,
): Appraisal {
  const word = 'What it says of memory, kernel and disk is the node’s word.';
  if (shown === null) return notProven(`The TPM did not sign the zeroize certificate. ${word}`);
  if (enrolled === null) {
    return notProven(
      'No enrolment record with a TPM was given that the zeroize certificate could be held against.',
    );
  }
  const quote = appraisers.quote({
    attest: Buffer.from(shown.attest, 'base64'),
    signature: Buffer.from(shown.signature, 'base64'),
    akPublic: Buffer.from(enrolled.ak.public, 'base64'),
    expectedQualifyingData: digest,
    pcrValues: shown.pcrs,
    requiredPcrs: Object.keys(shown.pcrs).map(Number),
  });
  if (quote.result !== 'proven') return failed(`The quote of the zeroize certificate: ${quote.detail}`);
  const cap = String(enrolled.capPcr);
  const open = enrolled.pcrPolicy.pcrs[cap]?.toLowerCase();
  const deep = asserted.level !== 'purge';
  const capped = shown.pcrs[cap] !== undefined && shown.pcrs[cap].toLowerCase() !== open;
  if (deep && !capped) {
    return failed(
      `The zeroize certificate says ${asserted.level}, but PCR ${cap} was not capped when it was signed.`,
    );
  }
  const counter = armedCounter(shown.armedCounter, enrolled, digest, appraisers);
  if (counter?.problem !== undefined)
    return failed(`The armed counter of the zeroize certificate: ${counter.problem}`);
  const state = [
    ...(deep ? [`PCR ${cap} was capped`] : []),
    ...(counter === undefined ? [] : [`the armed counter stood at ${counter.value}`]),
  ].join(' and ');
  return proven(`The TPM signed the zeroize certificate${state === '' ? '' : ` when ${state}`}. ${word}`);
}

function armedCounter(
  certification: NonNullable<Certificate['proven']>['armedCounter'],
  enrolled: TpmEnrolment,
  digest: Uint8Array,
  appraisers: Pick<Appraisers, 'nvCertification'>,
) {
  if (certification === undefined || enrolled.nv === undefined) return undefined;
  return readCounter(certification, enrolled, enrolled.nv.armed, digest, appraisers);
}

/** The certificate, or why it is none. */
function parseCertificate(bytes: Uint8Array): Certificate | string {
  try {
    const checked = certificateSchema.safeParse(
      JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)),
    );
    return checked.success ? checked.data : z.prettifyError(checked.error).replaceAll('\n', ' ');
  } catch (error) {
    return reasonOf(error);
  }
}
