import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { runChild } from '../../src/host/child.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';
import { setCable } from '../lab/cable.ts';
import { addCable, enterOwnNetwork } from '../lab/namespace.ts';
import { until } from './guard.ts';

/** A guarding process in this namespace. */
class Guarded implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  #said = '';

  private constructor(words: readonly string[]) {
    this.#child = spawn(
      process.execPath,
      [fileURLToPath(new URL('./guarded.ts', import.meta.url)), ...words],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    this.#child.stdout.on('data', (chunk: Buffer) => {
      this.#said += chunk.toString();
    });
  }

  /** With a maintenance window for `flaps`, if any. */
  static async start(name: string, flaps = 0): Promise<Guarded> {
    const guarded = new Guarded([String(flaps), name]);
    await until('the watcher to be armed', () => (guarded.#said.startsWith('armed\n') ? true : undefined));
    return guarded;
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child.kill(name);
  }

  /** Its last word. */
  get outcome(): ZeroizeOutcome | { readonly planned: number } | undefined {
    const line = this.#said.split('\n')[1];
    return line ? JSON.parse(line) : undefined;
  }

  end(): void {
    this.#child.stdin.end();
  }

  /** Whether the kernel has dropped messages that were meant for the process. */
  get overrun(): boolean {
    const folder = `/proc/${this.#child.pid}/fd`;
    const sockets = readdirSync(folder).map((fd) => /\d+/.exec(readlinkSync(`${folder}/${fd}`))?.[0]);
    // Columns: sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode.
    return readFileSync('/proc/thread-self/net/netlink', 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .some(([, , , , , , , , drops, inode]) => Number(drops) > 0 && sockets.includes(inode));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal('SIGCONT');
    this.end();
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
  }
}

/** Returns how many flaps that took. */
function flapUntilOverrun(guarded: Guarded, name: string): number {
  let flaps = 0;
  for (; flaps < 5000 && !(flaps % 50 === 0 && guarded.overrun); flaps += 1) {
    setCable(name, 'down');
    setCable(name, 'up');
  }
  expect(guarded.overrun).toBe(true);
  return flaps;
}

describe('a watcher that has lost messages', () => {
  beforeAll(() => enterOwnNetwork());
  beforeEach(async () => {
    await addCable('near0', 'far0');
    await addCable('near1', 'far1');
  });
  afterEach(async () => {
    for (const name of ['far0', 'far1']) await runChild('ip', ['link', 'delete', name]);
  });

  it('explains it by the counters where nothing has happened, and watches on', async () => {
    await using guarded = await Guarded.start('near0');
    guarded.signal('SIGSTOP');
    flapUntilOverrun(guarded, 'far1');
    guarded.signal('SIGCONT');
    await sleep(100);
    expect(guarded.outcome).toBeUndefined();
    setCable('far0', 'down');
    expect(await until('a zeroize', () => guarded.outcome)).toMatchObject({
      cause: 'link-flap',
      interface: 'near0',
    });
  });

  it('finds by the counters a flap whose messages were lost', async () => {
    await using guarded = await Guarded.start('near0');
    guarded.signal('SIGSTOP');
    flapUntilOverrun(guarded, 'far1');
    setCable('far0', 'down');
    setCable('far0', 'up');
    guarded.signal('SIGCONT');
    expect(await until('a zeroize', () => guarded.outcome)).toMatchObject({
      cause: 'link-flap',
      interface: 'near0',
    });
  });

  it('counts each planned flap once, although older messages follow the newer counters', async () => {
    await using guarded = await Guarded.start('near0', 100_000);
    guarded.signal('SIGSTOP');
    const planned = flapUntilOverrun(guarded, 'far0');
    guarded.signal('SIGCONT');
    await sleep(200);
    guarded.end();
    expect(await until('its last word', () => guarded.outcome)).toEqual({ planned });
  });
});
