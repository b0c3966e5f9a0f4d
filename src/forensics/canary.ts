// The last look before packing: secrets planted in what was collected (canaries) must not have survived redaction.
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { Failure } from '../host/failure.ts';

export interface Canary {
  /** Told in the refusal; the value never is. */
  readonly label: string;
  /** At least 8 bytes, so that it is not found by chance. */
  readonly value: Uint8Array;
}

/**
 * Searches every file under `directory` for each canary: raw, in hex and in base64.
 * @throws Failure `canary-survived` naming files and labels; nothing may be packed then.
 */
export async function refuseCanaries(directory: string, canaries: readonly Canary[]): Promise<void> {
  const needles = canaries.flatMap(({ label, value }) => forms(value).map((form) => ({ label, form })));
  if (needles.length === 0) return;
  const found: string[] = [];
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    for (const label of await search(path, needles)) found.push(`${label} in ${relative(directory, path)}`);
  }
  if (found.length === 0) return;
  throw new Failure(
    'canary-survived',
    `Secrets survived redaction, so no bundle is made: ${found.join('; ')}.`,
    {
      kept: `What was collected is in ${directory}; keep it on the node.`,
      remedy: 'Add a rule to policies/redaction.toml that covers these places, then collect again.',
    },
  );
}

async function search(
  path: string,
  needles: readonly { label: string; form: Buffer }[],
): Promise<ReadonlySet<string>> {
  const overlap = Math.max(...needles.map(({ form }) => form.length)) - 1;
  const found = new Set<string>();
  let tail: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    const text: Buffer = Buffer.concat([tail, chunk]);
    for (const { label, form } of needles) if (text.includes(form)) found.add(label);
    tail = text.subarray(Math.max(0, text.length - overlap));
  }
  return found;
}

function forms(value: Uint8Array): Buffer[] {
  const raw = Buffer.from(value);
  const hex = raw.toString('hex');
  const base64 = raw.toString('base64').replace(/=+$/, '');
  return [
    raw,
    ...[hex, hex.toUpperCase(), base64, base64.replaceAll('+', '-').replaceAll('/', '_')].map((text) =>
      Buffer.from(text),
    ),
  ];
}
