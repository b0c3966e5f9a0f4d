// The claim about redaction: every pseudonym has its record, every record its pseudonym, and the counts agree. The archive is read once
// more for it, past the records, which are kept; no redacted member is ever whole in memory.
import { reasonOf } from '../host/failure.ts';
import { type Appraisal, failed, notProven, proven } from './claims.ts';
import { recordsPath } from './format.ts';
import { caseKeyId } from './pseudonym.ts';
import { RecordComparison } from './redaction-records.ts';
import { type ArchiveLimits, type ArchiveMember, readArchive } from './unpack.ts';
import type { Evidence, VerifyInput } from './verify.ts';

export async function appraiseRedaction(
  { manifest, members }: Evidence,
  { archive, caseKey, policy }: Pick<VerifyInput, 'archive' | 'caseKey' | 'policy'>,
): Promise<Appraisal> {
  if (manifest === null || archive === null) return notProven('The manifest cannot be read.');
  if (manifest.redaction === null) return notProven('Nothing was redacted.');
  if (caseKey === undefined) return notProven('The key of the case was not given.');
  if (caseKeyId(caseKey) !== manifest.redaction.keyId) {
    return failed('The pseudonyms of this bundle were made under the key of another case.');
  }
  const redacted = manifest.files.filter(({ redactions }) => redactions.length > 0);
  const comparisons = new Map<string, RecordComparison>();
  const unread: string[] = [];
  for (const { path, redactionRecords, redactions } of redacted) {
    const records = members.get(recordsPath(path));
    if (!members.has(path) || records === undefined || records.path !== redactionRecords)
      return failed(`The redactions of ${path} are not recorded.`);
    if (records.bytes === undefined) unread.push(path);
    else comparisons.set(path, new RecordComparison(records.bytes, redactions));
  }
  if (comparisons.size > 0) {
    const unlike = await passAgain(comparisons, members, archive, policy.limits);
    if (unlike !== undefined) return failed(unlike);
  }
  for (const [path, comparison] of comparisons) {
    const problem = comparison.end();
    if (problem !== undefined) return failed(`${path}: ${problem}`);
  }
  if (unread.length > 0) {
    return notProven(
      `The records of what was redacted in ${unread.join(', ')} are too large to look at, by the limit \`kept_bytes\` of the policy.`,
    );
  }
  const total = redacted.flatMap(({ redactions }) => redactions).reduce((sum, { count }) => sum + count, 0);
  return proven(
    `All ${total} redactions in ${redacted.length} files are recorded, under the key of this case.`,
  );
}

/** @returns why what passed is not what was verified; undefined where it is. */
async function passAgain(
  comparisons: ReadonlyMap<string, RecordComparison>,
  members: Evidence['members'],
  archive: NonNullable<VerifyInput['archive']>,
  limits: ArchiveLimits,
): Promise<string | undefined> {
  let again: readonly ArchiveMember[];
  try {
    ({ members: again } = await readArchive(
      archive instanceof Uint8Array ? archive : archive(),
      limits,
      (path) => {
        const comparison = comparisons.get(path);
        return comparison === undefined ? false : (chunk) => comparison.take(chunk);
      },
    ));
  } catch (error) {
    return `The archive could not be read a second time: ${reasonOf(error)}`;
  }
  const isSame =
    again.length === members.size && again.every(({ path, sha256 }) => members.get(path)?.sha256 === sha256);
  return isSame ? undefined : 'The archive was changed while it was verified.';
}
