// Arrays of any shape, and the random orders of what lies along one of their axes.

/** `array` holds the values row by row (C order). */
export interface Shaped<A> {
  readonly array: A;
  readonly shape: readonly number[];
}

type Values<A> = ArrayBufferView & { [index: number]: unknown; slice(): A };
interface Orders {
  permutation(count: number): number[];
}

/** A copy whose slices along `axis` are in random order, each slice whole. @throws RangeError where there is no such axis. */
export function permuteSlices<A extends Values<A>>(
  values: Shaped<A>,
  axis: number,
  random: Orders,
): Shaped<A> {
  const { outer, side, inner } = stridesOf(values.shape, axis);
  const order = random.permutation(side);
  return reordered(values, { outer, side, inner }, () => order);
}

/** A copy in which each line along `axis` is in a random order of its own. @throws RangeError where there is no such axis. */
export function permuteEach<A extends Values<A>>(values: Shaped<A>, axis: number, random: Orders): Shaped<A> {
  const strides = stridesOf(values.shape, axis);
  return reordered(values, strides, () => random.permutation(strides.side));
}

interface Strides {
  /** Lines before the axis, elements along it, and from one of these to the next. */
  readonly outer: number;
  readonly side: number;
  readonly inner: number;
}

function stridesOf(shape: readonly number[], axis: number): Strides {
  const side = shape[axis];
  if (side === undefined) throw new RangeError(`an array of ${shape.length} axes has no axis ${axis}`);
  const product = (sides: readonly number[]): number => sides.reduce((all, each) => all * each, 1);
  return { outer: product(shape.slice(0, axis)), side, inner: product(shape.slice(axis + 1)) };
}

function reordered<A extends Values<A>>(
  { array, shape }: Shaped<A>,
  { outer, side, inner }: Strides,
  orderOf: () => readonly number[],
): Shaped<A> {
  const out = array.slice();
  for (let line = 0; line < outer * inner; line++) {
    const start = Math.floor(line / inner) * side * inner + (line % inner);
    for (const [to, from] of orderOf().entries()) out[start + to * inner] = array[start + from * inner];
  }
  return { array: out, shape };
}
