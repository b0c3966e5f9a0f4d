// Random values for programs: bytes, typed arrays, integers without bias, floats, choices and shuffles, from any supply of random bytes.
// Distributions other than the uniform one are in distributions.ts and the two beside it. After the example of NumPy's Generator, under
// JavaScript's names.
import { CountDistributions, totalOf } from './distributions-counts.ts';
import { permuteEach, permuteSlices, type Shaped } from './shaped.ts';

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

export type { Shaped } from './shaped.ts';

export interface ChoiceOptions {
  /** Whether an item may come more than once. Default false. */
  readonly replace?: boolean;
  /** Of each item, not negative, not all zero; they need not add up to one. Without replacement, of those that are left. */
  readonly weights?: readonly number[];
}

/** Values that are drawn one by one come out of a block of this many bytes, wiped as it is used. */
const blockLength = 4096;
const two24 = 2 ** 24;
const two32 = 2 ** 32;
const two53 = 2 ** 53;

export class Random extends CountDistributions {
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
    const array = new elements[element](lengthOf(shape)) as ArrayOf<E>;
    if (array instanceof Float64Array) this.#fillFloats(array, () => this.float());
    else if (array instanceof Float32Array) this.#fillFloats(array, () => (this.uint32() >>> 8) / two24);
    else this.fill(array);
    return { array, shape };
  }

  /**
   * Of any distribution in any shape, `sample('uint8', [3, 4], () => random.integer(0, 10))`: one draw for each element. A typed
   * array stores what it can: integers wrap around.
   */
  sample<E extends Element>(
    element: E,
    shape: readonly number[],
    draw: () => ArrayOf<E>[number],
  ): Shaped<ArrayOf<E>> {
    const array = new elements[element](lengthOf(shape)) as ArrayOf<E>;
    for (let i = 0; i < array.length; i++) array[i] = draw();
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
  override integer(low: number, high: number): number {
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
      return this.#weighted(items, count, { weights, replace });
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

  /** A copy whose slices along an axis (0: the first) are in random order, each slice whole. @throws RangeError: no such axis. */
  permuteSlices<A extends ArrayBufferView & { [index: number]: unknown; slice(): A }>(
    values: Shaped<A>,
    axis = 0,
  ): Shaped<A> {
    return permuteSlices(values, axis, this);
  }

  /** A copy in which each line along an axis is in a random order of its own. @throws RangeError: no such axis. */
  permuteEach<A extends ArrayBufferView & { [index: number]: unknown; slice(): A }>(
    values: Shaped<A>,
    axis = 0,
  ): Shaped<A> {
    return permuteEach(values, axis, this);
  }

  #fillFloats<T extends Float32Array | Float64Array>(out: T, next: () => number): T {
    for (let i = 0; i < out.length; i++) out[i] = next();
    return out;
  }

  protected override admit(): void {
    this.#admit();
  }

  #weighted<T>(
    items: readonly T[],
    count: number,
    { weights, replace }: Required<Pick<ChoiceOptions, 'weights' | 'replace'>>,
  ): T[] {
    if (weights.length !== items.length) throw new RangeError('there is one weight for each item');
    if (count === 0) return [];
    const left = [...weights];
    let sums = runningSums(left);
    if (!replace && count > left.filter((weight) => weight > 0).length)
      throw new RangeError(`${count} of these items cannot be chosen without replacement`);
    return Array.from({ length: count }, () => {
      const point = this.float() * (sums.at(-1) ?? 0);
      const at = sums.findIndex((sum) => point < sum);
      if (!replace) {
        left[at] = 0;
        if (left.some((weight) => weight > 0)) sums = runningSums(left);
      }
      return items[at] as T;
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

function runningSums(weights: readonly number[]): number[] {
  totalOf(weights);
  let sum = 0;
  return weights.map((weight) => {
    sum += weight;
    return sum;
  });
}

function lengthOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * requireCount(side), 1);
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
