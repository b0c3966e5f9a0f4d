// What the courier says became of deliveries, into the custody log. It is the courier's word: where a bundle went and what was read
// back. A courier that has been taken over can lie about bundles that there are, each at a few places, and about nothing else.
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Receipt, takeReceipts } from '../alerts/receipts.ts';
import type { CustodyLog } from '../custody/log.ts';
import type { Delivered } from '../forensics/deliver.ts';
import { bundleMade } from '../forensics/format.ts';
import type { Announcer } from './announce.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

export interface Recording {
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly custody: CustodyLog;
  /** Undefined where no node runs. */
  readonly announcer?: Announcer;
}

type DeliveredReceipt = Extract<Receipt, { kind: 'delivered' }>;
type GivenUp = Extract<Receipt, { kind: 'given-up' }>;

/** Of a bundle, in the custody log; beside it `by`, whose word it is. */
export const bundleDelivered = 'bundle-delivered';
export const alertGivenUp = 'alert-given-up';

/** How many alerts a custody log takes in an hour as given up: each is a line for ever, and the courier could invent them. */
const mostGivenUpAnHour = 100;
const hour = 3_600_000;
/** How long a receipt is known that was recorded and, because the node was killed then, not removed. */
const remembered = 7 * 24 * hour;
/** At how many places a bundle can lie: each is a line of the log for ever as well. */
const mostPlaces = 8;
/** Deliveries that one look records: each waits for the disk, and the heartbeat of the node for all. */
const mostAtOnce = 64;

type Told = Partial<Pick<GivenUp, 'key' | 'channel' | 'at'>>;

const idOf = ({ key, channel, at }: Told): string => JSON.stringify([key, channel, at]);

/** Which alerts were recorded as given up of late, so that the custody log is read for them once. */
export class GivenUpLately {
  /** By what tells one from the other, when it was recorded: milliseconds since the epoch. */
  readonly #times = new Map<string, number>();
  /** Of the last, as many as an hour may have. */
  readonly #last: number[] = [];
  #loaded = false;

