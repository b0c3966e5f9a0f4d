// Min-entropy estimators of NIST SP 800-90B that predict from what followed the same context before: sections 6.3.9 (multi Markov
// model with counting) and 6.3.10 (LZ78Y). Results are bits per symbol.
//
// Contexts are nodes of a trie that is entered with the newest symbol and goes back in time, so that the context of length d + 1 is a
// child of that of length d; nodes and the symbols that followed them lie in hash tables of integers.
import { lz78yOfBits, multiMarkovOfBits } from './bit-contexts.ts';
import { Contest, Score } from './predictors.ts';

const depth = 16;
const none = -1;
const mostNodesAtFirst = 1 << 16;

/** An open-addressed table from non-negative integers to integers; grows by doubling. Memory that is never reached is never touched:
 * a slot that is zero is empty. */
class IntegerTable {
  /** Pairs: a key, plus one; its value. */
  #slots: Int32Array;
  #mask: number;
  #used = 0;

  /** `expected`: so many keys without growing. */
  constructor(expected: number) {
    const capacity = 2 ** Math.ceil(Math.log2(2 * expected + 2));
    this.#slots = new Int32Array(2 * capacity);
    this.#mask = capacity - 1;
  }

  get(key: number): number {
    const slot = this.#slot(key);
    return this.#slots[slot] === 0 ? none : (this.#slots[slot + 1] as number);
  }

  set(key: number, value: number): void {
    const slot = this.#slot(key);
    this.#slots[slot + 1] = value;
    if (this.#slots[slot] !== 0) return;
    this.#slots[slot] = key + 1;
    this.#used += 1;
    if (this.#used * 2 > this.#mask) this.#grow();
  }

  #slot(key: number): number {
    const slots = this.#slots;
    let place = (Math.imul(key, 0x9e37_79b1) >>> 7) & this.#mask;
    while (slots[2 * place] !== 0 && slots[2 * place] !== key + 1) place = (place + 1) & this.#mask;
    return 2 * place;
  }

  #grow(): void {
    const before = this.#slots;
    this.#slots = new Int32Array(before.length * 2);
    this.#mask = before.length - 1;
    for (let i = 0; i < before.length; i += 2) {
      if (before[i] === 0) continue;
      const slot = this.#slot((before[i] as number) - 1);
      this.#slots[slot] = before[i] as number;
      this.#slots[slot + 1] = before[i + 1] as number;
    }
  }
}

/** Contexts and how often which symbol followed each, with the most frequent follower (of equals, the greatest) at hand. Most contexts
 * have one follower all their life: a table counts the others only. */
class ContextTree {
  readonly #children: IntegerTable;
  /** Of followers that are not the best of their context, by context and follower. */
  readonly #others: IntegerTable;
  /** By node: the best follower plus one, and its count. */
  #best: Int32Array;
  #bestCount: Int32Array;
  #nodes = 1;

  /** For so many symbols; what grows does so from there. */
  constructor(symbols: number) {
    const nodes = Math.min(depth * symbols, mostNodesAtFirst);
    this.#children = new IntegerTable(nodes);
    this.#others = new IntegerTable(Math.min(symbols, mostNodesAtFirst));
    this.#best = new Int32Array(nodes + 1);
    this.#bestCount = new Int32Array(nodes + 1);
  }

  /** Writes the nodes of the contexts of 1 to 16 symbols that end before `at` to `path`, -1 from the first that is not known. */
  walk(symbols: Uint8Array, at: number, path: Int32Array): void {
    let node = 0;
    for (let d = 0; d < depth; d++) {
      node =
        node === none || at - 1 - d < 0
          ? none
          : this.#children.get(node * 256 + (symbols[at - 1 - d] as number));
      path[d] = node;
    }
  }

