// A directory for one benchmark, removed at its end; those of earlier runs that were killed go when the next one is made.
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const prefix = 'ea-bench';

export function scratchDirectory(): Disposable & { readonly path: string } {
  for (const name of readdirSync(tmpdir())) {
    const pid = new RegExp(`^${prefix}-([0-9]+)-`).exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) remove(join(tmpdir(), name));
  }
  const path = mkdtempSync(join(tmpdir(), `${prefix}-${process.pid}-`));
  return { path, [Symbol.dispose]: () => remove(path) };
}

const remove = (path: string): void => rmSync(path, { recursive: true, force: true });
