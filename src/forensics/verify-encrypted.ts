// What stays unproven of a bundle whose archive is encrypted and cannot be opened here: the statement is about what is in it. Pure.
import { type Appraisal, type ClaimName, notProven } from './claims.ts';

/** Claims about what is in the archive. */
const aboutContent: readonly ClaimName[] = [
  'archive integrity',
  'manifest',
  'event log',
  'custody chain',
  'custody rollback',
  'sequence',
  'zeroize',
  'redaction',
];

const why =
  'The archive is encrypted: without an identity of one of its recipients (--age-identity) nothing in it can be looked at.';

/** The claims about the content become unproven; PCRs also, where only the custody log could tell why they differ. */
export function withoutContent(
  results: Readonly<Record<ClaimName, Appraisal>>,
): Readonly<Record<ClaimName, Appraisal>> {
  const unseen = Object.fromEntries(aboutContent.map((claim) => [claim, notProven(why)]));
  const pcrs = results['PCR policy'];
  return {
    ...results,
    ...unseen,
    ...(pcrs.result === 'failed' ? { 'PCR policy': notProven(`${pcrs.detail} ${why}`) } : {}),
  };
}
