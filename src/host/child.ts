// Other programs, run with an argument list (never a shell), a time limit and bounded output.
import { spawn } from 'node:child_process';
import { addAbortListener } from 'node:events';
import { Failure } from './failure.ts';
import { close, write } from './libc.ts';
import { pipeEnds } from './pipe-ends.ts';

/** What an empty pipe takes without blocking (pipe(7)). */
const pipeCapacity = 65_536;
const shownCharacters = 72;

export interface ChildOptions {
  /**
   * The child's standard input, at most 64 KiB: goes from where it lies into a kernel pipe, which the child may also open
   * as /dev/stdin. A view into the arena is copied nowhere else.
   */
  readonly input?: Uint8Array;
  /** Default 10,000. The child is killed after it. */
  readonly timeoutMilliseconds?: number;
  /** Default 16 MiB for stdout; the child is killed beyond it. */
  readonly outputLimit?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

export interface ChildResult {
  readonly status: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/**
 * Runs a program to its end and returns what it printed, whatever its exit status.
 * @throws Failure `program-missing` when it is not installed; `program-timeout`; `program-flooded`.
 */
export function runChild(
  command: string,
  args: readonly string[],
  options: ChildOptions = {},
): Promise<ChildResult> {
  const timeout = options.timeoutMilliseconds ?? 10_000;
  const limit = options.outputLimit ?? 16 << 20;
  const { promise, resolve, reject } = Promise.withResolvers<ChildResult>();
  const stdin = options.input === undefined ? undefined : pipeHolding(options.input);
  const child = spawn(command, args, {
    stdio: [stdin ?? 'ignore', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  if (stdin !== undefined) close(stdin);
  const chunks: Buffer[] = [];
  let size = 0;
  let stderr = '';
  // What the child itself has started may hold its pipes open: this end lets go of them.
  const end = (): void => {
    child.kill('SIGKILL');
    child.stdout?.destroy();
    child.stderr?.destroy();
  };
  const timer = setTimeout(() => {
    end();
    reject(new Failure('program-timeout', `\`${command}\` did not end within ${timeout} ms and was killed.`));
  }, timeout);
  child.on('error', (error: NodeJS.ErrnoException) => {
    clearTimeout(timer);
    reject(notStarted(command, error));
  });
  child.stdout?.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= limit) chunks.push(chunk);
    else {
      end();
      reject(
        new Failure('program-flooded', `\`${command}\` printed more than ${limit} bytes and was killed.`),
      );
    }
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    if (stderr.length < 65_536) stderr += chunk.toString('utf8');
  });
  child.on('close', (status) => {
    clearTimeout(timer);
    resolve({ status, stdout: Buffer.concat(chunks), stderr });
  });
  return promise;
}

/** The read end of a pipe that holds `bytes` and nothing more. */
function pipeHolding(bytes: Uint8Array): number {
  if (bytes.length > pipeCapacity)
    throw new RangeError(`A child takes at most ${pipeCapacity} bytes of input.`);
  const { readEnd, writeEnd } = pipeEnds();
  const written = write(writeEnd, bytes, bytes.length);
  close(writeEnd);
  if (written === bytes.length) return readEnd;
  close(readEnd);
  throw new Failure('pipe-unavailable', `A pipe took ${written} of ${bytes.length} bytes.`);
}

/** As `runChild`, but an exit status other than 0 is a Failure `program-failed` with what the program said. */
export async function requireChild(
  command: string,
  args: readonly string[],
  options: ChildOptions = {},
): Promise<ChildResult> {
  const result = await runChild(command, args, options);
  if (result.status !== 0) throw ended(command, args, result.status, result.stderr);
  return result;
}

/**
 * What a program prints, piece by piece, as much as the reader takes. It is killed when the signal is aborted, and when the reader ends the iteration early.
 * @throws Failure `program-missing` when it is not installed; behind what it printed, `program-failed` for an exit status other than 0.
 */
export async function* childOutput(
  command: string,
  args: readonly string[],
  options: { readonly signal?: AbortSignal; readonly env?: NodeJS.ProcessEnv } = {},
): AsyncGenerator<Buffer, void, void> {
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  promise.catch(() => undefined); // Awaited behind the output.
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  // What the child itself has started may hold its pipes open: this end lets go of them.
  const end = (): void => {
    child.kill('SIGKILL');
    child.stdout.destroy();
    child.stderr.destroy();
  };
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    if (stderr.length < 65_536) stderr += chunk.toString('utf8');
  });
  child.on('error', (error) => reject(notStarted(command, error)));
  child.on('close', resolve);
  try {
    using _abort = options.signal && addAbortListener(options.signal, end);
    for await (const chunk of child.stdout) yield Buffer.from(chunk);
    const status = await promise;
    if (status !== 0) throw ended(command, args, status, stderr);
  } finally {
    end();
  }
}

const notStarted = (command: string, error: NodeJS.ErrnoException): Error =>
  error.code === 'ENOENT'
    ? new Failure('program-missing', `The program \`${command}\` is not installed.`, {
        remedy: `Install it (Debian: \`apt-get install\` the package that has \`${command}\`), then repeat the command.`,
      })
    : error;

function ended(command: string, args: readonly string[], status: number | null, stderr: string): Failure {
  const said = stderr.trim().split('\n').slice(-3).join('; ');
  return new Failure(
    'program-failed',
    `\`${shown([command, ...args])}\` ended with ${status ?? 'a signal'}: ${said || 'it said nothing'}`,
  );
}

/** The words as far as a reader needs them to know what was run: a format or a list of paths would hide what it said. */
function shown(words: readonly string[]): string {
  const fit = words.findIndex((_, at) => words.slice(0, at + 1).join(' ').length > shownCharacters);
  return fit === -1 ? words.join(' ') : `${words.slice(0, Math.max(1, fit)).join(' ')} …`;
}
