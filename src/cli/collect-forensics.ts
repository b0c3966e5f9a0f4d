import { resolve } from 'node:path';
import { command, configOf, ending } from './command.ts';
import { printJson, printLine, progressLine } from './output.ts';

export const collectForensicsCommand = command(
  'collect-forensics',
  'make a forensic bundle: journal, custody log, link and entropy state, quoted and signed by the TPM',
  [
    'collect-forensics --reason "strange traffic on eth0"',
    'collect-forensics --since -1h --output ./evidence',
    'collect-forensics --journal-path /mnt/disk/var/log/journal --upload s3://bucket/case-7?region=eu-central-1',
  ],
)
  .option('--reason <text>', 'why; goes into the manifest', 'by hand')
  .option('--since <time>', 'journal from here on: a time, or -1h')
  .option('--journal-path <path>', 'an offline journal: a directory or a file')
  .option('--output <dir>', 'leave a copy of the two files here')
  .option('--upload <url>', 'instead of forensics.upload; "" keeps the bundle on the node')
  .option('--case <name>', 'case, for the manifest')
  .option('--examiner <name>', 'examiner, for the manifest')
  .action((options) =>
    ending(options.json, async () => {
      const { collectForensics, copyBundle } = await import('../appliance/collect.ts');
      const progress = progressLine();
      const kept = await collectForensics(
        await configOf(options),
        {
          reason: options.reason,
          since: options.since,
          journalPath: options.journalPath === undefined ? undefined : resolve(options.journalPath),
          upload: options.upload,
          caseName: options.case,
          examiner: options.examiner,
        },
        progress.step,
      ).finally(progress.done);
      const made = options.output === undefined ? kept : copyBundle(kept, resolve(options.output));
      if (options.json) {
        printJson(made);
        return;
      }
      printLine(`${made.archive}  (${made.bytes} bytes, SHA-256 ${made.sha256})`);
      printLine(made.sigstore);
      for (const problem of made.problems) printLine(`  incomplete: ${problem}`);
      if (made.upload !== null) printLine(`The courier takes it to ${made.upload.replace(/\?.*/, '')}.`);
    }),
  );
