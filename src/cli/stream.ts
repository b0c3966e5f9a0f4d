import { Option } from '@commander-js/extra-typings';
import { exitStatus, Failure } from '../host/failure.ts';
import { command, configOf, ending } from './command.ts';
import { logLine } from './output.ts';
import { parseBytes, parseNames } from './quantity.ts';

export const streamCommand = command('stream', 'random bytes on stdout, conditioned and DRBG-expanded', [
  'stream --bytes 32 | xxd',
  'stream --bytes 1G > random.bin',
  'stream --bytes 48 --format base64',
  'stream --rate 1M --sources timing,silicon > /dev/null',
  'stream --mode raw --sources memory-timing --bytes 1M > samples.bin',
])
  .option('--bytes <n>', 'how many, with K, M or G for binary multiples (default: without end)')
  .addOption(
    new Option('--format <format>', 'how they are written').choices(['raw', 'hex', 'base64'] as const),
  )
  .option('--rate <n>', 'bytes a second at most, with K, M or G')
  .option('--sources <names>', 'noise sources or families, with commas between; a pool of its own then')
  .addOption(
    new Option('--mode <mode>', 'drbg, or samples of one source: NOT FOR KEYS').choices([
      'drbg',
      'raw',
      'xor-fold',
      'von-neumann',
    ] as const),
  )
  .action((options) =>
    ending(options.json, async () => {
      const { format, mode = 'drbg' } = options;
      if (options.bytes === undefined && process.stdout.isTTY) {
        throw new Failure('usage', 'This would fill the terminal with random bytes.', {
          remedy: 'Give --bytes, or send the output to a file or a pipe.',
          status: exitStatus.usage,
        });
      }
      const sources = parseNames(options.sources);
      const rate = options.rate === undefined ? undefined : parseBytes('--rate', options.rate, 1);
      const request = {
        bytes: options.bytes === undefined ? null : parseBytes('--bytes', options.bytes),
        format,
        rate,
        sources,
      };
      if (mode === 'drbg') {
        const { beginWithoutNode, stateDirectoryOf } = await import('../appliance/entropy-ahead.ts');
        await using _ahead = beginWithoutNode(stateDirectoryOf(options));
        const config = await configOf(options);
        await using _later = beginWithoutNode(config.node.state_dir);
        const { streamTo } = await import('../appliance/stream.ts');
        await streamTo(config, request, 1);
      } else {
        const [source, ...others] = sources ?? [];
        if (source === undefined || others.length > 0) {
          throw new Failure('usage', `--mode ${mode} takes exactly one source.`, {
            remedy: 'Name it with --sources.',
            status: exitStatus.usage,
          });
        }
        const config = await configOf(options);
        logLine(`NOT FOR KEYS  These are ${mode === 'raw' ? 'raw' : 'thinned-out'} samples of ${source}.`);
        const { streamUnconditioned } = await import('../appliance/stream-unconditioned.ts');
        await streamUnconditioned(config, mode, source, request, 1);
      }
    }),
  );
