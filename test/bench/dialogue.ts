// A program that is told and asked by lines: the parts of a benchmark that must live in a namespace of their own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { inside } from '../lab/network.ts';

const patienceMilliseconds = 10_000;

/** It dies with this process, however that ends, but not by Ctrl-C itself: its group is its own. */
export class Dialogue<Line extends string> implements AsyncDisposable {
  readonly #child: ChildProcess & { readonly stdin: Writable; readonly stdout: Readable };
  readonly #command: string;
  readonly #lines: AsyncIterator<string>;

  constructor(namespace: string, command: readonly string[]) {
    const [program, args] = inside(namespace, ...command);
    this.#command = command.join(' ');
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    });
    this.#child.stdin.on('error', () => {}); // It ended; `next` says so.
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  tell(line: Line): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** The next line that it says. */
  async next(): Promise<string> {
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new Error(`\`${this.#command}\` said nothing for ${patienceMilliseconds / 1000} s.`)),
      patienceMilliseconds,
    );
    try {
      const { done, value } = await Promise.race([this.#lines.next(), promise]);
      if (done) throw new Error(`\`${this.#command}\` ended.`);
      return value;
    } finally {
      clearTimeout(timer);
    }
  }

  ask(line: Line): Promise<string> {
    this.tell(line);
    return this.next();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
