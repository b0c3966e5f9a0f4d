// The claims about what a bundle holds: archive, manifest, custody log, sequence. Pure.
import { isDeepStrictEqual } from 'node:util';
import { type ChainCheck, type CustodyHead, checkRollback } from '../custody/chain.ts';
import { type Appraisal, failed, notProven, proven } from './claims.ts';
import { bundleBegun, custodyPath, type Manifest, type ManifestFile, manifestPath } from './format.ts';
import type { Evidence } from './verify.ts';
import type { NvTestimony } from './verify-nv.ts';

const noStatement = 'there is no signed statement to hold it against';

/** The archive is the one that was signed for: `bound` where a signature or a quote over its digest is proven. */
export function appraiseArchive(evidence: Evidence, bound: boolean): Appraisal {
  const { archiveProblem, statedSha256, archiveSha256 } = evidence;
  if (archiveSha256 === '' && archiveProblem !== undefined) return failed(archiveProblem);
  if (statedSha256 !== null && statedSha256 !== archiveSha256) {
    const mismatch = `The SHA-256 of the archive is ${archiveSha256}, the statement is about ${statedSha256}.`;
    return failed([mismatch, ...(archiveProblem === undefined ? [] : [archiveProblem])].join(' '));
  }
  if (archiveProblem !== undefined) return failed(archiveProblem);
  if (statedSha256 === null) return notProven(`The archive is whole, but ${noStatement}.`);
  if (bound) return proven(`The SHA-256 of the archive is the signed one, ${archiveSha256}.`);
  return notProven('The SHA-256 of the archive is the stated one, but the statement itself is not proven.');
}

/** The manifest lists exactly what is there, and says what the statement says. */
export function appraiseManifest(evidence: Evidence): Appraisal {
  const { manifest, members, predicate, enrolment } = evidence;
  if (manifest === null) return failed(evidence.manifestProblem ?? 'The manifest cannot be read.');
  const problem =
    unlisted(manifest, evidence) ?? manifest.files.map((file) => differs(file, evidence)).find(Boolean);
  if (problem !== undefined) return failed(problem);
  if (enrolment !== null && enrolment.node !== manifest.node) {
    return failed(`The bundle is of node ${manifest.node}, the enrolment of node ${enrolment.node}.`);
  }
  const agree = `All ${manifest.files.length} files are as the manifest lists them`;
  if (predicate === null) return notProven(`${agree}, but ${noStatement}.`);
  if (members.get(manifestPath)?.sha256 !== predicate.manifestDigest.sha256) {
    return failed('The SHA-256 of the manifest is not the stated one.');
  }
  const other = (['node', 'sequence', 'created', 'reason', 'assurance'] as const).find(
    (field) => !isDeepStrictEqual(manifest[field], predicate[field]),
  );
  if (other !== undefined) return failed(`Manifest and statement differ in \`${other}\`.`);
  return proven(`${agree}, and the manifest is the stated one.`);
}

function unlisted({ files }: Manifest, { members }: Evidence): string | undefined {
  const listed = new Set(files.map(({ path }) => path));
  if (listed.size !== files.length) return 'The manifest lists a file twice.';
  const extra = members.keys().find((path) => path !== manifestPath && !listed.has(path));
  return extra === undefined ? undefined : `${extra} is in the archive, but not in the manifest.`;
}

function differs(file: ManifestFile, { members }: Evidence): string | undefined {
  const member = members.get(file.path);
  if (member === undefined) return `${file.path} is in the manifest, but not in the archive.`;
  if (member.size !== file.size)
    return `${file.path} has ${member.size} bytes, the manifest says ${file.size}.`;
  return member.sha256 === file.sha256
    ? undefined
    : `The SHA-256 of ${file.path} is not that of the manifest.`;
}

/** The log is a whole chain that ends in the stated head, and the history that the TPM was told. */
export function appraiseCustody(
  { custody, predicate, manifest, enrolment }: Evidence,
  followed: NvTestimony['custody'],
): Appraisal {
  if (custody === null) return notProven('The bundle holds no custody log.');
  if (!custody.ok) return failed(custody.problem ?? 'The custody log is broken.');
  const redacted = manifest?.files.find(({ path }) => path === custodyPath)?.redactions ?? [];
  if (redacted.length > 0) return failed('The custody log was redacted, which must never be.');
  if (predicate === null) return notProven(`The custody log is a whole chain, but ${noStatement}.`);
  const { sequence, hash } = predicate.custodyHead;
  if (custody.head.sequence !== sequence || custody.head.hash !== hash) {
    return failed(`The custody log ends at record ${custody.head.sequence}, which is not the stated head.`);
  }
  if (followed?.problem !== undefined) return failed(followed.problem);
  if (followed === null && enrolment?.tpm?.nv !== undefined)
    return notProven(
      `The custody log is a whole chain of ${sequence} records that ends in the stated head, but the bundle does not say what the TPM was told of it.`,
    );
  const told = followed === null ? '' : ` The TPM was told of it up to record ${followed.value}.`;
  const detail = `The custody log is a whole chain of ${sequence} records that ends in the stated head.${told}`;
  // What the TPM signs of its head is not about this archive: from an earlier day, it says nothing of what it was told since.
  const begun = custody.records.findLast(
    ({ event, detail }) => event === bundleBegun && detail.sequence === manifest?.sequence,
  );
  if (followed !== null && begun !== undefined && followed.value < begun.sequence) {
    return notProven(
      `${detail} But a node tells it of the beginning of a bundle, here record ${begun.sequence}.`,
    );
  }
  return proven(detail);
}