  /** Before anything is asked. @throws Failure `custody-unreadable`. */
  async load(custody: CustodyLog, now = Date.now()): Promise<void> {
    if (this.#loaded) return;
    const since = new Date(now - remembered).toISOString();
    for (const { time, detail } of await custody.recall({ events: [alertGivenUp], since }))
      this.add(detail, Date.parse(time));
    this.#loaded = true;
  }

  /** Whether the log takes no more of them now. */
  full(now = Date.now()): boolean {
    return !this.#loaded || (this.#last.length >= mostGivenUpAnHour && (this.#last[0] ?? 0) > now - hour);
  }

  has(told: Told): boolean {
    return this.#times.has(idOf(told));
  }

  add(told: Told, now = Date.now()): void {
    this.#times.set(idOf(told), now);
    for (const [id, time] of this.#times) {
      if (time > now - remembered) break;
      this.#times.delete(id);
    }
    if (this.#last.push(now) > mostGivenUpAnHour) this.#last.shift();
  }
}

/** @returns how many were recorded. */
export async function recordReceipts(recording: Recording, lately = new GivenUpLately()): Promise<number> {
  const { layout, announcer, custody } = recording;
  await lately.load(custody);
  const taken = takeReceipts(
    layout.receipts,
    (file, why) =>
      announcer?.event('RECEIPT_REJECTED', `A receipt of the courier is none: ${why}`, { file, why }),
    () => lately.full(),
  );
  if (taken.length === 0) return 0;
  const bundles = taken.flatMap(({ receipt }) =>
    receipt.kind === 'delivered' ? (sequenceOf(receipt.key, recording.record.node) ?? []) : [],
  );
  const events = [bundleMade, bundleDelivered];
  const history: Records = bundles.length === 0 ? [] : await custody.recall({ events, bundles });
  let recorded = 0;
  let deliveries = 0;
  for (const { receipt, done } of taken) {
    if (receipt.kind === 'delivered' && deliveries >= mostAtOnce) continue; // The next look's.
    const problem =
      receipt.kind === 'delivered'
        ? recordDelivery(receipt, recording, history)
        : recordGivenUp(receipt, recording, lately);
    if (problem === 'later') continue;
    if (problem === undefined) {
      recorded += 1;
      if (receipt.kind === 'delivered') deliveries += 1;
    } else if (problem !== 'known') {
      const { key } = receipt;
      announcer?.event('RECEIPT_REJECTED', `A receipt of the courier is refused: ${problem}`, {
        file: key,
        why: problem,
      });
    }
    done();
  }
  return recorded;
}

type Records = { event: string; detail: Readonly<Record<string, unknown>> }[];

/** Undefined when recorded, `known` when it was before, else why it is not. */
function recordDelivery(
  { key, at, files }: DeliveredReceipt,
  { layout, record, custody, announcer }: Recording,
  history: Records,
): string | undefined {
  const sequence = sequenceOf(key, record.node);
  const made = history.findLast(({ event, detail }) => event === bundleMade && detail.sequence === sequence);
  const [archive, signature] = files;
  if (made === undefined || sequence === undefined || archive === undefined)
    return 'no bundle of that number was made here';
  const named = new RegExp(`^${record.node}-0*${sequence}-\\d{8}T\\d{6}Z\\.tar\\.gz(\\.age)?$`);
  if (!named.test(archive.name) || !existsSync(join(layout.bundles, archive.name)))
    return 'that is not the name of the bundle';
  // What was encrypted has another digest than the archive that the log tells of.
  if (!archive.name.endsWith('.age') && made.detail.sha256 !== archive.sha256)
    return 'another content was delivered than was made';
  const { where } = archive;
  const earlier = history.filter(
    ({ event, detail }) => event === bundleDelivered && detail.sequence === sequence,
  );
  if (earlier.some(({ detail }) => detail.where === where)) return 'known';
  if (earlier.length >= mostPlaces) return `it was delivered to ${mostPlaces} places already`;
  const detail = {
    sequence,
    where,
    at,
    sha256: archive.sha256,
    ...(archive.version === undefined ? {} : { version: archive.version }),
    ...(archive.lock === undefined ? {} : { lock: archive.lock }),
    ...(signature === undefined ? {} : { signature: { name: signature.name, sha256: signature.sha256 } }),
    by: 'courier',
  };
  custody.append(bundleDelivered, detail);
  history.push({ event: bundleDelivered, detail });
  announcer?.event('BUNDLE_DELIVERED', `Forensic bundle ${archive.name} lies at ${where}.`, {
    archive: archive.name,
    where,
  });
  return undefined;
}

function recordGivenUp(
  { key, channel, at, severity, why }: GivenUp,
  { custody, announcer }: Recording,
  lately: GivenUpLately,
): string | undefined {
  if (lately.has({ key, channel, at })) return 'known';
  const given = { key, channel, at, severity, why };
  return tellGivenUp(given, { custody, announcer, lately }) ? undefined : 'later';
}

/**
 * An alert that will not be sent, in the custody log and as an event. `channel` is empty where no courier had it yet, `at` is when
 * the courier gave it up.
 * @returns false where the log takes no more of them in this hour.
 */
export function tellGivenUp(
  given: Pick<GivenUp, 'key' | 'channel' | 'severity' | 'why'> & Partial<Pick<GivenUp, 'at'>>,
  {
    custody,
    announcer,
    lately,
  }: {
    readonly custody: CustodyLog;
    readonly announcer?: Announcer | undefined;
    readonly lately: GivenUpLately;
  },
): boolean {
  if (lately.full()) return false;
  custody.append(alertGivenUp, given);
  lately.add(given);
  const { key, channel, why } = given;
  const to = channel === '' ? '' : ` to ${channel}`;
  announcer?.event('ALERT_GIVEN_UP', `The alert ${key} will not be sent${to}: ${why}`, {
    key,
    channel,
    why,
  });
  return true;
}

function sequenceOf(key: string, node: string): number | undefined {
  const start = `${node}-bundle-`;
  const digits = key.startsWith(start) ? key.slice(start.length) : '';
  return /^\d{1,15}$/.test(digits) ? Number(digits) : undefined;
}

/** The files of a delivery as a receipt names them. */
export const receiptFiles = (delivered: readonly Delivered[]): DeliveredReceipt['files'] =>
  delivered.map(({ file, ...rest }) => ({ name: basename(file), ...rest }));
