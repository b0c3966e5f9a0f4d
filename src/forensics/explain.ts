// What each claim of a verdict means, what it stands on and what its failure tells: `verify --explain CLAIM`. The table in
// docs/bundle-format.md says the same in short.
import { type ClaimName, claimNames, type SeriesClaimName, seriesClaimNames } from './claims.ts';

export interface Explanation {
  /** `program` is no claim: what the statement tells of the node's program, which the policy may ask for. */
  readonly claim: ClaimName | SeriesClaimName | 'program';
  readonly says: string;
  readonly needs: string;
  /** What to think of, and do, when it failed. */
  readonly failed: string;
}

const bound = 'a signature, or a quote, that is proven over this archive';
const together = 'bundles of one node in a directory or under a prefix, each of them signed or quoted';
const explanations: Readonly<Record<Explanation['claim'], Omit<Explanation, 'claim'>>> = {
  'archive integrity': {
    says: 'The archive is, byte for byte, the one that was signed or quoted.',
    needs: 'the enrolment record (--enrolment), or an expected identity',
    failed:
      'Fetch both files again from where they were uploaded. If it stays so, the archive was altered or exchanged.',
  },
  manifest: {
    says: 'The manifest lists exactly the members that are there, with their digests, and agrees with the statement.',
    needs: bound,
    failed:
      'Members were added, taken out or changed after they had been listed, or the statement is another bundle’s.',
  },
  signature: {
    says: 'The enrolled key of the node signed the statement, and the statement is about this archive.',
    needs: 'the enrolment record, or an expected identity and the trusted root',
    failed:
      'Look whether the record is that of the node in the manifest. If it is, somebody else signed, or what was signed was altered.',
  },
  'signer identity': {
    says: 'A certificate authority certified the signing key for the expected identity, and it was valid when it signed.',
    needs: '--identity with --issuer (or the policy), the trusted root, and a trusted time',
    failed:
      'Another identity signed than the one expected, or the certificate is of an authority that you do not trust.',
  },
  'TPM identity': {
    says: 'The keys of the record are of one genuine TPM, and the signing key was certified by its attestation key.',
    needs: 'an enrolment record as `attest enrol` wrote it, --ek-ca and --enrolled-by',
    failed: 'Do not rely on the record: enrol the node again, where you can see it.',
  },
  transparency: {
    says: 'A public log has recorded the signature, so that it cannot be made, or denied, in secret.',
    needs: 'a log entry, which the courier adds when it has a way out, and the trusted root',
    failed: 'The entry is of another signature or not of a log that you trust.',
  },
  time: {
    says: 'A timestamp authority, else the log, signed when the signature existed.',
    needs: 'a timestamp or a log entry, and the trusted root',
    failed: 'The timestamp is of another signature or not of an authority that you trust.',
  },
  quote: {
    says: 'The TPM signed the digest of this archive together with the state of the machine (PCR values).',
    needs: 'the enrolment record',
    failed:
      'The quote is older, of another archive or of another TPM: the state that it tells is not that of this bundle.',
  },
  'PCR policy': {
    says: 'The machine was in the state in which it was enrolled; or capped, by a zeroize that the custody log tells of.',
    needs: 'the quote and the custody log',
    failed:
      'Firmware, boot loader or boot settings differ from those enrolled. Compare the event log; after an update, enrol again.',
  },
  'event log': {
    says: 'The list of what was started replays to the PCR values that the TPM quoted.',
    needs: 'the quote, and the log in the archive',
    failed: 'The list was altered or is incomplete: do not read it as the history of the boot.',
  },
  clock: {
    says: 'The bundle was made later than the enrolment, by the counts and the clock of the TPM.',
    needs: 'the quote, and a TPM that held its clock to be safe',
    failed: 'The evidence is older than the enrolment record, or of another TPM.',
  },
  'custody chain': {
    says: 'The custody log is whole, ends where the statement says, and is the history that the TPM was told.',
    needs: `${bound}; what the TPM was told, certified by it, where the node was enrolled with that index`,
    failed: 'Records were taken out, altered or rewritten. What stands before the break may still be true.',
  },
  'custody rollback': {
    says: 'The custody log still holds a record that was seen elsewhere, earlier.',
    needs: '--known-head, from `status --json` of another day or an earlier bundle',
    failed: 'The log was set back to before that record, or the node has two histories.',
  },
  sequence: {
    says: 'The number of the bundle was begun last and once, and the counter in the TPM stood at it.',
    needs: bound,
    failed:
      'A number was used twice, or the log was set back: look for other bundles of this node with this number.',
  },
  zeroize: {
    says: 'The node was not zeroized since it was armed; or it was, and the certificate of that is genuine.',
    needs: 'the enrolment record, what binds the archive, and a custody chain that is proven',
    failed: 'The certificate is missing, altered or of another zeroize.',
  },
  redaction: {
    says: 'Every pseudonym in the archive has its record, made under the key of the case.',
    needs: `--case-key, records of redaction within kept_bytes of the policy, and ${bound}`,
    failed: 'Names were replaced that no rule replaced, or by somebody without the key of the case.',
  },
  'sequence gaps': {
    says: 'Every number between the first and the last bundle here is that of a bundle, or recorded as given up.',
    needs: together,
    failed: 'Evidence is missing: look for it where bundles are uploaded to, and on the node itself.',
  },
  duplicates: {
    says: 'No number was used by two different bundles.',
    needs: together,
    failed: 'The node, or its disk and TPM, were set back or copied between the two.',
  },
  rollback: {
    says: 'From each bundle to the next custody log, counters of the TPM and its clock go forward.',
    needs: together,
    failed: 'The node was set back to an earlier state: what happened in between was to be forgotten.',
  },
  forks: {
    says: 'The custody logs of all bundles are one history: each is a beginning of the longest.',
    needs: together,
    failed: 'The node has two histories: it was set back and went on, or there are two of it.',
  },
  program: {
    says: 'What the node found when its program started: who attests how it was built and what it consists of, for which package.',
    needs:
      'attestations and the package beside the program, program.identity in the node’s configuration; to be believed, a proven signature',
    failed:
      'The node runs something else than was attested, or the attestations are not by whom it expects. Compare host/binaries.jsonl in the archive.',
  },
};

/** Undefined for a name that is none; `-` and `_` may stand for the space, and case does not matter. */
export function explain(name: string): Explanation | undefined {
  const wanted = name.replace(/[-_\s]+/g, ' ').toLowerCase();
  const claim = ([...claimNames, ...seriesClaimNames, 'program'] as const).find(
    (known) => known.toLowerCase() === wanted,
  );
  return claim === undefined ? undefined : { claim, ...explanations[claim] };
}