/** Truncation shows only against a head held elsewhere. That of the enrolment is too old to prove much, but must be there. */
export function appraiseRollback(
  { custody, enrolment, manifest }: Evidence,
  chain: Appraisal,
  known: CustodyHead | undefined,
): Appraisal {
  if (custody === null || chain.result === 'failed')
    return notProven('There is no whole custody log to look at.');
  // A record that was renewed after the bundle was made knows a later head, which says nothing about the bundle.
  const enrolled = enrolment === null ? undefined : enrolment.custodyHead;
  const younger = Date.parse(enrolment?.created ?? '') > Date.parse(manifest?.created ?? '');
  const renewed = enrolled !== undefined && enrolled.sequence > custody.head.sequence && younger;
  for (const head of [known, renewed ? undefined : enrolled]) {
    const checked = head === undefined ? { ok: true } : checkRollback(custody, head);
    if (!checked.ok) return failed(checked.problem ?? 'The custody log was rolled back.');
  }
  if (known !== undefined) {
    return proven(`The custody log still holds record ${known.sequence}, which was seen earlier.`);
  }
  if (renewed)
    return notProven('The enrolment record is younger than this bundle, and no earlier head was given.');
  const since = enrolled === undefined ? '' : ` It still holds record ${enrolled.sequence} of the enrolment.`;
  return notProven(`No later head of the custody log, kept elsewhere, was given.${since}`);
}

/** The number of the bundle is the one that the custody log gave out last, and above the last that was seen. */
export function appraiseSequence(
  { custody, manifest, predicate }: Evidence,
  chain: Appraisal,
  previous: number | undefined,
  counter: NvTestimony['sequence'],
): Appraisal {
  if (manifest === null) return notProven('The manifest cannot be read.');
  const { sequence } = manifest;
  const miscounted = counter === null ? undefined : compareCounter(sequence, counter, custody);
  if (miscounted !== undefined) return miscounted;
  if (previous !== undefined && sequence <= previous) {
    return failed(`The sequence is ${sequence}, but bundle ${previous} of this node was seen before.`);
  }
  const begun = custody === null || chain.result === 'failed' ? [] : sequencesBegun(custody);
  const last = begun.at(-1);
  if (last === undefined) {
    return previous === undefined
      ? notProven('Only one bundle was given, and its custody log does not tell its number.')
      : proven(`The sequence ${sequence} is above ${previous}, the last that was seen.`);
  }
  if (last !== sequence)
    return failed(`The sequence is ${sequence}, but the custody log began bundle ${last}.`);
  const steps = begun.slice(1).map((number, at) => number - (begun[at] ?? 0));
  if (steps.some((step) => !(step >= 0))) return failed('The bundle numbers in the custody log go back.');
  if (steps.includes(0)) return notProven('The custody log began a bundle of one number twice.');
  if (chain.result === 'not-proven')
    return notProven(
      `The custody log began bundle ${sequence}, but ${predicate === null ? noStatement : 'it is not proven to be the whole history'}.`,
    );
  const stood = counter === null ? '' : ' The TPM’s counter stood at it.';
  return proven(`The custody log began bundle ${sequence} last, and each number once.${stood}`);
}

/** Undefined where the TPM's counter stood at the number of the bundle. */
function compareCounter(
  sequence: number,
  counter: NonNullable<NvTestimony['sequence']>,
  custody: ChainCheck | null,
): Appraisal | undefined {
  if (counter.problem !== undefined) return failed(counter.problem);
  if (counter.value === BigInt(sequence)) return undefined;
  const stood = `The sequence is ${sequence}, but the TPM’s counter stood at ${counter.value}`;
  const uncounted = custody?.records.some(({ event }) => event === 'sequence-uncounted') === true;
  return counter.value < BigInt(sequence) && uncounted
    ? notProven(`${stood}: the custody log tells of bundles that the TPM did not count.`)
    : failed(`${stood}.`);
}

const sequencesBegun = ({ records }: ChainCheck): number[] =>
  records.filter(({ event }) => event === bundleBegun).map(({ detail }) => Number(detail.sequence));
