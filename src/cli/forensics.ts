import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { Command } from '@commander-js/extra-typings';
import type { BundleOnHand, OpenOptions } from '../appliance/bundle-on-hand.ts';
import type { AuditReport } from '../appliance/redaction-audit.ts';
import type { Verification } from '../appliance/verify.ts';
import type { Manifest } from '../forensics/format.ts';
import type { TimelineEntry, TimelineFilter } from '../forensics/timeline.ts';
import { type ExitStatus, exitStatus, Failure } from '../host/failure.ts';
import { withoutPreamble } from './collectors.ts';
import { ending } from './command.ts';
import { otherRoot } from './other-root.ts';
import { paint, plain, printJson, printLine, table } from './output.ts';
import { verifying, verifyOptions } from './verifying.ts';

const examining = (name: string, summary: string) =>
  verifying(name)
    .description(summary)
    .argument(
      '<bundle>',
      'the archive, NODE-SEQ-UTC.tar.gz or .tar.gz.age, its .sigstore.json beside it; s3://BUCKET/KEY',
    );

const openOptions = (...given: Parameters<typeof verifyOptions>): OpenOptions => ({
  ...verifyOptions(...given),
  allowBypassed: true,
});

const open = examining('open', 'look into a bundle: manifest, timeline, journal, redactions')
  .argument('[journalctl-options...]', 'behind --: options of journalctl, for --journal')
  .option('--timeline', 'custody log and journal, merged by time')
  .option('--since <time>', 'timeline from here on: RFC 3339, or a day in UTC')
  .option('--until <time>', 'timeline up to here')
  .option('--grep <pattern>', 'timeline of what matches a regular expression: source or text')
  .option('--journal', 'journalctl on the journal of the bundle, rebuilt as a journal file')
  .option('--redactions', 'what was replaced, by member and rule')
  .option('--files', 'all members, with their digests and sources')
  .option(
    '--directory <dir>',
    'leave what is in the bundle here (new or empty); else it is removed at the end',
  )
  .addHelpText(
    'after',
    `
Examples:
  $ esoteric-appliance forensics open alpha-000001-20261120T160000Z.tar.gz
  $ esoteric-appliance forensics open BUNDLE.tar.gz --timeline --since 2026-11-20T16:00Z --grep 'zeroized|eth1'
  $ esoteric-appliance forensics open BUNDLE.tar.gz --journal -- -n 20 -p err
  $ esoteric-appliance forensics open BUNDLE.tar.gz.age --age-identity key.txt --directory ./case-7
  $ esoteric-appliance forensics open "s3://evidence/alpha/BUNDLE.tar.gz?endpoint=https://s3.example.org" --enrolment alpha.json`,
  )
  .action((archive, journalctl, options) =>
    ending(options.json, async () => {
      const wantsJournal = options.journal === true || journalctl.length > 0;
      if (wantsJournal && options.json) {
        throw new Failure('usage', '--journal and --json exclude each other.', {
          remedy: 'Let journalctl print it: `--journal -- --output=json`.',
          status: exitStatus.usage,
        });
      }
      const { BundleOnHand } = await import('../appliance/bundle-on-hand.ts');
      const { readTimelineFilter } = await import('../forensics/timeline.ts');
      const filter = readTimelineFilter(options);
      if (filter !== undefined && options.timeline !== true) {
        throw new Failure('usage', '--since, --until and --grep are for --timeline.', {
          remedy: 'Add --timeline; journalctl has its own, behind `--journal --`.',
          status: exitStatus.usage,
        });
      }
      using removal = onDeath();
      using bundle = await BundleOnHand.open({
        ...openOptions(archive, options),
        directory: options.directory,
        onTemporary: removal.take,
      });
      if (options.json) {
        printJson(await documentOf(bundle, options, filter));
        return;
      }
      printLine(verdictLine(bundle.verification));
      for (const line of otherRoot(options.trustedRoot, [bundle.verification.report])) printLine(line);
      if (options.timeline)
        for await (const entry of bundle.timeline(filter)) await printSlowly(timelineLine(entry));
      if (options.redactions) for (const line of redactionLines(bundle.manifest)) printLine(line);
      if (options.files) for (const line of fileLines(bundle.manifest)) printLine(line);
      const shown = options.timeline || options.redactions || options.files || wantsJournal;
      if (!shown) for (const line of summaryLines(bundle)) printLine(line);
      if (options.directory !== undefined) printLine(`What is in the bundle lies in ${bundle.directory}.`);
      if (wantsJournal) {
        const journal = await bundle.rebuiltJournal();
        removal.leaveInterrupts(); // They are the pager's.
        return await runJournalctl(journal, journalctl);
      }
      return exitStatus.done;
    }),
  );

