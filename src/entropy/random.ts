// Random values for programs: bytes, typed arrays, integers without bias, floats, choices and shuffles, from any supply of random bytes.
// Distributions other than the uniform one are in distributions.ts. After the example of NumPy's Generator, under JavaScript's names.
import { Distributions } from './distributions.ts';

/** Fills all of `out`, or throws and leaves zeros. */
export type Supply = (out: Uint8Array) => void;

const elements = {
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  bigint64: BigInt64Array,
  biguint64: BigUint64Array,
  float32: Float32Array,
  float64: Float64Array,
} as const;
export type Element = keyof typeof elements;
type ArrayOf<E extends Element> = InstanceType<(typeof elements)[E]>;

/** `array` holds the values row by row (C order). */
export interface Shaped<A> {
  readonly array: A;
  readonly shape: readonly number[];
}

export interface ChoiceOptions {
  /** How many; one value rather than an array unless given. */
  readonly replace?: boolean;
  /** Of each item, not negative, not all zero; they need not add up to one. Only with replacement. */
  readonly weights?: readonly number[];
}

/** Values that are drawn one by one come out of a block of this many bytes, wiped as it is used. */
const blockLength = 4096;
const two24 = 2 ** 24;
const two32 = 2 ** 32;
const two53 = 2 ** 53;

export class Random extends Distributions {
  readonly #supply: Supply;
  readonly #block = new Uint8Array(blockLength);
  readonly #view = new DataView(this.#block.buffer);
  readonly #admit: () => void;
  #at = blockLength;

  /** `admit` throws when nothing may be given out any more, what is left of a block included; called before each value. */
  constructor(supply: Supply, admit: () => void = () => {}) {
    super();
    this.#supply = supply;
    this.#admit = admit;
  }

  /** Fills an array of integers, or a DataView, with random bits. Returns it. */
  fill<T extends ArrayBufferView>(view: T): T {
    this.#supply(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
    return view;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    return this.fill(new Uint8Array(requireCount(length)));
  }

  /**
   * In any shape, `array('uint16', 3, 4)`: integers over the whole range of the element, or floats in [0, 1), multiples of 2^-24
   * (`float32`) or 2^-53 (`float64`).
   */
  array<E extends Element>(element: E, ...shape: number[]): Shaped<ArrayOf<E>> {
    const length = shape.reduce((product, side) => product * requireCount(side), 1);
    const array = new elements[element](length) as ArrayOf<E>;
    if (array instanceof Float64Array) this.#fillFloats(array, () => this.float());
    else if (array instanceof Float32Array) this.#fillFloats(array, () => (this.uint32() >>> 8) / two24);
    else this.fill(array);
    return { array, shape };
  }

  /** 32 random bits, as a number that is not negative. */
  uint32(): number {
    this.#need(4);
    const value = this.#view.getUint32(this.#at);
    this.#use(4);
    return value;
  }

