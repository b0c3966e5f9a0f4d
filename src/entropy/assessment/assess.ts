// The non-IID track of NIST SP 800-90B, section 3.1.3: every estimator of section 6.3 on the samples as they are and,
// where these are wider than a bit, on their bits; the smallest result is the assessment.

import { lz78y, multiMarkovModel } from './contexts.ts';
import { collision, compression, markov, mostCommonValue } from './frequencies.ts';
import { lag, multiMostCommonInWindow } from './predictors.ts';
import { tuples } from './tuples.ts';

export interface Assessment {
  /** Bits of min-entropy per sample; not for credit as it stands, see policies/entropy.toml. */
  readonly minEntropy: number;
  /** Of each estimator, in bits per symbol: on the samples ("literal") and on their bits ("bitstring"). */
  readonly estimates: Readonly<Record<string, number>>;
}

/**
 * `samples`: one symbol a byte; `width`: bits of a sample, 1 to 8. `bitLimit` shortens the bit string. `goOn` is called between two
 * estimators, and ends it by throwing.
 */
export function assess(
  samples: Uint8Array,
  width = 8,
  bitLimit = Number.POSITIVE_INFINITY,
  goOn: () => void = () => {},
): Assessment {
  const symbols = renumber(samples);
  const literal = named('literal', estimate(symbols.samples, symbols.count, width === 1, goOn));
  if (width === 1) return { minEntropy: Math.min(...Object.values(literal)), estimates: literal };
  const bits = bitsOf(samples, width, bitLimit);
  const bitstring = named('bitstring', estimate(bits, 2, true, goOn));
  return {
    minEntropy: Math.min(...Object.values(literal), width * Math.min(...Object.values(bitstring))),
    estimates: { ...literal, ...bitstring },
  };
}

function estimate(
  symbols: Uint8Array,
  alphabet: number,
  binary: boolean,
  goOn: () => void,
): Record<string, number> {
  const next = (estimator: () => number): number => {
    goOn();
    return estimator();
  };
  const { tTuple, longestRepeat } = tuples(symbols);
  return {
    'most common value': mostCommonValue(symbols),
    ...(binary
      ? {
          collision: collision(symbols),
          Markov: markov(symbols),
          compression: next(() => compression(symbols)),
        }
      : {}),
    ...(tTuple === undefined ? {} : { 't-tuple': tTuple }),
    ...(longestRepeat === undefined ? {} : { 'longest repeated substring': longestRepeat }),
    'multi most common in window': next(() => multiMostCommonInWindow(symbols, alphabet)),
    lag: next(() => lag(symbols, alphabet)),
    'multi Markov model': next(() => multiMarkovModel(symbols, alphabet)),
    LZ78Y: next(() => lz78y(symbols, alphabet)),
  };
}

const named = (prefix: string, estimates: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(estimates).map(([name, value]) => [`${prefix} ${name}`, value]));

/** The symbols that occur, numbered in their order. */
function renumber(samples: Uint8Array): { samples: Uint8Array; count: number } {
  const occurring = [...new Set(samples)].sort((a, b) => a - b);
  const numbers = new Uint8Array(256);
  for (const [number, symbol] of occurring.entries()) numbers[symbol] = number;
  return { samples: samples.map((symbol) => numbers[symbol] ?? 0), count: occurring.length };
}

/** Most significant bit first. */
function bitsOf(samples: Uint8Array, width: number, limit: number): Uint8Array {
  const bits = new Uint8Array(Math.min(limit, samples.length * width));
  for (let i = 0; i < bits.length; i++) {
    bits[i] = ((samples[Math.floor(i / width)] ?? 0) >> (width - 1 - (i % width))) & 1;
  }
  return bits;
}
