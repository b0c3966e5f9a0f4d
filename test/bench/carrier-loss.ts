// From the kernel being told that a cable is gone to the arena wiped, p95 over many pulls: the interlock against a C program that
// does the same (carrier.c), pulled in turn. Each watches in a namespace of its own, so that neither hears the other's cable.
import { spawn } from 'node:child_process';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { requireChild } from '../../src/host/child.ts';
import { exitStatus, Failure } from '../../src/host/failure.ts';
import { holdLock } from '../../src/host/lock.ts';
import { createNetwork } from '../lab/network.ts';
import { type Benchmark, judge, type Progress, quantile, spreadOf, words } from './benchmark.ts';
import type { CableOrder } from './carrier-cable.ts';
import { arenaLength, type WatcherOrder } from './carrier-watcher.ts';
import { Dialogue } from './dialogue.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'carrier-loss-to-wipe';
const detection = 'carrier-loss-to-detect';
const target = { atMost: 2 } as const;
const prefix = 'ea-bench';
const pullsVariable = 'ESOTERIC_BENCH_PULLS';
const loadVariable = 'ESOTERIC_BENCH_LOAD';
/** Of a veth and of a TAP: 2,000 in all on each side. */
const defaultPulls = 1000;
/** The rehearsal has compiled what must be fast by the time that a watcher is armed: nothing is waited for. */
const settleMilliseconds = 2;
const loads = ['idle', 'busy', 'blocked'] as const;
/** `busy`: each core spins in another process. `blocked`: the main thread is blocked for half a second around the pull. */
export type Load = (typeof loads)[number];
/** Microseconds that the p95 may take. */
const limits: Record<Load, number> = { idle: 2000, busy: 5000, blocked: 2000 };

export const carrierLossToWipe: Benchmark = {
  name,
  alsoGives: [detection],
  target: `${words(target)}, veth and TAP`,
  needs: { root: true, programs: ['gcc', 'ip', 'setpriv'], files: ['/dev/net/tun'] },
  run: (progress) =>
    measureCarrierLoss(
      pullsAskedFor(process.env[pullsVariable]),
      progress,
      loadAskedFor(process.env[loadVariable]),
    ),
};

/** Pulls of each kind of cable on each side. */
function pullsAskedFor(text: string | undefined): number {
  if (text === undefined) return defaultPulls;
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new Failure('usage', `${pullsVariable} is a number of pulls, not "${text}".`, {
    remedy: `Leave it out for ${defaultPulls}, or set it to a number from 1 to 999999.`,
    status: exitStatus.usage,
  });
}

function loadAskedFor(text = 'idle'): Load {
  const found = loads.find((load) => load === text);
  if (found !== undefined) return found;
  throw new Failure('usage', `${loadVariable} is one of ${loads.join(', ')}, not "${text}".`, {
    remedy: 'Leave it out for an idle machine.',
    status: exitStatus.usage,
  });
}

/** A watcher, and the names of the interfaces whose cables it watches: within its namespace, and as the hand pulls them. */
interface Side {
  readonly watcher: Dialogue<WatcherOrder>;
  readonly cables: Record<Kind, { readonly near: string; readonly far: string }>;
  readonly micros: Record<Kind, Times[]>;
}
/** Microseconds from right before the kernel is told. */
interface Times {
  readonly detected: number;
  readonly wiped: number;
}
const kinds = ['veth', 'TAP'] as const;
type Kind = (typeof kinds)[number];

