import { exitStatus, Failure } from '../host/failure.ts';
import { command, configOf, ending } from './command.ts';

export const streamCommand = command('stream', 'random bytes on stdout, conditioned and DRBG-expanded', [
  'stream --bytes 32 | xxd',
  'stream --bytes 1G > random.bin',
])
  .option('--bytes <n>', 'how many, with K, M or G for binary multiples (default: without end)')
  .action((options) =>
    ending(options.json, async () => {
      const { streamTo } = await import('../appliance/stream.ts');
      if (options.bytes === undefined && process.stdout.isTTY) {
        throw new Failure('usage', 'This would fill the terminal with random bytes.', {
          remedy: 'Give --bytes, or send the output to a file or a pipe.',
          status: exitStatus.usage,
        });
      }
      await streamTo(
        await configOf(options),
        options.bytes === undefined ? null : parseBytes(options.bytes),
        1,
      );
    }),
  );

const multiples: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

function parseBytes(text: string): number {
  const [, digits, unit] = /^(\d{1,12})([KMG]?)$/i.exec(text) ?? [];
  const multiple = multiples[unit?.toUpperCase() ?? 'none'];
  if (digits === undefined || multiple === undefined) {
    throw new Failure('usage', `--bytes takes a number, with K, M or G, not "${text}".`, {
      status: exitStatus.usage,
    });
  }
  return Number(digits) * multiple;
}
