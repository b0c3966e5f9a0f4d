// A small disk of one's own: a tmpfs, which is full when it is full.
import { spawnSync } from 'node:child_process';
import { mkdirSync, statfsSync } from 'node:fs';

export interface MemoryDisk extends Disposable {
  /** Bytes. */
  free(): number;
}

/** The sentence why there can be none, or undefined. */
export function memoryDiskMissing(): string | undefined {
  return process.geteuid?.() === 0 ? undefined : 'mounting a tmpfs needs root';
}

/** Mounts one at `path` until disposed; `size` as mount(8) takes it. */
export function memoryDisk(path: string, size: string): MemoryDisk {
  mkdirSync(path, { recursive: true, mode: 0o711 });
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=0711`, 'ea-disk', path]);
  if (mounted.status !== 0) throw new Error(`No tmpfs at ${path}: ${mounted.stderr}`);
  return {
    free: () => {
      const { bavail, bsize } = statfsSync(path);
      return bavail * bsize;
    },
    [Symbol.dispose]: () => {
      spawnSync('umount', ['--lazy', path]);
    },
  };
}
