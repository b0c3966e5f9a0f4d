// Appraisal of TPM2_NV_Certify: what a counter or the custody head of an enrolled node held (TPM 2.0 Library, Part 2, section
// 10.12.10; Part 3, section 31.16). Pure: bytes in, verdict out; malformed is `failed`, with the reason.
import { counterDefinition, custodyDefinition, writtenName } from '../keys/indices.ts';
import type { Attest } from '../tpm/structures.ts';
import { type AttestedEvidence, appraiseAttested } from './attested.ts';
import { type Appraisal, type CheckedAppraisal, conclude, failed, notProven, proven } from './verdict.ts';

export interface NvEvidence extends AttestedEvidence {
  /** Handle of the index, from the enrolment record, and what the node keeps there. */
  readonly index: number;
  readonly use: 'counter' | 'custody head';
}

export interface NvAppraisal extends CheckedAppraisal {
  /** What the index held: 8 bytes of a counter, 32 of the custody head. To be believed only where the whole is proven. */
  readonly contents: Uint8Array | null;
}

/** Checks: attestation key, structure, signature, signer, qualifying data, index, contents. */
export function appraiseNvCertification(evidence: NvEvidence): NvAppraisal {
  const { attest, checks: attested } = appraiseAttested(evidence, 'nv');
  const certified = attest?.nv;
  const unread = notProven('The attestation could not be read as a certification of an NV index.');
  const checks = {
    ...attested,
    index: certified ? checkIndex(certified, evidence) : unread,
    contents: certified ? checkContents(certified, evidence) : unread,
  };
  const whole = conclude(checks, `The attestation key certified what the ${evidence.use} of the node holds.`);
  return { ...whole, contents: certified?.contents ?? null };
}

type Certified = NonNullable<Attest['nv']>;

const definitionOf = ({ use }: NvEvidence) => (use === 'counter' ? counterDefinition : custodyDefinition);

/** The Name covers handle and attributes: no index of another kind can stand in for it. */
function checkIndex({ indexName }: Certified, evidence: NvEvidence): Appraisal {
  return Buffer.compare(indexName, writtenName(evidence.index, definitionOf(evidence))) === 0
    ? proven(`The certified index is the ${evidence.use} of the node.`)
    : failed(`The certified index is not the ${evidence.use} of the node.`);
}

function checkContents({ offset, contents }: Certified, evidence: NvEvidence): Appraisal {
  return offset === 0 && contents.length === definitionOf(evidence).byteLength
    ? proven('All of the index is certified.')
    : failed('Only a part of the index is certified.');
}