  /** The node of the context of `size` symbols that ends before `at`; makes it, and those on the way, where it is not there. */
  enter(symbols: Uint8Array, at: number, size: number, path: Int32Array): number {
    for (let d = 0; d < size; d++) {
      if (path[d] !== none) continue;
      const parent = d === 0 ? 0 : (path[d - 1] as number);
      const node = this.#nodes++;
      if (node >= this.#best.length) this.#grow();
      this.#children.set(parent * 256 + (symbols[at - 1 - d] as number), node);
      path[d] = node;
    }
    return path[size - 1] as number;
  }

  followedBy(node: number, symbol: number): boolean {
    return node !== none && (this.best(node) === symbol || this.#others.get(node * 256 + symbol) > 0);
  }

  add(node: number, symbol: number): void {
    const best = this.best(node);
    const most = this.#bestCount[node] as number;
    if (best === symbol || best === none) {
      this.#best[node] = symbol + 1;
      this.#bestCount[node] = most + 1;
      return;
    }
    const count = Math.max(0, this.#others.get(node * 256 + symbol)) + 1;
    if (count < most || (count === most && symbol < best)) {
      this.#others.set(node * 256 + symbol, count);
      return;
    }
    this.#others.set(node * 256 + best, most);
    this.#best[node] = symbol + 1;
    this.#bestCount[node] = count;
  }

  /** -1 where nothing has followed it. */
  best(node: number): number {
    return node === none ? none : (this.#best[node] as number) - 1;
  }

  bestCount(node: number): number {
    return node === none ? 0 : (this.#bestCount[node] as number);
  }

  #grow(): void {
    const best = new Int32Array(this.#best.length * 2);
    const bestCount = new Int32Array(this.#best.length * 2);
    best.set(this.#best);
    bestCount.set(this.#bestCount);
    this.#best = best;
    this.#bestCount = bestCount;
  }
}

export function multiMarkovModel(symbols: Uint8Array, alphabet: number): number {
  if (alphabet === 2) return multiMarkovOfBits(symbols);
  const mostEntries = 100_000;
  const tree = new ContextTree(symbols.length);
  const entries = new Int32Array(depth);
  const contest = new Contest(depth);
  const predictions = new Int32Array(depth);
  let before = new Int32Array(depth).fill(none);
  let now = new Int32Array(depth).fill(none);
  tree.walk(symbols, 1, before);
  for (let i = 2; i < symbols.length; i++) {
    const last = symbols[i - 1] as number;
    // `before`: contexts that end at i - 2, which `last` has followed.
    const sizes = Math.min(depth, i - 1);
    for (let d = 0; d < sizes; d++) {
      if (!tree.followedBy(before[d] as number, last)) {
        if ((entries[d] as number) >= mostEntries) continue;
        entries[d] = (entries[d] as number) + 1;
      }
      tree.add(tree.enter(symbols, i - 1, d + 1, before), last);
    }
    tree.walk(symbols, i, now);
    for (let d = 0; d < depth; d++) predictions[d] = d < sizes ? tree.best(now[d] as number) : none;
    contest.judge(predictions, symbols[i] as number);
    [before, now] = [now, before];
  }
  return contest.score.minEntropy(alphabet);
}

export function lz78y(symbols: Uint8Array, alphabet: number): number {
  if (alphabet === 2) return lz78yOfBits(symbols);
  const mostEntries = 65_536;
  const tree = new ContextTree(symbols.length);
  const score = new Score();
  let entries = 0;
  let before = new Int32Array(depth).fill(none);
  let now = new Int32Array(depth).fill(none);
  for (let i = depth + 1; i < symbols.length; i++) {
    const last = symbols[i - 1] as number;
    for (let size = depth; size >= 1; size--) {
      // A node without followers lies on the way to a longer context only: it is not in the dictionary.
      if (tree.best(before[size - 1] as number) === none) {
        if (entries >= mostEntries) continue;
        entries += 1;
      }
      tree.add(tree.enter(symbols, i - 1, size, before), last);
    }
    tree.walk(symbols, i, now);
    let prediction = none;
    let mostOften = 0;
    for (let size = depth; size >= 1; size--) {
      const count = tree.bestCount(now[size - 1] as number);
      if (count <= mostOften) continue;
      prediction = tree.best(now[size - 1] as number);
      mostOften = count;
    }
    score.count(prediction === symbols[i]);
    [before, now] = [now, before];
  }
  return score.minEntropy(alphabet);
}
