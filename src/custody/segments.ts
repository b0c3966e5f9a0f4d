// Rotation: a log that has grown is moved aside whole, and the next file goes on with the next number and the hash of the last
// line. All files one after the other are one chain.
import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { syncDirectory } from '../host/durable.ts';
import { type ChainCheck, checkChain } from './chain.ts';

/** `custody.jsonl` -> `custody-000000001234.jsonl`, after the number of its last record. */
function segmentName(path: string, last: number): string {
  return `${basename(path, '.jsonl')}-${String(last).padStart(12, '0')}.jsonl`;
}

/** Files that were moved aside, the oldest first. */
export function segmentsOf(path: string): string[] {
  if (!existsSync(dirname(path))) return [];
  const stem = basename(path, '.jsonl');
  return readdirSync(dirname(path))
    .filter((name) => name.startsWith(`${stem}-`) && /^-\d{12}\.jsonl$/.test(name.slice(stem.length)))
    .toSorted()
    .map((name) => join(dirname(path), name));
}

export function moveAside(path: string, last: number): string {
  const segment = join(dirname(path), segmentName(path, last));
  renameSync(path, segment);
  syncDirectory(dirname(path));
  return segment;
}

/** The bytes of the whole log. `alive` is called after each of its files. */
export function wholeLog(path: string, alive: () => void = () => {}): Buffer {
  const files = [...segmentsOf(path), ...(existsSync(path) ? [path] : [])];
  const read = files.map((file) => {
    const bytes = readFileSync(file);
    alive();
    return bytes;
  });
  return Buffer.concat(read);
}

/** The whole log as its chain says it is; `alive` as in `checkChain`. */
export const checkLog = (path: string, alive?: () => void): ChainCheck =>
  checkChain(wholeLog(path, alive), alive);
