// Receipts: what the courier tells the node of its deliveries, as files in a directory of the courier's. The node reads them with more
// rights than the courier has and so believes nothing of their form (host/untrusted.ts); what is no receipt goes away.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeDurably } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { namesUntrusted, readUntrusted } from '../host/untrusted.ts';
import { z } from '../host/zod.ts';
import { severities, visibleWord } from './alert.ts';

const largestReceipt = 16_384;
/** Names that one look takes in, and receipts that it reads; the rest waits for the next. */
const mostNames = 32_768;
const mostRead = 512;

const line = (most: number) =>
  z
    .string()
    .regex(/^[\x20-\x7e]+$/)
    .max(most);
const at = z.iso.datetime();

const deliveredFile = z.strictObject({
  name: line(255),
  /** `s3://bucket/key` or `file:///path`, without parameters. A key of S3 has 1024 bytes, of which each may take three here. */
  where: line(4096).regex(/^(s3|file):\/\/[^?#]+$/),
  size: z.int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  version: line(1024).optional(),
  lock: z.strictObject({ mode: z.enum(['GOVERNANCE', 'COMPLIANCE']), until: at }).optional(),
});
export const receiptSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('delivered'),
    /** Of the job. */
    key: z.string().regex(visibleWord),
    at,
    files: z.array(deliveredFile).min(1).max(4),
  }),
  /** An alert that will not be sent any more. */
  z.strictObject({
    kind: z.literal('given-up'),
    key: z.string().regex(visibleWord),
    at,
    /** The identifier of the channel. */
    channel: z.string().regex(visibleWord),
    severity: z.enum(severities),
    why: z.string().min(1).max(2000),
  }),
]);
export type Receipt = z.infer<typeof receiptSchema>;

/** Leaves a receipt, on disk when it returns; one about the same thing is replaced. @throws Failure `receipt-unwritable`. */
export function writeReceipt(directory: string, receipt: Receipt): void {
  const channel = receipt.kind === 'given-up' ? `-${receipt.channel}` : '';
  const name = `${receipt.kind}-${receipt.key}${channel}`.slice(0, 200);
  try {
    const checked = receiptSchema.safeParse(receipt);
    if (!checked.success) throw new Error(sentenceOf(checked.error));
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    writeDurably(join(directory, `${name}.json`), JSON.stringify(checked.data));
  } catch (error) {
    throw new Failure(
      'receipt-unwritable',
      `The receipt for ${receipt.key} cannot be written: ${reasonOf(error)}.`,
      {
        kept: 'What it tells of is done; the node does not know of it yet.',
        remedy: `Check that ${directory} belongs to the user of the courier and has room.`,
        cause: error,
      },
    );
  }
}

const sentenceOf = (error: z.ZodError): string => z.prettifyError(error).replaceAll('\n', ' ');

export interface TakenReceipt {
  readonly receipt: Receipt;
  /** Removes the file; to be called once the receipt is recorded. */
  done(): void;
}

/**
 * The receipts that lie there, those of deliveries first; none where there is no such directory. `full` says whether an alert that
 * was given up is to wait: its receipt is not read then. What is no receipt is removed and told to `onRejected`.
 */
export function takeReceipts(
  directory: string,
  onRejected: (file: string, why: string) => void,
  full: () => boolean = () => false,
): TakenReceipt[] {
  const names = Map.groupBy(fileNames(directory), (name) => name.startsWith('given-up-'));
  const [first, last] = [names.get(false) ?? [], names.get(true) ?? []];
  const wanted = last.length === 0 || full() ? first : [...first, ...last];
  return wanted.slice(0, mostRead).flatMap((name) => {
    const path = join(directory, name);
    const remove = (): void => rmSync(path, { force: true });
    try {
      return [{ receipt: readReceipt(path, name), done: remove }];
    } catch (error) {
      try {
        remove();
        onRejected(name.slice(0, 200), reasonOf(error).slice(0, 500));
      } catch {
        // A directory, which only the courier can have made: it is in nobody's way.
      }
      return [];
    }
  });
}

/** Sorted. A file that is still being written has another ending. */
function fileNames(directory: string): string[] {
  try {
    return namesUntrusted(directory, mostNames)
      .filter((name) => name.endsWith('.json'))
      .sort();
  } catch {
    return []; // Not there yet, or not ours to read: nothing to take.
  }
}

/** @throws where it is none. */
function readReceipt(path: string, name: string): Receipt {
  const read = readUntrusted(path, largestReceipt);
  if ('problem' in read) throw new Error(read.problem);
  const checked = receiptSchema.safeParse(JSON.parse(read.text));
  if (!checked.success) throw new Error(sentenceOf(checked.error));
  // Else it would be among those that do not wait.
  if (!name.startsWith(`${checked.data.kind}-`)) throw new Error('It is of another kind than its name says.');
  return checked.data;
}
