// Min-entropy estimators of NIST SP 800-90B that predict from what followed the same context before: sections 6.3.9 (multi Markov
// model with counting) and 6.3.10 (LZ78Y). Results are bits per symbol.
//
// Contexts are nodes of a trie that is entered with the newest symbol and goes back in time, so that the context of length d + 1 is a
// child of that of length d; nodes and the symbols that followed them lie in hash tables of integers. Most contexts are seen once: a node
// that nothing has reached again stands for all longer contexts of its place too (a tail), and is unfolded when something does.
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
  readonly #symbols: Uint8Array;
  readonly #children: IntegerTable;
  /** Of followers that are not the best of their context, by context and follower. */
  readonly #others: IntegerTable;
  /** By node: the best follower plus one, and its count. */
  #best: Int32Array;
  #bestCount: Int32Array;
  /** By tail: the position of the symbol that followed it, and which of the lengths from its own on were entered (bit 0 for 1). A node
   * that is no tail has position 0, which follows nothing. */
  #tailAt: Int32Array;
  #tailLengths: Int32Array;
  #nodes = 1;
  /** The nodes of the contexts that `lookUp` and `unfold` found, shortest first, and how many. */
  readonly path = new Int32Array(depth);
  #known = 0;
  /** What `lookUp` found for each length: the best follower, or -1, and its count. */
  readonly predictions = new Int32Array(depth);
  readonly counts = new Int32Array(depth);

  constructor(symbols: Uint8Array) {
    this.#symbols = symbols;
    const nodes = Math.min(2 * symbols.length, mostNodesAtFirst);
    this.#children = new IntegerTable(nodes);
    this.#others = new IntegerTable(Math.min(symbols.length, mostNodesAtFirst));
    this.#best = new Int32Array(nodes + 1);
    this.#bestCount = new Int32Array(nodes + 1);
    this.#tailAt = new Int32Array(nodes + 1);
    this.#tailLengths = new Int32Array(nodes + 1);
  }

  /** Predicts the symbol at `at` from the contexts that end before it; returns how many lengths there are predictions for. */
  lookUp(at: number): number {
    const symbols = this.#symbols;
    const longest = Math.min(depth, at);
    let node = 0;
    this.#known = 0;
    for (let length = 1; length <= longest; length++) {
      node = this.#children.get(node * 256 + (symbols[at - length] as number));
      if (node === none) break;
      this.path[length - 1] = node;
      this.#known = length;
      if (this.#tailAt[node] !== 0) return this.#lookAlong(node, at, length);
      this.predictions[length - 1] = this.best(node);
      this.counts[length - 1] = this.#bestCount[node] as number;
    }
    return this.#known;
  }

  #lookAlong(tail: number, at: number, from: number): number {
    const symbols = this.#symbols;
    const place = this.#tailAt[tail] as number;
    const lengths = this.#tailLengths[tail] as number;
    const follower = symbols[place] as number;
    for (let length = from; ; length++) {
      const entered = (lengths >>> (length - 1)) & 1;
      this.predictions[length - 1] = entered === 1 ? follower : none;
      this.counts[length - 1] = entered;
      const isLast = lengths >>> length === 0 || at <= length;
      if (isLast || symbols[at - length - 1] !== symbols[place - length - 1]) return length;
    }
  }

  /**
   * After `lookUp` for the same `at`: makes nodes of all contexts that were found, and returns how many there are. The context of the
   * next length has not been seen before.
   */
  unfold(at: number): number {
    const symbols = this.#symbols;
    let known = this.#known;
    let node = known === 0 ? 0 : (this.path[known - 1] as number);
    for (let place = this.#tailAt[node] as number; place !== 0; place = this.#tailAt[node] as number) {
      const lengths = this.#tailLengths[node] as number;
      this.#tailAt[node] = 0;
      if (((lengths >>> (known - 1)) & 1) === 1) {
        this.#best[node] = (symbols[place] as number) + 1;
        this.#bestCount[node] = 1;
      }
      if (lengths >>> known === 0) break;
      const symbol = symbols[place - known - 1] as number;
      const child = this.#newTail(node, symbol, place, lengths);
      if (at <= known || symbols[at - known - 1] !== symbol) break;
      node = child;
      this.path[known] = node;
      known += 1;
    }
    this.#known = known;
    return known;
  }

  /** After `unfold`: enters the contexts of these lengths, all longer than what is known, as followed by the symbol at `at`. */
  enterNew(at: number, lengths: number): void {
    if (lengths === 0) return;
    const known = this.#known;
    const parent = known === 0 ? 0 : (this.path[known - 1] as number);
    this.#newTail(parent, this.#symbols[at - known - 1] as number, at, lengths);
  }

  #newTail(parent: number, symbol: number, place: number, lengths: number): number {
    const node = this.#nodes++;
    if (node >= this.#best.length) this.#grow();
    this.#children.set(parent * 256 + symbol, node);
    this.#tailAt[node] = place;
    this.#tailLengths[node] = lengths;
    return node;
  }

  followedBy(node: number, symbol: number): boolean {
    return this.best(node) === symbol || this.#others.get(node * 256 + symbol) > 0;
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
    return (this.#best[node] as number) - 1;
  }

  #grow(): void {
    const doubled = (before: Int32Array): Int32Array => {
      const after = new Int32Array(before.length * 2);
      after.set(before);
      return after;
    };
    this.#best = doubled(this.#best);
    this.#bestCount = doubled(this.#bestCount);
    this.#tailAt = doubled(this.#tailAt);
    this.#tailLengths = doubled(this.#tailLengths);
  }
}

