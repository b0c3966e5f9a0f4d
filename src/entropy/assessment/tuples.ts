// Min-entropy estimators of NIST SP 800-90B that count repeated tuples: sections 6.3.5 (t-tuple) and 6.3.6 (longest
// repeated substring). Both read one suffix array. Results are bits per symbol.
import { upperBound } from './frequencies.ts';

const leastOccurrences = 35;

/** Undefined where nothing repeats (often enough). */
export function tuples(symbols: Uint8Array): {
  tTuple: number | undefined;
  longestRepeat: number | undefined;
} {
  const { most, pairs } = repeats(commonPrefixes(symbols));
  const { length } = symbols;
  const longest = most.length - 1;
  let mostLikely = 0;
  let size = 1;
  for (; size <= longest; size++) {
    const occurrences = most[size] ?? 0;
    if (occurrences < leastOccurrences) break;
    mostLikely = Math.max(mostLikely, (occurrences / (length - size + 1)) ** (1 / size));
  }
  let collides = 0;
  for (let width = size; width <= longest; width++) {
    const positions = length - width + 1;
    collides = Math.max(collides, ((2 * (pairs[width] ?? 0)) / (positions * (positions - 1))) ** (1 / width));
  }
  const entropy = (probability: number): number | undefined =>
    probability === 0 ? undefined : -Math.log2(upperBound(probability, length));
  return { tTuple: entropy(mostLikely), longestRepeat: entropy(collides) };
}

/**
 * By length of tuple: the most occurrences of one tuple, and the pairs of positions at which equal tuples begin. One
 * walk over the tree of common prefixes: what holds for a prefix holds for all shorter ones.
 */
function repeats(common: Int32Array): { most: Float64Array; pairs: Float64Array } {
  let longest = 0;
  for (const prefix of common) longest = Math.max(longest, prefix);
  const most = new Float64Array(longest + 1);
  const pairs = new Float64Array(longest + 1);
  const open: { size: number; suffixes: number; pairs: number }[] = [];
  for (let i = 1; i <= common.length; i++) {
    const size = common[i] ?? -1;
    let suffixes = 1;
    let within = 0;
    for (let node = open.at(-1); node !== undefined && node.size > size; node = open.at(-1)) {
      open.pop();
      suffixes += node.suffixes;
      const all = (suffixes * (suffixes - 1)) / 2;
      pairs[node.size] = (pairs[node.size] ?? 0) + all - node.pairs - within;
      most[node.size] = Math.max(most[node.size] ?? 0, suffixes);
      within = all;
    }
    const parent = open.at(-1);
    if (parent?.size === size) {
      parent.suffixes += suffixes;
      parent.pairs += within;
    } else open.push({ size, suffixes, pairs: within });
  }
  for (let size = longest - 1; size >= 0; size--) {
    most[size] = Math.max(most[size] ?? 0, most[size + 1] ?? 0);
    pairs[size] = (pairs[size] ?? 0) + (pairs[size + 1] ?? 0);
  }
  return { most, pairs };
}

/** For each suffix in sorted order, how many symbols it shares with the one before (Kasai's algorithm). */
function commonPrefixes(symbols: Uint8Array): Int32Array {
  const { order, rank } = suffixOrder(symbols);
  const { length } = symbols;
  const common = new Int32Array(length);
  let shared = 0;
  for (let i = 0; i < length; i++) {
    const place = rank[i] ?? 0;
    if (place === 0) {
      shared = 0;
      continue;
    }
    const before = order[place - 1] ?? 0;
    while (
      i + shared < length &&
      before + shared < length &&
      symbols[i + shared] === symbols[before + shared]
    ) {
      shared += 1;
    }
    common[place] = shared;
    if (shared > 0) shared -= 1;
  }
  return common;
}

/** The suffix array and its inverse, by doubling the length of the prefix that is sorted. */
function suffixOrder(symbols: Uint8Array): { order: Int32Array; rank: Int32Array } {
  const { length } = symbols;
  let rank = Int32Array.from(symbols);
  let order = countingSort(
    Int32Array.from({ length }, (_, i) => i),
    rank,
    256,
  );
  for (let sorted = 0; ; sorted = sorted === 0 ? 1 : sorted * 2) {
    const next = new Int32Array(length);
    let classes = 0;
    for (let i = 1; i < length; i++) {
      const here = order[i] ?? 0;
      const before = order[i - 1] ?? 0;
      if (
        rank[here] !== rank[before] ||
        (sorted > 0 && second(rank, here, sorted) !== second(rank, before, sorted))
      ) {
        classes += 1;
      }
      next[here] = classes;
    }
    rank = next;
    if (classes === length - 1) return { order, rank };
    const step = sorted === 0 ? 1 : sorted * 2;
    const bySecond = new Int32Array(length);
    let filled = 0;
    for (let i = Math.max(0, length - step); i < length; i++) bySecond[filled++] = i;
    for (const suffix of order) if (suffix >= step) bySecond[filled++] = suffix - step;
    order = countingSort(bySecond, rank, classes + 1);
  }
}

const second = (rank: Int32Array, suffix: number, offset: number): number =>
  suffix + offset < rank.length ? (rank[suffix + offset] ?? 0) : -1;

/** A stable sort of suffixes by their rank. */
function countingSort(suffixes: Int32Array, rank: Int32Array, classes: number): Int32Array {
  const starts = new Int32Array(classes + 1);
  for (const suffix of suffixes) {
    const slot = (rank[suffix] ?? 0) + 1;
    starts[slot] = (starts[slot] ?? 0) + 1;
  }
  for (let i = 1; i <= classes; i++) starts[i] = (starts[i] ?? 0) + (starts[i - 1] ?? 0);
  const sorted = new Int32Array(suffixes.length);
  for (const suffix of suffixes) {
    const slot = rank[suffix] ?? 0;
    const at = starts[slot] ?? 0;
    sorted[at] = suffix;
    starts[slot] = at + 1;
  }
  return sorted;
}
