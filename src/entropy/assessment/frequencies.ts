// Min-entropy estimators of NIST SP 800-90B that count how often what occurs: sections 6.3.1 (most common value), 6.3.2
// (collision), 6.3.3 (Markov) and 6.3.4 (compression). The latter three take bits. Results are bits per symbol.

/** The 99.5 % quantile of the normal distribution: the bound of every confidence interval in section 6.3. */
const quantile = 2.5758293035489008;

/** The upper end of the confidence interval of a proportion measured on `length` symbols. */
export function upperBound(proportion: number, length: number): number {
  return Math.min(1, proportion + quantile * Math.sqrt((proportion * (1 - proportion)) / (length - 1)));
}

export function mostCommonValue(symbols: Uint8Array): number {
  const counts = new Uint32Array(256);
  for (const symbol of symbols) counts[symbol] = (counts[symbol] ?? 0) + 1;
  return -Math.log2(upperBound(Math.max(...counts) / symbols.length, symbols.length));
}

export function collision(bits: Uint8Array): number {
  let collisions = 0;
  let sum = 0;
  let squares = 0;
  for (let i = 0; i + 1 < bits.length; ) {
    const time = bits[i] === bits[i + 1] ? 2 : 3;
    if (i + time > bits.length) break;
    collisions += 1;
    sum += time;
    squares += time * time;
    i += time;
  }
  const mean = sum / collisions;
  const deviation = Math.sqrt((squares - collisions * mean * mean) / (collisions - 1));
  const bound = mean - (quantile * deviation) / Math.sqrt(collisions);
  // For two symbols the expected time is 2 + 2p(1 - p).
  return bound >= 2.5 ? 1 : -Math.log2(Math.min(1, 0.5 + Math.sqrt(1.25 - bound / 2)));
}

export function markov(bits: Uint8Array): number {
  const chainLength = 128;
  const pairs = [0, 0, 0, 0];
  let ones = 0;
  for (let i = 0; i < bits.length; i++) {
    const bit = bits[i] ?? 0;
    ones += bit;
    if (i === 0) continue;
    const pair = (bits[i - 1] ?? 0) * 2 + bit;
    pairs[pair] = (pairs[pair] ?? 0) + 1;
  }
  const [p00 = 0, p01 = 0, p10 = 0, p11 = 0] = pairs;
  const log = (part: number, whole: number): number =>
    part === 0 ? Number.NEGATIVE_INFINITY : Math.log2(part / whole);
  const zero = log(bits.length - ones, bits.length);
  const one = log(ones, bits.length);
  const zeroZero = log(p00, p00 + p01);
  const zeroOne = log(p01, p00 + p01);
  const oneZero = log(p10, p10 + p11);
  const oneOne = log(p11, p10 + p11);
  const half = chainLength / 2;
  const likeliest = Math.max(
    zero + times(chainLength - 1, zeroZero),
    zero + times(half, zeroOne) + times(half - 1, oneZero),
    zero + zeroOne + times(chainLength - 2, oneOne),
    one + oneZero + times(chainLength - 2, zeroZero),
    one + times(half, oneZero) + times(half - 1, zeroOne),
    one + times(chainLength - 1, oneOne),
  );
  return Math.min(1, -likeliest / chainLength);
}

const times = (count: number, log: number): number => (log === 0 ? 0 : count * log);

export function compression(bits: Uint8Array): number {
  const blockBits = 6;
  const dictionaryLength = 1000;
  const blocks = Math.floor(bits.length / blockBits);
  const observed = blocks - dictionaryLength;
  const lastSeen = new Int32Array(1 << blockBits);
  let sum = 0;
  let squares = 0;
  for (let index = 1; index <= blocks; index++) {
    let block = 0;
    for (let bit = 0; bit < blockBits; bit++) block = block * 2 + (bits[(index - 1) * blockBits + bit] ?? 0);
    if (index > dictionaryLength) {
      const distance = Math.log2(index - (lastSeen[block] ?? 0));
      sum += distance;
      squares += distance * distance;
    }
    lastSeen[block] = index;
  }
  const mean = sum / observed;
  const deviation = 0.5907 * Math.sqrt(squares / (observed - 1) - mean * mean);
  const bound = mean - (quantile * deviation) / Math.sqrt(observed);
  const symbols = 2 ** blockBits;
  const logs = logarithms(blocks);
  const expected = (p: number): number =>
    meanDistance(p, dictionaryLength, blocks, logs) +
    (symbols - 1) * meanDistance((1 - p) / (symbols - 1), dictionaryLength, blocks, logs);
  if (expected(1 / symbols) <= bound) return 1;
  let low = 1 / symbols;
  let high = 1;
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (expected(middle) > bound) low = middle;
    else high = middle;
  }
  return -Math.log2(low) / blockBits;
}

/** log2 of 0 to `most`. */
function logarithms(most: number): Float64Array {
  const table = new Float64Array(most + 1);
  for (let t = 1; t <= most; t++) table[t] = Math.log2(t);
  return table;
}

/** G(z) of section 6.3.4: the expected logarithm of the distance to the last occurrence of a block of probability z. */
function meanDistance(z: number, dictionaryLength: number, blocks: number, logs: Float64Array): number {
  let total = 0;
  let inner = 0;
  let power = 1; // (1 - z)^(t - 1)
  for (let t = 1; t <= blocks; t++) {
    const logarithm = logs[t] as number;
    if (t > dictionaryLength) total += inner + logarithm * z * power;
    inner += logarithm * z * z * power;
    power *= 1 - z;
    if (power < 1e-300) power = 0; // Below it the processor would compute slowly, to no effect.
  }
  return total / (blocks - dictionaryLength);
}
