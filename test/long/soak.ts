// Output for an hour (or as long as told) from a real pool of all sources, while failures are induced at random, from a seed: `npm run soak
// -- --minutes 60 --seed 1`. Nothing may block the pool, nothing may grow, no unhealthy byte may leave. Ends with a JSON document, and
// status 1 where something did not hold.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import koffi from 'koffi';
import { loadCreditPolicy } from '../../src/entropy/credit.ts';
import { serveFifo } from '../../src/entropy/outputs/fifo.ts';
import { randomServer } from '../../src/entropy/outputs/http.ts';
import { Turns } from '../../src/entropy/outputs/turns.ts';
import { EntropyPool } from '../../src/entropy/pool.ts';
import { type InducedFailure, inducedFailures } from '../../src/entropy/rehearsal.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { shareNativeHeaps } from '../../src/host/heap.ts';
import { monotonicMicros } from '../../src/host/time.ts';
import { median } from '../bench/benchmark.ts';
import { seededNumbers } from '../lab/seeded.ts';

export interface SoakResult {
  readonly seed: number;
  readonly seconds: number;
  readonly bytes: number;
  readonly refusals: number;
  readonly reseeds: number;
  readonly failures: Readonly<Record<string, number>>;
  readonly states: readonly string[];
  readonly http: Readonly<Record<string, number>>;
  readonly fifoReaders: number;
  readonly longestStallMilliseconds: number;
  /** Resident memory in MiB, in the calms of a run that is long enough to tell. */
  readonly residentMegabytes: readonly number[];
  /** By how much it rose from the first calms to the last. */
  readonly grownMegabytes: number;
  /** What did not hold; empty when all did. */
  readonly broken: readonly string[];
}

const mayServe = new Set(['serving', 'degraded', 'paused']);
const reseedAfter = { requests: 2 ** 20, micros: 1_000_000 };
const limits = { requests: 2 ** 30, micros: 4_000_000 };
const patience = { stuck: 3000, stuckRetry: 4000, retry: 20, silence: 300 };
const mostStall = 5000;
/** Milliseconds in which all is as before, once nothing fails any more. */
const patienceAtEnd = 60_000;
/**
 * MiB. Memory is looked at in calms only: nothing fails and nobody draws. Else it says which sources had their buffers of 24 to 64 MiB
 * open, and whose answers were on their way.
 */
const mostGrowth = 32;
const calms = 13;
/** How many of them, first and last, are held against each other. */
const calmsCompared = 3;
/** So long it takes until the sources are well again. */
const calmAfterSeconds = 20;
const looksInCalm = 5;
const enoughToJudgeGrowth = 600;
const warmUpSeconds = 60;
/** A seed is made each second where noise suffices; with all failures and pauses, at least one in so many seconds. */
const secondsPerReseed = 10;
const keptPrefixes = 50_000;

