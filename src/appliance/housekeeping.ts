// What a running node looks after every few seconds: receipts of the courier, and that neither spool nor bundles outgrow their limits.
import { limitSpool } from '../alerts/spool.ts';
import { reasonOf } from '../host/failure.ts';
import type { Announcer } from './announce.ts';
import type { Config } from './config.ts';
import { GivenUpLately, type Recording, recordReceipts, tellGivenUp } from './receipts.ts';
import { type GoneBundle, limitBundles, Settled } from './retention.ts';

const everyMilliseconds = 1000;
const day = 86_400_000;

export class Housekeeping implements AsyncDisposable {
  readonly #node: Recording & { readonly config: Config; readonly announcer: Announcer };
  readonly #remembered: Remembered = { lately: new GivenUpLately(), settled: new Settled() };
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> | undefined;
  /** What was in the way last time, so that it is told once. */
  #trouble = '';

  constructor(node: Recording & { readonly config: Config; readonly announcer: Announcer }) {
    this.#node = node;
    this.#timer = setInterval(() => {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = undefined;
      });
    }, everyMilliseconds);
    this.#timer.unref();
  }

  /** A look that is under way still writes into the custody log. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  async #look(): Promise<void> {
    try {
      await keepHouse(this.#node, this.#remembered);
      this.#trouble = '';
    } catch (error) {
      const why = reasonOf(error);
      if (why === this.#trouble) return;
      this.#trouble = why;
      this.#node.announcer.note('warning', `Receipts and limits could not be looked after: ${why}`, { why });
    }
  }
}

/** From one look to the next, so that the custody log need not be read for each. */
interface Remembered {
  readonly lately: GivenUpLately;
  readonly settled: Settled;
}

/** Once, also where no node runs. @returns the bundles that are no longer kept. */
export async function keepHouse(
  node: Recording & { readonly config: Config },
  { lately, settled }: Remembered = { lately: new GivenUpLately(), settled: new Settled() },
): Promise<GoneBundle[]> {
  const { config, layout } = node;
  await recordReceipts(node, lately);
  const { spool_bytes: bytes, spool_days: days } = config.courier;
  limitSpool(layout.spool, { bytes, ageMilliseconds: days * day }, ({ key, severity, why }) =>
    tellGivenUp(
      { key, channel: '', severity, why: `Given up because of its ${why}, by the limits of the spool.` },
      { ...node, lately },
    ),
  );
  return await limitBundles(node, Date.now(), settled);
}
