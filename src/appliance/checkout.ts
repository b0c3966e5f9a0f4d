// What only a checkout has: the lab that the demo and the benchmarks run in.
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { Failure } from '../host/failure.ts';
import { packageRoot } from './policies.ts';

export interface DemoOptions {
  readonly tpm: boolean;
  readonly sigstore: boolean;
  /** Directory that the evidence is left in. */
  readonly output: string;
  /** Print no story. */
  readonly quiet: boolean;
}

/** The JSON contract of `demo --json` (docs/cli.md). Times are CLOCK_MONOTONIC microseconds from the pull of the cable. */
export interface DemoReport {
  readonly ok: boolean;
  readonly timeline: readonly { readonly atMicros: number; readonly node: string; readonly event: string }[];
  readonly zeroize: { readonly detectMicros: number; readonly wipeMicros: number };
  readonly unsealAfter: string;
  readonly alerts: readonly { readonly channel: string; readonly status: string }[];
  readonly bundle: {
    readonly archive: string;
    readonly sigstore: string;
    readonly uploadedTo: string;
    readonly verdict: string;
    readonly failedClaims: readonly string[];
  };
  readonly flippedByteVerdict: string;
}

export interface DemoModule {
  runDemo(options: DemoOptions): Promise<DemoReport>;
}

/** The JSON contract of one line of `bench --json`. */
export interface BenchResult {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly reference: { readonly name: string; readonly value: number };
  /** value / reference.value */
  readonly ratio: number;
  /** In words, such as ">= 0.8x". */
  readonly target: string;
  /** The ratio's, and the limit's where there is one. */
  readonly met: boolean;
  /** Of a figure that also has a bound of its own, in its unit: whether each of the two is met. */
  readonly limit?: { readonly value: number; readonly met: boolean; readonly ratioMet: boolean };
  /** Of figures that are a quantile: the rest of the distribution, of the value and of the reference. */
  readonly spread?: { readonly value: Spread; readonly reference: Spread };
}

/** In the unit of the figure. `p95Interval`: where the p95 lies with a confidence of 95 %. */
export interface Spread {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
  readonly p95Interval: readonly [number, number];
  readonly samples: number;
}

export interface BenchModule {
  /** @throws Failure `benchmark-unknown`, usage. */
  runBenchmarks(only: readonly string[], onStart: (name: string) => void): Promise<BenchResult[]>;
}

/** Loads a module of the checkout. @throws Failure `checkout-needed` in an installed package. */
export async function importFromCheckout<T>(path: string, what: string): Promise<T> {
  const file = `${packageRoot}${path}`;
  if (!existsSync(file)) {
    throw new Failure(
      'checkout-needed',
      `${what} needs the test lab, which the installed package leaves out.`,
      {
        remedy: 'Clone the repository and run `./scripts/demo` there.',
      },
    );
  }
  return (await import(pathToFileURL(file).href)) as T;
}
