// The part of an appraisal that a node can do by itself: fresh evidence of its own TPM, held against its own enrolment record. It finds
// what has changed beneath it (another TPM, a capped PCR, other firmware after a reset); it proves nothing to anybody else.
import { parseEvidence } from '../attestation/documents.ts';
import { parseEnrolment } from '../attestation/enrolment.ts';
import { type AttestReport, appraiseEvidence } from '../attestation/evidence-appraisal.ts';
import { readIfPresent } from '../host/durable.ts';
import { type Attester, makeEvidence } from './attester.ts';
import { newRequest } from './verifier-session.ts';

const maxAgeSeconds = 60;

/** The claims that failed, each as a sentence; null on a node without a TPM. @throws TpmError where the TPM does not answer. */
export async function failedClaimsOfOwn(node: Attester): Promise<string[] | null> {
  const { record, keys, layout } = node;
  const enrolled = readIfPresent(layout.enrolment);
  if (record.tpm === null || keys === null || enrolled === undefined) return null;
  const pcrs = Array.from({ length: 16 }, (_, pcr) => pcr);
  const request = newRequest(pcrs, new Date());
  const evidence = parseEvidence(JSON.stringify(await makeEvidence(node, request)));
  const { claims }: AttestReport = appraiseEvidence(
    { ...evidence, request, at: new Date(), maxAge: maxAgeSeconds },
    { record: parseEnrolment(enrolled), trust: { pinned: [], enrollers: [] } },
  );
  return claims.filter(({ result }) => result === 'failed').map(({ claim, detail }) => `${claim}: ${detail}`);
}