  /**
   * From `low` to below `high`, all equally likely (by rejection, so without any bias).
   * @throws RangeError where the range is empty, or not of safe integers.
   */
  integer(low: number, high: number): number {
    const range = high - low;
    if (!(Number.isSafeInteger(low) && Number.isSafeInteger(high) && range > 0 && range <= two53))
      throw new RangeError('low and high are safe integers, high above low, at most 2^53 apart');
    return low + (range <= two32 ? this.#below32(range) : this.#below53(range));
  }

  integers(low: number, high: number, count: number): number[] {
    return Array.from({ length: requireCount(count) }, () => this.integer(low, high));
  }

  /** From `low` to below `high`, of any size. @throws RangeError where the range is empty. */
  bigint(low: bigint, high: bigint): bigint {
    const range = high - low;
    if (range <= 0n) throw new RangeError('high is above low');
    const bits = (range - 1n).toString(2).length;
    for (;;) {
      const value = this.bytes(Math.ceil(bits / 8)).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
      const candidate = BigInt.asUintN(bits, value);
      if (candidate < range) return low + candidate;
    }
  }

  /** A multiple of 2^-53 in [0, 1). */
  override float(): number {
    return this.#bits53() / two53;
  }

  floats(count: number): Float64Array {
    return this.#fillFloats(new Float64Array(requireCount(count)), () => this.float());
  }

  boolean(): boolean {
    return (this.uint32() & 1) === 1;
  }

  /** One of the items. @throws RangeError where there are none. */
  choice<T>(items: readonly T[], options: Pick<ChoiceOptions, 'weights'> = {}): T {
    const [chosen] = this.choices(items, 1, { ...options, replace: true });
    return chosen as T;
  }

  /** `count` of the items, each at most once unless `replace`. @throws RangeError where that cannot be. */
  choices<T>(items: readonly T[], count: number, { replace = false, weights }: ChoiceOptions = {}): T[] {
    requireCount(count);
    if (items.length === 0 && count > 0) throw new RangeError('there is nothing to choose from');
    if (weights !== undefined) {
      if (!replace) throw new RangeError('weights are for choices with replacement');
      return this.#weighted(items, count, weights);
    }
    if (replace) return Array.from({ length: count }, () => items[this.integer(0, items.length)] as T);
    if (count > items.length)
      throw new RangeError(`${count} of ${items.length} cannot be chosen without replacement`);
    // The first steps of a shuffle.
    const pool = [...items];
    for (let i = 0; i < count; i++) swap(pool, i, this.integer(i, pool.length));
    return pool.slice(0, count);
  }

  /** In place (Fisher and Yates, Durstenfeld's form): every order is equally likely. Returns the array. */
  shuffle<T extends { length: number; [index: number]: unknown }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) swap(items, i, this.integer(0, i + 1));
    return items;
  }

  /** The numbers from 0 to below `count`, or a copy of the items, in random order. */
  permutation(count: number): number[];
  permutation<T>(items: readonly T[]): T[];
  permutation<T>(what: number | readonly T[]): (number | T)[] {
    return this.shuffle(
      typeof what === 'number' ? Array.from({ length: requireCount(what) }, (_, i) => i) : [...what],
    );
  }

  #fillFloats<T extends Float32Array | Float64Array>(out: T, next: () => number): T {
    for (let i = 0; i < out.length; i++) out[i] = next();
    return out;
  }

  protected override admit(): void {
    this.#admit();
  }

  #weighted<T>(items: readonly T[], count: number, weights: readonly number[]): T[] {
    if (
      weights.length !== items.length ||
      weights.some((weight) => !(weight >= 0 && Number.isFinite(weight)))
    )
      throw new RangeError('there is one weight for each item, none negative');
    const sums: number[] = [];
    let total = 0;
    for (const weight of weights) {
      total += weight;
      sums.push(total);
    }
    if (!(total > 0)) throw new RangeError('not all weights are zero');
    return Array.from({ length: count }, () => {
      const point = this.float() * total;
      return items[sums.findIndex((sum) => point < sum)] as T;
    });
  }

  /** Rejection of the incomplete last range of 2^32. */
  #below32(range: number): number {
    const limit = two32 - (two32 % range);
    for (;;) {
      const value = this.uint32();
      if (value < limit) return value % range;
    }
  }

  #below53(range: number): number {
    const limit = two53 - (two53 % range);
    for (;;) {
      const value = this.#bits53();
      if (value < limit) return value % range;
    }
  }

  #bits53(): number {
    this.#need(8);
    const high = this.#view.getUint32(this.#at) >>> 11;
    const low = this.#view.getUint32(this.#at + 4);
    this.#use(8);
    return high * two32 + low;
  }

  #need(bytes: number): void {
    this.#admit();
    if (this.#at + bytes <= blockLength) return;
    this.#supply(this.#block);
    this.#at = 0;
  }

  /** What has been given out is not kept. */
  #use(bytes: number): void {
    this.#block.fill(0, this.#at, this.#at + bytes);
    this.#at += bytes;
  }
}

function swap(items: { [index: number]: unknown }, one: number, other: number): void {
  const held = items[one];
  items[one] = items[other];
  items[other] = held;
}

function requireCount(count: number): number {
  if (Number.isSafeInteger(count) && count >= 0) return count;
  throw new RangeError('a count is a whole number, not negative');
}
