import { command, configOf, ending, stopSignal } from './command.ts';
import { logLine, printJson } from './output.ts';
import { parseBytes, parseNames } from './quantity.ts';

/** What the kernel takes for the size of a pipe: an int (fcntl(2)). */
const mostBuffered = 2 ** 31 - 1;

export const deviceCommand = command('device', 'random bytes at a path: a FIFO for many readers', [
  'device /run/esoteric-random',
  'device ./random --buffer-size 1M --sources timing,silicon',
])
  .argument('<path>', 'where the FIFO is made; removed at the end')
  .option('--buffer-size <n>', 'bytes held ready, with K or M (default: 64K)')
  .option('--sources <names>', 'noise sources or families, with commas between')
  .action((path, options) =>
    ending(options.json, async () => {
      const { beginEntropyProcess } = await import('../appliance/entropy-ahead.ts');
      await using _ahead = beginEntropyProcess();
      const { serveDevice } = await import('../appliance/entropy-outputs.ts');
      const written = await serveDevice(await configOf(options), {
        path,
        bufferSize:
          options.bufferSize === undefined
            ? undefined
            : parseBytes('--buffer-size', options.bufferSize, 1, mostBuffered),
        sources: parseNames(options.sources),
        signal: stopSignal(),
        onReady: () => logLine(`Random bytes at ${path}. Stop with Ctrl-C.`),
      });
      if (options.json) printJson({ path, written });
    }),
  );
