// What the TPM's NV memory testifies of a bundle: both counters as they stood over this archive, and how far the TPM had followed
// the custody log. Pure. A bundle whose node was enrolled without its indices, or whose TPM did not answer, testifies nothing.
import { anchorsOf } from '../custody/anchor.ts';
import type { Appraisers, Enrolment } from './appraisers.ts';
import type { BundlePredicate } from './format.ts';
import type { Evidence } from './verify.ts';

/** What a certification of the enrolled AK tells, or why it tells nothing that may be believed. */
export type Testimony<T> = { readonly value: T; readonly problem?: undefined } | { readonly problem: string };

export interface NvTestimony {
  readonly sequence: Testimony<bigint> | null;
  readonly armed: Testimony<bigint> | null;
  /** The last record of the custody log that the TPM was told of. */
  readonly custody: Testimony<number> | null;
}

type TpmEnrolment = NonNullable<Enrolment['tpm']>;
type Certification = NonNullable<BundlePredicate['nv']>['sequence'];

export function readNv(evidence: Evidence, appraisers: Pick<Appraisers, 'nvCertification'>): NvTestimony {
  const nv = evidence.predicate?.nv ?? null;
  const enrolled = evidence.enrolment?.tpm ?? null;
  if (nv === null || enrolled?.nv === undefined) return { sequence: null, armed: null, custody: null };
  const archive = Buffer.from(evidence.archiveSha256, 'hex');
  return {
    sequence: readCounter(nv.sequence, enrolled, enrolled.nv.sequence, archive, appraisers),
    armed: readCounter(nv.armed, enrolled, enrolled.nv.armed, archive, appraisers),
    custody: readCustody(evidence, nv.custody, enrolled, enrolled.nv.custody, appraisers),
  };
}

/** The value of a counter, certified over `qualifyingData`. */
export function readCounter(
  certification: Certification,
  enrolled: TpmEnrolment,
  index: string,
  qualifyingData: Uint8Array,
  appraisers: Pick<Appraisers, 'nvCertification'>,
): Testimony<bigint> {
  const { result, detail, contents } = appraisers.nvCertification({
    ...decoded(certification, enrolled),
    qualifyingData: [qualifyingData],
    index: Number(index),
    use: 'counter',
  });
  if (result !== 'proven' || contents === null) return { problem: detail };
  return { value: Buffer.from(contents).readBigUInt64BE() };
}

function readCustody(
  { custody }: Evidence,
  certification: Certification,
  enrolled: TpmEnrolment,
  index: string,
  appraisers: Pick<Appraisers, 'nvCertification'>,
): NvTestimony['custody'] {
  if (custody === null || !custody.ok) return null;
  const anchors = anchorsOf(custody);
  const { result, detail, contents } = appraisers.nvCertification({
    ...decoded(certification, enrolled),
    qualifyingData: anchors.map(({ hash }) => hash),
    index: Number(index),
    use: 'custody head',
  });
  if (result !== 'proven' || contents === null) return { problem: detail };
  const followed = anchors.findLast(({ value }) => Buffer.compare(value, contents) === 0);
  return followed === undefined
    ? { problem: 'The TPM was told another history than this custody log.' }
    : { value: followed.sequence };
}

const decoded = ({ attest, signature }: Certification, { ak }: TpmEnrolment) => ({
  attest: Buffer.from(attest, 'base64'),
  signature: Buffer.from(signature, 'base64'),
  akPublic: Buffer.from(ak.public, 'base64'),
});
