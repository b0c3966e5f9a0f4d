// Rotation: a log that has grown is moved aside whole, and the next file goes on with the next number and the hash of the last
// line. All files one after the other are one chain.
import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { syncDirectory } from '../host/durable.ts';

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

/** The bytes of the whole log. */
export function wholeLog(path: string): Buffer {
  const files = [...segmentsOf(path), ...(existsSync(path) ? [path] : [])];
  return Buffer.concat(files.map((file) => readFileSync(file)));
}