const audit = examining(
  'audit',
  'hold the redaction of a bundle against the original, with the key of the case',
)
  .requiredOption('--case-key <file>', 'the key under which the bundle was redacted')
  .requiredOption('--original <path>', 'a member’s original, a journal, or a directory that has either')
  .option('--member <path>', 'what a single original is of (default: journal/entries.export)')
  .option('--rules <file>', 'redaction.toml of the node (default: that of this program)')
  .option('--added-rules <file>', 'what forensics.redaction_rules named on the node')
  .addHelpText(
    'after',
    `
Exit status: 0 all that was audited holds, 3 something does not.

Examples:
  $ esoteric-appliance forensics audit BUNDLE.tar.gz --case-key case.key --original /mnt/disk/var/log/journal
  $ esoteric-appliance forensics audit BUNDLE.tar.gz --case-key case.key --original ps.jsonl --member host/processes.jsonl`,
  )
  .action((archive, options) =>
    ending(options.json, async () => {
      const { BundleOnHand } = await import('../appliance/bundle-on-hand.ts');
      const { auditRedaction } = await import('../appliance/redaction-audit.ts');
      const { caseKey, original, member, rules, addedRules } = options;
      using removal = onDeath();
      using bundle = await BundleOnHand.open({
        ...openOptions(archive, options),
        caseKey,
        onTemporary: removal.take,
      });
      const report = await auditRedaction(bundle, { caseKey, original, member, rules, addedRules });
      if (options.json) printJson({ verdict: bundle.verification.report.verdict, ...report });
      else {
        printLine(verdictLine(bundle.verification));
        for (const line of otherRoot(options.trustedRoot, [bundle.verification.report])) printLine(line);
        for (const line of auditLines(report)) printLine(line);
      }
      return report.ok ? exitStatus.done : exitStatus.rejected;
    }),
  );

export const forensicsCommand = new Command('forensics')
  .description('examine a bundle that was made')
  .addCommand(open)
  .addCommand(audit);

/** What is taken out of a bundle goes also when the process is told to end. */
function onDeath(): Disposable & {
  readonly take: (directory: string) => void;
  readonly leaveInterrupts: () => void;
} {
  const taken: string[] = [];
  const end = (): never => {
    for (const directory of taken) rmSync(directory, { recursive: true, force: true });
    process.exit(exitStatus.failed);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const signal of signals) process.on(signal, end);
  return {
    take: (directory) => {
      taken.push(directory);
    },
    leaveInterrupts: () => {
      process.off('SIGINT', end);
      process.on('SIGINT', () => {});
    },
    [Symbol.dispose]: () => {
      for (const signal of signals) process.off(signal, end);
    },
  };
}

function verdictLine({ report }: Verification): string {
  const of = (result: string) =>
    report.claims.filter((claim) => claim.result === result).map(({ claim }) => claim);
  const [failed, unproven] = [of('failed'), of('not-proven')];
  if (failed.length > 0)
    return paint(
      ['red', 'bold'],
      `REJECTED: ${failed.join(', ')} failed. See \`verify\`; do not rely on what follows.`,
    );
  if (unproven.length === 0) return paint('green', 'Verified: all claims are proven.');
  return paint('yellow', `Not all is proven: ${unproven.join(', ')}. See \`verify\` for what it would take.`);
}

async function documentOf(
  bundle: BundleOnHand,
  wanted: { readonly timeline?: true; readonly directory?: string },
  filter: TimelineFilter | undefined,
): Promise<object> {
  const { verification, manifest, directory } = bundle;
  const { verdict, claims } = verification.report;
  const events: TimelineEntry[] = [];
  if (wanted.timeline) for await (const entry of bundle.timeline(filter)) events.push(entry);
  return {
    verification: { verdict, claims },
    manifest,
    directory: wanted.directory === undefined ? null : directory,
    ...(wanted.timeline ? { timeline: events } : {}),
  };
}

