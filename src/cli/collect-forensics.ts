import { resolve } from 'node:path';
import type { Preview } from '../appliance/preview.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { withoutPreamble } from './collectors.ts';
import { command, configOf, ending } from './command.ts';
import { printJson, printLine, progressLine, table } from './output.ts';

const repeated = (value: string, before: string[] = []): string[] => [...before, value];

export const collectForensicsCommand = command(
  'collect-forensics',
  'make a forensic bundle: journal, custody log, link and entropy state, quoted and signed by the TPM',
  [
    'collect-forensics --reason "strange traffic on eth0"',
    'collect-forensics --since -1h --output ./evidence',
    'collect-forensics --dry-run',
    'collect-forensics --unit NetworkManager.service firewalld.service --boot 0 --lines 5000',
    'collect-forensics --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
    'collect-forensics --journal-path /mnt/disk/var/log/journal --upload s3://bucket/case-7?region=eu-central-1',
  ],
)
  .option('--reason <text>', 'why; goes into the manifest', 'by hand')
  .option('--since <time>', 'journal from here on: a time, or -1h')
  .option('--until <time>', 'journal up to here')
  .option('--unit <units...>', 'journal of these units, instead of journal.units; also "default" and "all"')
  .option('--boot <boot>', 'journal of one boot: its ID, or 0 for this one, -1 for the one before')
  .option('--lines <number>', 'at most this many entries of the journal, the newest')
  .option('--namespace <name>', 'a namespace of journald, instead of journal.namespace')
  .option('--journal-path <path>', 'an offline journal: a directory or a file')
  .option('--output <dir>', 'leave a copy of the two files here')
  .option('--recipient <age1…>', 'encrypt to this age recipient; may be repeated', repeated)
  .option('--upload <url>', 'instead of forensics.upload; "" keeps the bundle on the node')
  .option('--case <name>', 'case, for the manifest')
  .option('--examiner <name>', 'examiner, for the manifest')
  .option('--case-key <file>', 'the key of the case (32 bytes), instead of forensics.case_key')
  .option('--dry-run', 'say what would be collected and how large it is; changes nothing')
  .action((options) =>
    ending(options.json, async () => {
      const { collectForensics, copyBundle, previewForensics, requireOutput } = await import(
        '../appliance/collect.ts'
      );
      const config = await configOf(options);
      const request = {
        reason: options.reason,
        since: options.since,
        until: options.until,
        units: options.unit,
        boot: options.boot,
        lines: options.lines === undefined ? undefined : linesOf(options.lines),
        namespace: options.namespace,
        journalPath: options.journalPath === undefined ? undefined : resolve(options.journalPath),
        recipients: options.recipient,
        upload: options.upload,
        caseName: options.case,
        examiner: options.examiner,
        caseKey: options.caseKey === undefined ? undefined : resolve(options.caseKey),
      };
      const progress = progressLine();
      if (options.dryRun) {
        const preview = await previewForensics(config, request, progress.step).finally(progress.done);
        if (options.json) printJson(preview);
        else printPreview(preview);
        return;
      }
      const output = options.output === undefined ? undefined : resolve(options.output);
      if (output !== undefined) requireOutput(output);
      const kept = await collectForensics(config, request, progress.step).finally(progress.done);
      const made = output === undefined ? kept : copyBundle(kept, output);
      if (options.json) {
        printJson(made);
        return;
      }
      printLine(`${made.archive}  (${made.bytes} bytes, SHA-256 ${made.sha256})`);
      printLine(made.sigstore);
      for (const problem of made.problems) printLine(`  problem: ${withoutPreamble(problem)}`);
      if (made.upload !== null) printLine(`The courier takes it to ${made.upload.replace(/\?.*/, '')}.`);
    }),
  );

function linesOf(text: string): number {
  const lines = Number(text);
  if (/^\d{1,9}$/.test(text) && lines > 0) return lines;
  throw new Failure('usage', `--lines ${text} is not a number of entries.`, {
    remedy: 'Give a whole number from 1, or leave the option out for all.',
    status: exitStatus.usage,
  });
}

function printPreview({ members, bytes, disk, refused }: Preview): void {
  const rows = members.map(({ path, volatility, bytes: read, status, detail }) => [
    path,
    volatility,
    quantity(read),
    status === 'ok' ? '' : status === 'empty' ? 'empty' : `${status}: ${withoutPreamble(detail)}`,
  ]);
  for (const line of table([['MEMBER', 'VOLATILITY', 'SIZE', ''], ...rows])) printLine(line.trimEnd());
  printLine();
  printLine(`${quantity(bytes)} in all as they are read; the archive is smaller. Nothing was written.`);
  printLine(`${quantity(disk.free)} are free, of which ${quantity(disk.keptFree)} stay free.`);
  if (disk.cut) printLine('That is too little for all of it: the journal would be cut.');
  if (refused !== null) printLine(`A bundle would be refused now: ${refused.message}`);
}

/** With a binary unit. */
function quantity(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${step === 0 ? bytes : (bytes / 1024 ** step).toFixed(1)} ${units[step]}`;
}
