// That the archive of a bundle lies where it goes, while its signature file waits for a Sigstore service: noted in the courier's
// own directory, so that the next attempt does not read back a gigabyte again.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Delivered } from '../forensics/deliver.ts';
import { removeDurable, writeDurably } from '../host/durable.ts';
import { z } from '../host/zod.ts';

const suffix = '.sent.json';

const sentSchema = z.strictObject({
  /** With its parameters: another lock asks for another delivery. */
  upload: z.string(),
  where: z.string(),
  size: z.number(),
  sha256: z.string(),
  version: z.string().optional(),
  lock: z.strictObject({ mode: z.enum(['GOVERNANCE', 'COMPLIANCE']), until: z.string() }).optional(),
});

const noteOf = (directory: string, archive: string): string =>
  join(directory, `${basename(archive)}${suffix}`);

/** A full disk costs only that it is read back once more. */
export function noteArchive(directory: string, upload: string, { file, ...rest }: Delivered): void {
  try {
    writeDurably(noteOf(directory, file), JSON.stringify({ upload, ...rest }));
  } catch {}
}

/** Undefined where it is not known to lie there as `sha256` tells. */
export function archiveSent(
  directory: string,
  {
    archive,
    sha256,
    upload,
  }: { readonly archive: string; readonly sha256?: string; readonly upload: string },
): Delivered | undefined {
  const note = readNote(noteOf(directory, archive));
  if (note === undefined || note.upload !== upload || note.sha256 !== (sha256 ?? note.sha256))
    return undefined;
  const { upload: _, version, lock, ...rest } = note;
  // Another stick can be mounted there since.
  if (rest.where.startsWith('file:')) {
    const found = statSync(fileURLToPath(rest.where), { throwIfNoEntry: false });
    if (found?.size !== rest.size) return undefined;
  }
  return {
    file: archive,
    ...rest,
    ...(version === undefined ? {} : { version }),
    ...(lock === undefined ? {} : { lock }),
  };
}

/** Where the archive lies of which the name begins so; null where that is not noted. */
export function whereSent(directory: string, names: readonly string[], start: string): string | null {
  const name = names.find((file) => file.startsWith(start) && file.endsWith(suffix));
  return name === undefined ? null : (readNote(join(directory, name))?.where ?? null);
}

/** With the receipt, or with the bundle. */
export function forgetArchive(directory: string, archive: string): void {
  if (existsSync(directory)) removeDurable(noteOf(directory, archive));
}

function readNote(path: string): z.infer<typeof sentSchema> | undefined {
  try {
    return sentSchema.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data;
  } catch {
    return undefined;
  }
}
