// The mark of a zeroize under way: a file beside the lifecycle file, opened when the interlock is armed and written right after
// memory is wiped, so that one which is killed between two stages is finished at the next start. One write into the kernel's
// page cache, with no sync: it outlives the process, not the power; without power memory and kernel keys are gone as well.
// The file has its room from the beginning, filled with zeros and written over in place, so that a full disk cannot keep the
// mark away: where the lifecycle file cannot be replaced, the mark alone says that the node is zeroized, and is synced then. A disk
// that writes nothing in place (btrfs, ZFS) takes new room for it all the same, and may have none.
import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readIfPresent, syncDirectory } from '../host/durable.ts';
import { type Cause, causes, levels, type ZeroizeLevel } from './causes.ts';

/** Stages that can be left over, in their order; memory is wiped before the mark is set. */
export const lastingStages = ['kernel', 'tpm', 'disk'] as const;
export type LastingStage = (typeof lastingStages)[number];

export interface Interrupted {
  readonly cause: Cause;
  readonly level: ZeroizeLevel;
  /** Stages that ended well. */
  readonly done: readonly LastingStage[];
  /** Of the lifecycle file when the interlock was armed: another content means that an operator has re-armed the node since. */
  readonly lifecycle: string;
}

const name = 'zeroizing';
/** One block. A mark of three levels takes less than 500 bytes. */
const room = 4096;
const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
const pathBeside = (statePath: string): string => join(dirname(statePath), name);

export class Marker implements Disposable {
  readonly #path: string;
  readonly #lifecycle: string;
  #fd: number | undefined;

  /** Opens the file and takes its room. One that cannot be opened costs the resumption, never the zeroize. */
  constructor(statePath: string) {
    this.#path = pathBeside(statePath);
    this.#lifecycle = lifecycleDigest(statePath);
    try {
      this.#fd = openSync(this.#path, flags, 0o600);
      const { size } = fstatSync(this.#fd);
      if (size < room) writeSync(this.#fd, new Uint8Array(room - size), 0, room - size, size);
    } catch {}
  }

  begin(cause: number, level: ZeroizeLevel): void {
    this.#write(`${causes[cause - 1]} ${level} ${this.#lifecycle}\n`);
  }

  stageDone(stage: LastingStage): void {
    this.#write(`${stage}\n`);
  }

  /** For where nothing else on disk says that the node is zeroized. */
  sync(): void {
    if (this.#fd === undefined) return;
    try {
      fsyncSync(this.#fd);
    } catch {}
  }

  /** Nothing is left to do. */
  clear(): void {
    try {
      rmSync(this.#path, { force: true });
      syncDirectory(dirname(this.#path));
    } catch {}
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #write(line: string): void {
    if (this.#fd === undefined) return;
    try {
      writeSync(this.#fd, line, endOfMark(this.#fd));
    } catch {}
  }
}

/** Looked for each time: another thread may have taken over and gone on with the mark. */
function endOfMark(fd: number): number {
  const bytes = new Uint8Array(room);
  const length = readSync(fd, bytes, 0, room, 0);
  const end = bytes.subarray(0, length).indexOf(0);
  return end === -1 ? length : end;
}

const lifecycleDigest = (statePath: string): string =>
  createHash('sha256')
    .update(readIfPresent(statePath) ?? '')
    .digest('hex');

/** The zeroize that was interrupted; undefined where none was. Fails closed: a mark that cannot be read names no stage as done. */
export function readMarker(statePath: string): Interrupted | undefined {
  const text = (readIfPresent(pathBeside(statePath)) ?? '').replace(/\0+$/, '');
  return text === '' ? undefined : parseMarker(text);
}

export const removeMarker = (statePath: string): void => rmSync(pathBeside(statePath), { force: true });

/** Whether the mark is of the life that the lifecycle file tells of: a node that was re-armed since has another one. */
export const isOfThisLife = (mark: Interrupted, statePath: string): boolean =>
  mark.lifecycle === '' || mark.lifecycle === lifecycleDigest(statePath);

/** Pure. Only whole lines count, for the last may have been cut; what is not understood is as good as not done. */
export function parseMarker(text: string): Interrupted {
  const lines = text.split('\n').slice(0, -1);
  const begun = lines.flatMap((line, at) => {
    const [cause, level, lifecycle = ''] = line.split(' ');
    const known = levels.find((one) => one === level);
    return known === undefined ? [] : [{ at, cause, level: known, lifecycle }];
  });
  const last = begun.at(-1);
  return {
    cause: causes.find((known) => known === begun[0]?.cause) ?? 'state-unparsable',
    level: last?.level ?? 'lock',
    lifecycle: /^[0-9a-f]{64}$/.test(begun[0]?.lifecycle ?? '') ? (begun[0]?.lifecycle ?? '') : '',
    done: lastingStages.filter((stage) => lines.indexOf(stage, (last?.at ?? 0) + 1) !== -1),
  };
}
