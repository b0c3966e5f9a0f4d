// Where the members of one bundle lie while it is made. Of a bundle that will be encrypted nothing stays in clear, however its making
// ends: its members have no name there, so that the kernel takes them back with this process, also after a SIGKILL, and the file system
// when it is mounted again, after a power cut. What a kill left of other bundles is removed at the next start.
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

const prefix = '.collecting-';
const secretPrefix = '.encrypting-';
const keptMark = 'kept';

/** It goes with this object, unless it is to be kept. */
export class WorkingDirectory implements Disposable {
  readonly path: string;
  readonly #parent: string;
  readonly #secret: boolean;
  /** Of files without a name, by the path that leads to them. */
  readonly #held = new Map<string, number>();
  #kept = false;

  /** `secret`: nothing is ever kept, and files lose their names. */
  constructor(parent: string, sequence: number, secret: boolean) {
    this.#parent = parent;
    this.#secret = secret;
    this.path = join(parent, `${secret ? secretPrefix : prefix}${sequence}`);
    this.#remove();
    mkdirSync(this.path, { mode: 0o700 });
  }

  /** What was collected and not packed stays for whoever has to look at it, until that happens again: of each trouble the last is enough. */
  keep(): void {
    if (this.#secret) return;
    for (const name of readdirSync(this.#parent)) {
      const path = join(this.#parent, name);
      if (name.startsWith(prefix) && path !== this.path) rmSync(path, { recursive: true, force: true });
    }
    writeFileSync(join(this.path, keptMark), '', { mode: 0o600 });
    this.#kept = true;
  }

  /** A file has been made at a path in it. Where it is secret, a link leads there from now on, for this process alone. */
  made(path: string): void {
    if (!this.#secret) return;
    const fd = openSync(path, 'r');
    this.#held.set(path, fd);
    rmSync(path);
    symlinkSync(`/proc/${process.pid}/fd/${fd}`, path);
  }

  /** Removes a file. */
  remove(path: string): void {
    rmSync(path, { force: true });
    const fd = this.#held.get(path);
    this.#held.delete(path);
    if (fd !== undefined) closeSync(fd);
  }

  [Symbol.dispose](): void {
    for (const path of [...this.#held.keys()]) this.remove(path);
    if (!this.#kept) this.#remove();
  }

  #remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Removes what a kill left of bundles that were being made. Only where none is. */
export function removeAbandoned(parent: string): void {
  for (const name of readdirSync(parent)) {
    const path = join(parent, name);
    const unfinished = name.startsWith(prefix) && !existsSync(join(path, keptMark));
    if (unfinished || name.startsWith(secretPrefix) || /\.\d+\.new$/.test(name)) {
      rmSync(path, { recursive: true, force: true });
    }
  }
}

/** While it is there, whoever ends this process by a signal that can be caught takes along what was begun. Only where no other begins any. */
export function abandonedOnSignal(parent: string): Disposable {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const leave = (): void => {
    for (const signal of signals) process.off(signal, end);
  };
  const end = (signal: NodeJS.Signals): void => {
    removeAbandoned(parent);
    leave();
    process.kill(process.pid, signal);
  };
  for (const signal of signals) process.on(signal, end);
  return { [Symbol.dispose]: leave };
}