function summaryLines({ manifest }: BundleOnHand): string[] {
  const { node, sequence, created, reason, assurance, files, collectors } = manifest;
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  const replaced = files.flatMap(({ redactions }) => redactions).reduce((sum, { count }) => sum + count, 0);
  const amiss = collectors.filter(({ status }) => status === 'failed' || status === 'truncated');
  return [
    '',
    ...table(
      [
        ['bundle', `${node} #${sequence}`],
        ['made', created],
        ['reason', reason],
        ['case', manifest.case],
        ['examiner', manifest.examiner],
        ['TPM', assurance.tpm],
        ['Sigstore', `${assurance.sigstore}${assurance.sigstore === 'pending' ? ' when it was made' : ''}`],
        ['notes', [...assurance.standIns, ...assurance.notes].join('; ')],
        ['members', `${files.length}, ${bytes} bytes`],
        ['redactions', `${replaced}`],
      ].flatMap(([name = '', value = '']) => (value === '' ? [] : [[`  ${name}`, plain(value)]])),
    ),
    ...amiss.map(({ name, detail }) =>
      paint('yellow', plain(`  incomplete: ${name}: ${withoutPreamble(detail)}`)),
    ),
    '',
    'Look on with --timeline, --journal, --redactions, --files.',
  ];
}

const fileLines = ({ files }: Manifest): string[] =>
  table([
    ['member', 'bytes', 'SHA-256', 'source'],
    ...files.map(({ path, size, sha256, source, error }) => [
      path,
      String(size),
      sha256,
      plain(error === undefined ? source : `${source} (${error})`),
    ]),
  ]);

function redactionLines({ files }: Manifest): string[] {
  const rows = files.flatMap(({ path, redactions, redactionRecords, canaries }) => [
    ...redactions.map(({ rule, count }) => [path, plain(rule), String(count), redactionRecords ?? '']),
    ...(redactions.length === 0 && canaries !== undefined ? [[path, 'none', '0', '']] : []),
  ]);
  return table([['member', 'rule', 'replaced', 'records'], ...rows]);
}

function timelineLine({ time, source, text, priority }: TimelineEntry): string {
  const line = plain(`${time}  ${source}: ${text.replaceAll(/\p{Cc}+/gu, ' ')}`);
  if (source === 'custody') return paint('cyan', line);
  return priority !== undefined && priority <= 3 ? paint('red', line) : line;
}

/** A long timeline waits for its reader. */
async function printSlowly(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
}

function auditLines({ ok, members, notAudited }: AuditReport): string[] {
  return [
    ...table(
      members.map(({ path, redactions, entries, problems }) => [
        `  ${path}`,
        problems.length === 0 ? paint('green', 'holds') : paint(['red', 'bold'], 'DIFFERS'),
        [
          `${redactions} redactions`,
          ...(entries === undefined
            ? []
            : [
                `${entries.compared} entries`,
                `${entries.skipped} of the original before and between them not in the bundle`,
              ]),
        ].join(', '),
      ]),
    ),
    ...members.flatMap(({ path, problems }) =>
      problems.map((problem) => paint('red', plain(`  ${path}: ${problem}`))),
    ),
    ...notAudited.map((path) => paint('yellow', `  ${path}  not audited: no original was given`)),
    ok
      ? paint(
          'green',
          'Each pseudonym stands for what the original has in its place, and nothing else differs.',
        )
      : paint(['red', 'bold'], 'The redaction is not what its records say.'),
  ];
}

/** In the foreground, with a pager where journalctl takes one. */
async function runJournalctl(journal: string, options: readonly string[]): Promise<ExitStatus> {
  const child = spawn('journalctl', [`--file=${journal}`, ...options], { stdio: 'inherit' });
  try {
    const [status] = (await once(child, 'close')) as [number | null];
    return status === 0 ? exitStatus.done : exitStatus.failed;
  } catch (cause) {
    throw new Failure('program-missing', 'The program `journalctl` is not installed.', {
      kept: `The journal is in ${journal}, where --directory was given.`,
      remedy: 'Install systemd, or read it on another machine.',
      cause,
    });
  }
}