export async function soak(seed: number, seconds: number): Promise<SoakResult> {
  const random = seededNumbers(seed);
  const below = (most: number): number => Math.floor(random() * most);
  const directory = mkdtempSync(join(tmpdir(), 'ea-soak-'));
  const broken = new Set<string>();
  const failures: Record<string, number> = {};
  const http: Record<string, number> = {};
  const states = new Set<string>();
  const stalls = monitorEventLoopDelay({ resolution: 10 });
  const threadsBefore = threads();
  const resident: number[] = [];
  let [bytes, refusals, fifoReaders, reseeds] = [0, 0, 0, 0];
  const stop = new AbortController();
  shareNativeHeaps();
  try {
    using arena = SecretArena.allocate({ allowSwappable: true });
    await using pool = await EntropyPool.start({
      arena,
      settings: { directory, interfaces: ['CPU'] },
      policy: loadCreditPolicy(),
      clock: monotonicMicros,
      reseedAfter,
      limits,
      patience,
      onState: (state) => states.add(state),
    });
    await pool.ready(60_000); // A loaded machine takes its time; how long is the benchmark first-seed to judge.
    stalls.enable();
    const ends = performance.now() + 1000 * seconds;
    const goesOn = (): boolean => performance.now() < ends;
    const names = pool
      .status()
      .sources.filter(({ available }) => available)
      .map(({ name }) => name);
    const sick = new Set<string>();
    const induce = (name: string, failure: InducedFailure): void => {
      failures[failure] = (failures[failure] ?? 0) + 1;
      sick.add(name);
      pool.induce(name, failure);
    };
    const cure = (name: string): void => {
      sick.delete(name);
      pool.induce(name, undefined);
      pool.restart(name);
    };

    let calm: Promise<unknown> | undefined;
    const calmly = async <T>(look: () => Promise<T>): Promise<T> => {
      const { promise, resolve } = Promise.withResolvers<void>();
      calm = promise;
      try {
        return await look();
      } finally {
        calm = undefined;
        resolve();
      }
    };

    const trouble = async (): Promise<void> => {
      while (goesOn()) {
        if (calm !== undefined) {
          for (const name of [...sick]) cure(name);
          await calm;
        }
        const dice = below(20);
        if (dice === 0) {
          // All at once: output must stop at the limit, and come back.
          for (const name of names) induce(name, pick(inducedFailures.slice(0, 6), below));
          await sleep(below(8000));
          for (const name of [...sick]) cure(name);
        } else if (dice === 1) {
          pool.pause('rehearsed');
          await sleep(below(1500));
          pool.resume();
        } else if (dice < 12) induce(pick(names, below), pick(inducedFailures, below));
        else for (const name of [...sick]) if (random() < 0.6) cure(name);
        await sleep(20 + below(400));
      }
    };

    const prefixes = new Set<string>();
    const drawing = async (): Promise<void> => {
      const consumers = [pool.consumer('a'), pool.consumer('b')];
      for (; goesOn(); await calm) {
        const out = new Uint8Array(16 + below(65_536)).fill(1);
        const before = pool.status();
        try {
          pick(consumers, below).read(out);
          bytes += out.length;
          // It may have gone bad since; what has been bad must have been seeded anew to give anything.
          if (!mayServe.has(before.state) && pool.status().reseeds === before.reseeds)
            broken.add(`output left a pool that was ${before.state}`);
          const prefix = Buffer.from(out.buffer, 0, 16).toString('latin1');
          if (prefixes.has(prefix)) broken.add('output was repeated');
          if (prefixes.size < keptPrefixes) prefixes.add(prefix);
        } catch {
          refusals += 1;
          if (out.some((byte) => byte !== 0)) broken.add('a refusal left bytes behind');
          if (pool.status().state === 'serving') broken.add('a serving pool refused');
        }
        await sleep(below(10));
      }
      for (const consumer of consumers) pool.release(consumer);
    };

    const server = await randomServer(pool, { host: '127.0.0.1', port: 0 }, new Turns());
    const { port } = server.address() as AddressInfo;
    const asking = async (): Promise<void> => {
      for (; goesOn(); await calm) {
        const leaves = random() < 0.2;
        const outcome = await ask(port, 1 + below(1 << 20), leaves);
        http[outcome] = (http[outcome] ?? 0) + 1;
        await sleep(below(50));
      }
    };
    const path = join(directory, 'random');
    const fifo = serveFifo(path, (out) => pool.read(out), { signal: stop.signal, onReady: () => {} }).catch(
      () => {}, // An unhealthy pool ends it; the node's own outputs go on.
    );
    const reading = async (): Promise<void> => {
      for (; goesOn(); await calm) {
        const reader = spawn('timeout', ['1', 'head', '-c', String(1 + below(1 << 20)), path], {
          stdio: 'ignore',
        });
        await new Promise((resolve) => reader.once('close', resolve));
        fifoReaders += 1;
        await sleep(200 + below(500));
      }
    };
    const watching = async (): Promise<void> => {
      if (seconds < enoughToJudgeGrowth) return;
      const from = performance.now() + 1000 * warmUpSeconds;
      for (let look = 0; look < calms; look += 1) {
        await sleep(
          Math.max(0, from + (1000 * look * (seconds - warmUpSeconds)) / calms - performance.now()),
        );
        resident.push(await calmly(lookAtMemory));
      }
    };
    const lookAtMemory = async (): Promise<number> => {
      await sleep(1000 * calmAfterSeconds);
      let least = Number.POSITIVE_INFINITY;
      for (let look = 0; look < looksInCalm; look += 1) {
        // What nobody holds any more is no growth: V8 and the C library let it lie about as they like.
        collectGarbage();
        trimHeaps(0);
        least = Math.min(least, process.memoryUsage().rss);
        await sleep(200);
      }
      return least;
    };
    await Promise.all([trouble(), drawing(), asking(), reading(), watching()]);
    stop.abort();
    await fifo;
    server.closeAllConnections();
    server.close();
    pool.resume();
    for (const name of names) cure(name);
    await until('the pool did not come back when all failures ended', broken, () => {
      try {
        pool.read(new Uint8Array(1));
        return pool.status().state === 'serving';
      } catch {
        return false;
      }
    });
    ({ reseeds } = pool.status());
    stalls.disable();
  } finally {
    stop.abort();
    rmSync(directory, { recursive: true, force: true });
  }
  await until('threads were left behind', broken, () => threads() <= threadsBefore + 4); // The runtime's own pool comes in fours.
  const longestStallMilliseconds = Math.round(stalls.max / 1e6);
  if (longestStallMilliseconds > mostStall)
    broken.add(`the event loop stood still for ${longestStallMilliseconds} ms`);
  const residentMegabytes = resident.map((bytes) => Math.round(bytes / 2 ** 20));
  const grownMegabytes =
    resident.length === 0
      ? 0
      : median(residentMegabytes.slice(-calmsCompared)) - median(residentMegabytes.slice(0, calmsCompared));
  if (grownMegabytes > mostGrowth) broken.add(`memory grew by ${grownMegabytes} MiB`);
  if (reseeds < Math.floor(seconds / secondsPerReseed)) broken.add(`there were ${reseeds} reseeds only`);
  if (bytes === 0) broken.add('nothing was given out');
  return {
    seed,
    seconds,
    bytes,
    refusals,
    reseeds,
    failures,
    states: [...states],
    http,
    fifoReaders,
    longestStallMilliseconds,
    residentMegabytes,
    grownMegabytes,
    broken: [...broken],
  };
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const trimHeaps = koffi.load('libc.so.6').func('int malloc_trim(size_t pad)') as (pad: number) => number;

const threads = (): number => readdirSync('/proc/self/task').length;

const pick = <T>(from: readonly T[], below: (most: number) => number): T => from[below(from.length)] as T;

async function until(orElse: string, broken: Set<string>, condition: () => boolean): Promise<void> {
  for (const deadline = performance.now() + patienceAtEnd; performance.now() < deadline; await sleep(20))
    if (condition()) return;
  broken.add(orElse);
}

/** `leaves`: reads nothing, and goes after a moment. */
function ask(port: number, bytes: number, leaves: boolean): Promise<string> {
  return new Promise((resolve) => {
    const request = get({ port, host: '127.0.0.1', path: `/random?bytes=${bytes}` }, (response) => {
      const status = String(response.statusCode);
      if (leaves) {
        setTimeout(() => request.destroy(), 100);
        resolve('left');
        return;
      }
      let got = 0;
      response.on('data', (part: Buffer) => {
        got += part.length;
      });
      response.on('end', () => resolve(status === '200' && got !== bytes ? 'short' : status));
      response.on('error', () => resolve('cut off'));
    });
    request.on('error', () => resolve('cut off'));
  });
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { minutes: { type: 'string' }, seed: { type: 'string' } } });
  const result = await soak(Number(values.seed ?? '1'), 60 * Number(values.minutes ?? '60'));
  console.log(JSON.stringify(result, null, 2));
  process.exitCode = result.broken.length === 0 ? 0 : 1;
}
