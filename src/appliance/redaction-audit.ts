// `forensics audit`: holds the members of a bundle against their originals, wherever the auditor has them.
import { createReadStream, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readAddedRules } from '../forensics/added-rules.ts';
import { type MemberAudit, RedactionAudit } from '../forensics/audit.ts';
import { journalPath, type ManifestFile } from '../forensics/format.ts';
import { caseKeyId } from '../forensics/pseudonym.ts';
import type { RedactionRecord } from '../forensics/redact.ts';
import { readRedactionRules } from '../forensics/redaction-policy.ts';
import { parseRecords } from '../forensics/redaction-records.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { exportEntries } from '../journal/export.ts';
import { readJournal } from '../journal/read.ts';
import type { BundleOnHand } from './bundle-on-hand.ts';
import { CaseKey } from './case-key.ts';
import { policyPath } from './policies.ts';

export interface AuditOptions {
  readonly caseKey: string;
  /** One member, or a directory that has members at their paths, or journal files. */
  readonly original: string;
  /** The member that a single file is of; the journal unless told. */
  readonly member?: string | undefined;
  /** Rules by which the bundle was made; those of this program unless told. */
  readonly rules?: string | undefined;
  /** What `forensics.redaction_rules` named on the node, added to them. */
  readonly addedRules?: string | undefined;
}

export interface AuditedMember extends MemberAudit {
  readonly path: string;
}

export interface AuditReport {
  /** Whether something was audited, and nothing was found wrong. */
  readonly ok: boolean;
  readonly members: readonly AuditedMember[];
  /** Redacted members of which no original was given. */
  readonly notAudited: readonly string[];
}

/**
 * @throws Failure `case-key-other` (status 3) for the key of another case; `case-key-unreadable`, `case-key-invalid`,
 *   `original-missing`, `member-unknown`, `config-missing`, `config-invalid`, all with status 2; `journal-export-invalid` for an original that is none.
 */
export async function auditRedaction(bundle: BundleOnHand, options: AuditOptions): Promise<AuditReport> {
  using caseKey = new CaseKey(options.caseKey);
  const { redaction, files } = bundle.manifest;
  if (redaction === null || caseKeyId(caseKey.bytes) !== redaction.keyId) {
    throw new Failure('case-key-other', 'This is not the key under which the bundle was redacted.', {
      remedy: 'Give the key of its case: that which forensics.case_key named on the node.',
      status: exitStatus.rejected,
    });
  }
  const shipped = readRedactionRules(options.rules ?? policyPath('redaction.toml'));
  const added = options.addedRules === undefined ? [] : readAddedRules(options.addedRules, shipped);
  const audit = new RedactionAudit(caseKey.bytes, [...shipped, ...added]);
  const redacted = files.filter(isRedacted);
  const originals = originalsOf(options, redacted);
  const members: AuditedMember[] = [];
  for (const file of redacted) {
    const original = originals.get(file.path);
    if (original === undefined) continue;
    members.push({ path: file.path, ...(await auditMember(bundle, audit, file, original)) });
  }
  return {
    ok: members.length > 0 && members.every(({ problems }) => problems.length === 0),
    members,
    notAudited: redacted.map(({ path }) => path).filter((path) => !originals.has(path)),
  };
}

const isRedacted = ({ redactions, canaries }: ManifestFile): boolean =>
  redactions.length > 0 || canaries !== undefined;

/** Where the original of a member is: a file, or a journal for journalctl to read. */
type Original =
  | { readonly file: string }
  | { readonly journal: { file: string } | { directories: string[] } };

function originalsOf(options: AuditOptions, redacted: readonly ManifestFile[]): Map<string, Original> {
  const { original, member = journalPath } = options;
  const found = statSync(original, { throwIfNoEntry: false });
  if (found === undefined) throw missing(`${original} does not exist.`);
  if (!found.isDirectory()) {
    if (!redacted.some(({ path }) => path === member)) {
      throw new Failure('member-unknown', `The bundle has no redacted member ${member}.`, {
        remedy: `Name one of: ${redacted.map(({ path }) => path).join(', ')}.`,
        status: exitStatus.usage,
      });
    }
    return new Map([[member, isJournal(original) ? { journal: { file: original } } : { file: original }]]);
  }
  const there = redacted.flatMap(({ path }): [string, Original][] => {
    const file = join(original, path);
    return existsSync(file) ? [[path, { file }]] : [];
  });
  const originals = new Map(there);
  const wantsJournal = redacted.some(({ path }) => path === journalPath) && !originals.has(journalPath);
  if (wantsJournal && readdirSync(original, { recursive: true }).map(String).some(isJournal)) {
    originals.set(journalPath, { journal: { directories: [original] } });
  }
  if (originals.size === 0) throw missing(`${original} has no original of any member, and no journal files.`);
  return originals;
}

const isJournal = (path: string): boolean => /\.journal~?$/.test(path);

async function auditMember(
  bundle: BundleOnHand,
  audit: RedactionAudit,
  { path, redactionRecords }: ManifestFile,
  original: Original,
): Promise<MemberAudit> {
  const records = redactionRecords === undefined ? [] : recordsIn(bundle.path(redactionRecords));
  if (typeof records === 'string') {
    return { redactions: 0, problems: [`Its records of redaction cannot be read: ${records}.`] };
  }
  if (path !== journalPath) {
    if (!('file' in original)) throw missing(`${path} is no journal.`);
    return audit.text(readFileSync(original.file), readFileSync(bundle.path(path)), records);
  }
  const given = 'file' in original ? createReadStream(original.file) : readJournal(original.journal);
  const redacted = createReadStream(bundle.path(path));
  return await audit.journal(exportEntries(given), exportEntries(redacted), records);
}

/** A bundle that was altered may have any in there. @returns what is wrong with them, where something is. */
function recordsIn(path: string): RedactionRecord[] | string {
  try {
    return parseRecords(readFileSync(path));
  } catch (error) {
    return reasonOf(error);
  }
}

const missing = (message: string): Failure =>
  new Failure('original-missing', message, {
    remedy:
      'Give the file that the member was made from (for the journal: journal files, or `journalctl --output=export --all`), or a directory with the members at their paths.',
    status: exitStatus.usage,
  });
