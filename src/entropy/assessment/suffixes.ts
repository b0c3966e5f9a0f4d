// Suffix array by induced sorting (Nong, Zhang and Chan, "Two efficient algorithms for linear time suffix array construction", 2011), and
// the lengths of common prefixes of neighbours (Kasai and others, 2001). Both take time linear in the length, whatever the symbols are.

/** The order of all suffixes of `text`, whose symbols are below `alphabet`. */
export function suffixArray(text: Uint8Array | Int32Array, alphabet: number): Int32Array {
  const { length } = text;
  const order = new Int32Array(length);
  if (length === 1) return order;
  if (length === 0) return order;
  const small = typesOf(text);
  const starts = bucketStarts(text, alphabet);
  const marks = leftmostSmall(small);
  induce(text, order, marks, small, starts);
  if (marks.length > 1) induce(text, order, sortedMarks(text, order, marks, small), small, starts);
  return order;
}

/** 1 where a suffix is smaller than the one after it (S-type), 0 where it is larger (L-type). */
function typesOf(text: Uint8Array | Int32Array): Uint8Array {
  const small = new Uint8Array(text.length);
  for (let i = text.length - 2; i >= 0; i--) {
    const here = text[i] as number;
    const next = text[i + 1] as number;
    small[i] = here === next ? (small[i + 1] as number) : here < next ? 1 : 0;
  }
  return small;
}

function bucketStarts(text: Uint8Array | Int32Array, alphabet: number): Int32Array {
  const starts = new Int32Array(alphabet + 1);
  for (let i = 0; i < text.length; i++) {
    const slot = (text[i] as number) + 1;
    starts[slot] = (starts[slot] as number) + 1;
  }
  for (let symbol = 0; symbol < alphabet; symbol++)
    starts[symbol + 1] = (starts[symbol + 1] as number) + (starts[symbol] as number);
  return starts;
}

/** Positions of S-type suffixes that follow an L-type one, in the order of the text. */
function leftmostSmall(small: Uint8Array): Int32Array {
  let count = 0;
  for (let i = 1; i < small.length; i++) if (small[i] === 1 && small[i - 1] === 0) count += 1;
  const marks = new Int32Array(count);
  let at = 0;
  for (let i = 1; i < small.length; i++) if (small[i] === 1 && small[i - 1] === 0) marks[at++] = i;
  return marks;
}

/** Sorts all suffixes from the sorted (or, for a first approximation, unsorted) leftmost small ones. */
function induce(
  text: Uint8Array | Int32Array,
  order: Int32Array,
  marks: Int32Array,
  small: Uint8Array,
  starts: Int32Array,
): void {
  const { length } = text;
  order.fill(-1);
  const ends = starts.slice(1);
  for (let i = marks.length - 1; i >= 0; i--) {
    const mark = marks[i] as number;
    const symbol = text[mark] as number;
    const slot = (ends[symbol] as number) - 1;
    ends[symbol] = slot;
    order[slot] = mark;
  }
  const heads = starts.slice();
  // The last suffix is the smallest of its bucket: nothing follows its symbol.
  const placeLarge = (suffix: number): void => {
    const symbol = text[suffix] as number;
    const slot = heads[symbol] as number;
    heads[symbol] = slot + 1;
    order[slot] = suffix;
  };
  placeLarge(length - 1);
  for (let i = 0; i < length; i++) {
    const before = (order[i] as number) - 1;
    if (before >= 0 && small[before] === 0) placeLarge(before);
  }
  const tails = starts.slice(1);
  for (let i = length - 1; i >= 0; i--) {
    const before = (order[i] as number) - 1;
    if (before < 0 || small[before] === 0) continue;
    const symbol = text[before] as number;
    const slot = (tails[symbol] as number) - 1;
    tails[symbol] = slot;
    order[slot] = before;
  }
}

/** The marks in the order of their suffixes: named by the substrings between them, sorted by recursion where names repeat. */
function sortedMarks(
  text: Uint8Array | Int32Array,
  order: Int32Array,
  marks: Int32Array,
  small: Uint8Array,
): Int32Array {
  const { length } = text;
  const rankOfMark = new Int32Array(length).fill(-1);
  for (let i = 0; i < marks.length; i++) rankOfMark[marks[i] as number] = i;
  const names = new Int32Array(marks.length);
  let name = 0;
  let last = -1;
  for (let i = 0; i < length; i++) {
    const suffix = order[i] as number;
    const mark = suffix < 0 ? -1 : (rankOfMark[suffix] as number);
    if (mark === -1) continue;
    if (last !== -1 && !sameSubstring(text, small, marks, rankOfMark, last, suffix)) name += 1;
    names[mark] = name;
    last = suffix;
  }
  const sorted = suffixArray(names, name + 1);
  return sorted.map((mark) => marks[mark] as number);
}

/** Whether the substrings from two marks to their next marks (included) are equal. */
function sameSubstring(
  text: Uint8Array | Int32Array,
  small: Uint8Array,
  marks: Int32Array,
  rankOfMark: Int32Array,
  one: number,
  other: number,
): boolean {
  const end = (mark: number): number => marks[(rankOfMark[mark] as number) + 1] ?? text.length;
  const span = end(one) - one;
  if (span !== end(other) - other || Math.max(one, other) + span >= text.length) return false;
  for (let i = 0; i <= span; i++) {
    if (text[one + i] !== text[other + i] || small[one + i] !== small[other + i]) return false;
  }
  return true;
}

/** For each suffix in sorted order, how many symbols it shares with the one before it. */
export function commonPrefixes(text: Uint8Array, order: Int32Array): Int32Array {
  const { length } = text;
  const rank = new Int32Array(length);
  for (let i = 0; i < length; i++) rank[order[i] as number] = i;
  const common = new Int32Array(length);
  let shared = 0;
  for (let i = 0; i < length; i++) {
    const place = rank[i] as number;
    if (place === 0) {
      shared = 0;
      continue;
    }
    const before = order[place - 1] as number;
    const most = length - Math.max(i, before);
    while (shared < most && text[i + shared] === text[before + shared]) shared += 1;
    common[place] = shared;
    if (shared > 0) shared -= 1;
  }
  return common;
}