/** Four results: detection and wipe, of a veth and of a TAP. `pulls` of each on each side. */
export async function measureCarrierLoss(
  pulls: number,
  { signal, say }: Progress,
  load: Load = 'idle',
): Promise<BenchResult[]> {
  using _lock = holdLock(join(tmpdir(), `${prefix}.lock`), 'The benchmark');
  using scratch = scratchDirectory();
  const reference = join(scratch.path, 'carrier');
  const source = join(import.meta.dirname, 'carrier.c');
  await requireChild('gcc', ['-O2', `-DARENA=${arenaLength}`, '-o', reference, source]);
  await using network = await createNetwork(prefix);
  const { alpha, beta, services } = network.namespaces;
  const program = (file: string, ...args: string[]): string[] => [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    join(import.meta.dirname, file),
    ...args,
  ];
  await using hand = new Dialogue<CableOrder>(services, program('carrier-cable.ts'));
  await using interlock = new Dialogue<WatcherOrder>(alpha, program('carrier-watcher.ts', scratch.path));
  await using inC = new Dialogue<WatcherOrder>(beta, [reference]);
  const subject = await side(hand, interlock, services, alpha, 'alpha0', 'tap-alpha');
  const compared = await side(hand, inC, services, beta, 'beta0', 'tap-beta');
  using _spinners = load === 'busy' ? spin() : { [Symbol.dispose]: () => {} };
  for (let round = 0; round < pulls; round++) {
    say(`${round} of ${pulls} pulls`);
    for (const kind of kinds) {
      for (const each of round % 2 === 0 ? [subject, compared] : [compared, subject]) {
        each.micros[kind].push(await pull(hand, each, kind, each === subject && load === 'blocked'));
        signal.throwIfAborted();
      }
    }
  }
  return kinds.flatMap((kind) =>
    (['detected', 'wiped'] as const).map((what) => {
      const times = (side: Side): number[] => side.micros[kind].map((each) => each[what]);
      return resultOf(what === 'wiped' ? name : detection, kind, load, times(subject), times(compared));
    }),
  );
}

/** One process that does nothing else on each core, at the same priority as the watchers begin with. */
function spin(): Disposable {
  const spinners = Array.from({ length: availableParallelism() }, () =>
    spawn('setpriv', ['--pdeathsig', 'KILL', 'sh', '-c', 'while :; do :; done'], { stdio: 'ignore' }),
  );
  return {
    [Symbol.dispose]() {
      for (const spinner of spinners) spinner.kill('SIGKILL');
    },
  };
}

/** The management link of the lab is the veth; a TAP is made by the hand and moved to the watcher. */
async function side(
  hand: Dialogue<CableOrder>,
  watcher: Dialogue<WatcherOrder>,
  from: string,
  to: string,
  far: string,
  tap: string,
): Promise<Side> {
  await hand.ask(`tap ${tap}`);
  await requireChild('ip', ['-n', from, 'link', 'set', tap, 'netns', to]);
  await requireChild('ip', ['-n', to, 'link', 'set', tap, 'up']);
  return {
    watcher,
    cables: { veth: { near: 'mgmt0', far }, TAP: { near: tap, far: tap } },
    micros: { veth: [], TAP: [] },
  };
}

async function pull(
  hand: Dialogue<CableOrder>,
  { watcher, cables }: Side,
  kind: Kind,
  blocked: boolean,
): Promise<Times> {
  const { near, far } = cables[kind];
  await watcher.ask(`${blocked ? 'block' : 'arm'} ${near}`);
  // At no fixed place between two looks at the counters.
  await sleep(settleMilliseconds + 10 * Math.random());
  const told = Number(await hand.ask(`down ${far}`));
  const [detected = Number.NaN, wiped = Number.NaN] = (await watcher.next()).split(' ').map(Number);
  await hand.ask(`up ${far}`);
  return { detected: detected - told, wiped: wiped - told };
}

function resultOf(
  figure: string,
  kind: Kind,
  load: Load,
  ours: readonly number[],
  theirs: readonly number[],
): BenchResult {
  const judged = judge({
    name: figure,
    value: quantile(ours, 0.95),
    unit: 'us',
    reference: {
      name: `C, rtnetlink and explicit_bzero, p95 of ${theirs.length} pulls of a ${kind}, ${load}`,
      value: quantile(theirs, 0.95),
    },
    target,
    limit: limits[load],
  });
  return { ...judged, spread: { value: spreadOf(ours), reference: spreadOf(theirs) } };
}
