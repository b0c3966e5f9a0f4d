// What a noise source is (SP 800-90B, section 2.2.1): one physical thing that is measured, raw 8-bit samples, nothing
// conditioned. Each family is one file in sources/.

export type Availability =
  | { readonly ok: true }
  | { readonly ok: false; readonly why: string; readonly remedy: string };

export interface NoiseSource {
  /** Kebab-case, unique; the name in the policy, in status and in metrics. */
  readonly name: string;
  /** What kind of measurement it is: `timing`, `counters`, `device`. */
  readonly family: string;
  /** Where the noise comes from, as a phrase. */
  readonly physical: string;
  /** Whether this machine has it; opens nothing for good. */
  available(): Availability;
  /** @throws when what was available no longer is. */
  open(): Sampler;
}

export interface Sampler extends Disposable {
  /**
   * Writes raw samples from the start of `into` and returns how many: at least one if any could be had, fewer than fit
   * where more would take longer than a few milliseconds.
   * @throws when the source has gone away.
   */
  sample(into: Uint8Array): number;
}

/** A source without preconditions. */
export const alwaysAvailable = (): Availability => ({ ok: true });

/** The low 8 bits of the nanoseconds from `start` until now. */
export const elapsedLow8 = (start: bigint): number => Number((process.hrtime.bigint() - start) & 0xffn);