/** Bits for the lengths from 1 to this one. */
const lengthsUpTo = (length: number): number => (1 << length) - 1;
const allLengths = lengthsUpTo(depth);

export function multiMarkovModel(symbols: Uint8Array, alphabet: number): number {
  if (alphabet === 2) return multiMarkovOfBits(symbols);
  const mostEntries = 100_000;
  const tree = new ContextTree(symbols);
  const { path, predictions } = tree;
  const contest = new Contest(depth);
  // Pairs of a context and a follower, by length; and the lengths that have room for more.
  const entries = new Int32Array(depth);
  const mayFill = symbols.length > mostEntries;
  let open = allLengths;
  const count = (lengths: number): void => {
    for (let d = 0; d < depth; d++) {
      if (((lengths >>> d) & 1) === 0) continue;
      entries[d] = (entries[d] as number) + 1;
      if (entries[d] === mostEntries) open &= ~(1 << d);
    }
  };
  for (let i = 2; i < symbols.length; i++) {
    const last = symbols[i - 1] as number;
    const known = tree.unfold(i - 1);
    let entered = 0;
    for (let d = 0; d < known; d++) {
      const node = path[d] as number;
      if (!tree.followedBy(node, last)) {
        if (((open >>> d) & 1) === 0) continue;
        entered |= 1 << d;
      }
      tree.add(node, last);
    }
    const longer = open & lengthsUpTo(Math.min(depth, i - 1)) & ~lengthsUpTo(known);
    tree.enterNew(i - 1, longer);
    if (mayFill) count(entered | longer);
    contest.judge(predictions, symbols[i] as number, tree.lookUp(i));
  }
  return contest.score.minEntropy(alphabet);
}

export function lz78y(symbols: Uint8Array, alphabet: number): number {
  if (alphabet === 2) return lz78yOfBits(symbols);
  const mostEntries = 65_536;
  const tree = new ContextTree(symbols);
  const { path, predictions, counts } = tree;
  const score = new Score();
  const mayFill = depth * symbols.length > mostEntries;
  let room = mostEntries;
  for (let i = depth + 1; i < symbols.length; i++) {
    const last = symbols[i - 1] as number;
    const known = tree.unfold(i - 1);
    // A node without followers lies on the way to a longer context only: it is not in the dictionary.
    let missing = allLengths & ~lengthsUpTo(known);
    for (let d = 0; d < known; d++) if (tree.best(path[d] as number) === none) missing |= 1 << d;
    if (mayFill) {
      missing = greatest(missing, room);
      room -= bitsIn(missing);
    }
    for (let d = 0; d < known; d++) {
      const node = path[d] as number;
      if (tree.best(node) !== none || ((missing >>> d) & 1) === 1) tree.add(node, last);
    }
    tree.enterNew(i - 1, missing & ~lengthsUpTo(known));
    let prediction = none;
    let mostOften = 0;
    for (let d = tree.lookUp(i) - 1; d >= 0; d--) {
      if ((counts[d] as number) <= mostOften) continue;
      prediction = predictions[d] as number;
      mostOften = counts[d] as number;
    }
    score.count(prediction === symbols[i]);
  }
  return score.minEntropy(alphabet);
}

/** At most so many of its bits, the greatest. */
function greatest(bits: number, most: number): number {
  let kept = bits;
  for (let excess = bitsIn(bits) - most; excess > 0; excess--) kept &= kept - 1;
  return kept;
}

function bitsIn(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
