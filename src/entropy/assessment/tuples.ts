// Min-entropy estimators of NIST SP 800-90B that count repeated tuples: sections 6.3.5 (t-tuple) and 6.3.6 (longest
// repeated substring). Both read one suffix array. Results are bits per symbol.
import { upperBound } from './frequencies.ts';
import { commonPrefixes, suffixArray } from './suffixes.ts';

const leastOccurrences = 35;

/** Undefined where nothing repeats (often enough). */
export function tuples(symbols: Uint8Array): {
  tTuple: number | undefined;
  longestRepeat: number | undefined;
} {
  const { most, pairs } = repeats(commonPrefixes(symbols, suffixArray(symbols, 256)));
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
  for (let i = 0; i < common.length; i++) longest = Math.max(longest, common[i] as number);
  const most = new Float64Array(longest + 1);
  const pairs = new Float64Array(longest + 1);
  // A stack of open nodes, sizes strictly rising, so never more than there are sizes.
  const sizes = new Int32Array(longest + 2);
  const suffixesOf = new Int32Array(longest + 2);
  const pairsOf = new Float64Array(longest + 2);
  let open = 0;
  for (let i = 1; i <= common.length; i++) {
    const size = common[i] ?? -1;
    let suffixes = 1;
    let within = 0;
    while (open > 0 && (sizes[open - 1] as number) > size) {
      open -= 1;
      const closed = sizes[open] as number;
      suffixes += suffixesOf[open] as number;
      const all = (suffixes * (suffixes - 1)) / 2;
      pairs[closed] = (pairs[closed] as number) + all - (pairsOf[open] as number) - within;
      most[closed] = Math.max(most[closed] as number, suffixes);
      within = all;
    }
    if (open > 0 && sizes[open - 1] === size) {
      suffixesOf[open - 1] = (suffixesOf[open - 1] as number) + suffixes;
      pairsOf[open - 1] = (pairsOf[open - 1] as number) + within;
    } else {
      sizes[open] = size;
      suffixesOf[open] = suffixes;
      pairsOf[open] = within;
      open += 1;
    }
  }
  for (let size = longest - 1; size >= 0; size--) {
    most[size] = Math.max(most[size] ?? 0, most[size + 1] ?? 0);
    pairs[size] = (pairs[size] ?? 0) + (pairs[size + 1] ?? 0);
  }
  return { most, pairs };
}
