// The part of an appraisal that a node can do by itself: fresh evidence of its own TPM, held against its own enrolment record. It finds
// what has changed beneath it (another TPM, a capped PCR, other firmware after a reset); it proves nothing to anybody else.
import { parseEvidence } from '../attestation/documents.ts';
import { type EnrolmentRecord, parseEnrolment } from '../attestation/enrolment.ts';
import { type AttestReport, appraiseEvidence } from '../attestation/evidence-appraisal.ts';
import { readIfPresent } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { type Attester, makeEvidence } from './attester.ts';
import { newRequest } from './verifier-session.ts';

const maxAgeSeconds = 60;

/**
 * The claims that failed, each as a sentence; null on a node without a TPM.
 * @throws TpmError where the TPM does not answer; Failure `enrolment-missing`, `enrolment-invalid`.
 */
export async function failedClaimsOfOwn(node: Attester): Promise<string[] | null> {
  const { record, keys, layout } = node;
  if (record.tpm === null || keys === null) return null;
  const enrolled = enrolmentIn(layout.enrolment);
  const pcrs = Array.from({ length: 16 }, (_, pcr) => pcr);
  const request = newRequest(pcrs, new Date());
  const evidence = parseEvidence(JSON.stringify(await makeEvidence(node, request)));
  const { claims }: AttestReport = appraiseEvidence(
    { ...evidence, request, at: new Date(), maxAge: maxAgeSeconds },
    { record: enrolled, trust: { pinned: [], enrollers: [] } },
  );
  return claims.filter(({ result }) => result === 'failed').map(({ claim, detail }) => `${claim}: ${detail}`);
}

function enrolmentIn(path: string): EnrolmentRecord {
  const text = readIfPresent(path);
  if (text !== undefined) return parseEnrolment(text);
  throw new Failure('enrolment-missing', `The enrolment record ${path} is gone.`, {
    remedy: 'Stop the node, write it anew with `esoteric-appliance provision`, and ask who removed it.',
  });
}
