// What a command that gives out random bytes of its own begins with, before it has loaded what it works with: a collector thread takes
// longer to start than the rest of a pool does to load, and nearly nothing else has to be there for it.
import { existsSync } from 'node:fs';
import { prepareCollectorWorker } from '../entropy/collector-worker.ts';
import { hardenProcess } from '../host/hardening.ts';
import { shareNativeHeaps } from '../host/heap.ts';
import { defaultConfigPath, defaultStateDirectory, stateLayout } from './state-layout.ts';

/** Hardens the process and starts the thread that its pool will use. Dispose of it when there is no pool any more. */
export function beginEntropyProcess(): AsyncDisposable {
  hardenProcess();
  shareNativeHeaps(); // Before the first thread.
  return prepareCollectorWorker();
}

/** As `beginEntropyProcess`, where no node seems to run that would be asked instead; undefined where one does, or it cannot be told yet. */
export const beginWithoutNode = (stateDirectory: string | undefined): AsyncDisposable | undefined =>
  stateDirectory === undefined || existsSync(stateLayout(stateDirectory).control)
    ? undefined
    : beginEntropyProcess();

/** The state directory, where that can be told before the configuration is read: undefined where a file decides. */
export function stateDirectoryOf({
  config,
  stateDir,
}: {
  readonly config?: string | undefined;
  readonly stateDir?: string | undefined;
}): string | undefined {
  if (stateDir !== undefined) return stateDir;
  return config === undefined && !existsSync(defaultConfigPath) ? defaultStateDirectory : undefined;
}
