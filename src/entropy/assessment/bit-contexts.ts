// The same two estimators as in contexts.ts (SP 800-90B sections 6.3.9 and 6.3.10) for bits, where a context of d bits is a number below
// 2^d and needs no table: the eight million bits of an assessment go through here.
import { Contest, Score } from './predictors.ts';

const depth = 16;
/** A context of d bits, the newest lowest, is numbered 2^d + its value; followers lie at twice that. */
const contexts = 2 << depth;

/** The best follower: of equals, the greater. -1 where there is none. */
const better = (zeros: number, ones: number): number => (ones >= zeros ? (ones > 0 ? 1 : -1) : 0);

export function multiMarkovOfBits(bits: Uint8Array): number {
  const mostEntries = 100_000;
  const counts = new Int32Array(2 * contexts);
  const entries = new Int32Array(depth);
  const contest = new Contest(depth);
  const predictions = new Int32Array(depth);
  // The last 17 bits, the newest lowest.
  let past = bits[0] as number;
  for (let i = 2; i < bits.length; i++) {
    const last = bits[i - 1] as number;
    const now = (past << 1) | last;
    const sizes = Math.min(i - 1, depth);
    for (let d = 0; d < sizes; d++) {
      const size = 2 << d;
      const slot = 2 * (size + (past & (size - 1))) + last;
      const count = counts[slot] as number;
      if (count > 0) counts[slot] = count + 1;
      else if ((entries[d] as number) < mostEntries) {
        counts[slot] = 1;
        entries[d] = (entries[d] as number) + 1;
      }
      const context = 2 * (size + (now & (size - 1)));
      predictions[d] = better(counts[context] as number, counts[context + 1] as number);
    }
    contest.judge(predictions, bits[i] as number, sizes);
    past = now & 0x1_ffff;
  }
  return contest.score.minEntropy(2);
}

export function lz78yOfBits(bits: Uint8Array): number {
  const mostEntries = 65_536;
  const counts = new Int32Array(2 * contexts);
  const score = new Score();
  let entries = 0;
  let past = 0;
  for (let i = 0; i < depth; i++) past = (past << 1) | (bits[i] ?? 0);
  for (let i = depth + 1; i < bits.length; i++) {
    const last = bits[i - 1] as number;
    const now = ((past << 1) | last) & 0x1_ffff;
    for (let size = 2 << (depth - 1); size >= 2; size >>= 1) {
      const context = 2 * (size + (past & (size - 1)));
      if (counts[context] === 0 && counts[context + 1] === 0) {
        if (entries >= mostEntries) continue;
        entries += 1;
      }
      counts[context + last] = (counts[context + last] as number) + 1;
    }
    let prediction = -1;
    let mostOften = 0;
    for (let size = 2 << (depth - 1); size >= 2; size >>= 1) {
      const context = 2 * (size + (now & (size - 1)));
      const zeros = counts[context] as number;
      const ones = counts[context + 1] as number;
      const most = Math.max(ones, zeros);
      if (most <= mostOften) continue;
      mostOften = most;
      prediction = ones >= zeros ? 1 : 0;
    }
    score.count(prediction === bits[i]);
    past = now;
  }
  return score.minEntropy(2);
}
