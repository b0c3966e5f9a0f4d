// What the end-to-end tests share: a scratch directory that couriers of other users may pass through, waiting for something to
// become so, and a free port.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { esoteric, esotericWords, LabNode, type LabNodeOptions } from '../lab/node.ts';

const root = resolve(import.meta.dirname, '../..');
export const profile = (role: string): string => join(root, 'provisioning', `${role}.toml`);

export class Scratch implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'ea-e2e-'));

  constructor() {
    chmodSync(this.path, 0o711);
  }

  at(...names: string[]): string {
    return join(this.path, ...names);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A node of the lab that watches no interface; its name is unique on the machine. */
export async function labNode(
  scratch: Scratch,
  word: string,
  options: Partial<LabNodeOptions> = {},
): Promise<LabNode> {
  return await LabNode.create({
    name: `${word}-${process.pid}`,
    directory: scratch.at(word),
    tpm: false,
    sigstore: false,
    configuration: '',
    interfaces: [],
    ...options,
  });
}

/** Asks every 20 ms until there is an answer. */
export async function until<T>(
  what: string,
  ask: () => T | undefined | Promise<T | undefined>,
  milliseconds = 60_000,
): Promise<T> {
  for (const deadline = Date.now() + milliseconds; Date.now() < deadline; await sleep(20)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
  }
  throw new Error(`In vain for ${milliseconds} ms: ${what}`);
}

/** A TCP port of the loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}

/** Direct children of a process, by id, with their command lines. */
export function childrenOf(pid: number): { readonly pid: number; readonly command: string }[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean)
    .flatMap((child) => {
      try {
        const command = readFileSync(`/proc/${child}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        return [{ pid: Number(child), command }];
      } catch {
        return []; // It has just ended.
      }
    });
}

/** `stream` without an end, of which the last `kept` bytes are kept; resolves when bytes flow. */
export async function endlessStream(
  node: LabNode,
  kept: number,
): Promise<{ readonly ended: Promise<{ status: number | null; stdout: Buffer; stderr: string }> }> {
  const words = ['bash', ...esotericWords(['stream', ...node.arguments])];
  const script = `set -o pipefail; "$@" | tail -c ${kept}`;
  const child = spawn('bash', ['-c', script, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const ended = once(child, 'close').then(([status]: (number | null)[]) => ({
    status: status ?? null,
    stdout: Buffer.concat(stdout),
    stderr: Buffer.concat(stderr).toString(),
  }));
  await until('bytes flow', () => {
    const reader = childrenOf(child.pid ?? 0).find(({ command }) => command.includes(' stream '));
    const io = reader === undefined ? '' : readFileSync(`/proc/${reader.pid}/io`, 'utf8');
    return /wchar: [1-9]\d{6}/.test(io) ? true : undefined;
  });
  return { ended };
}

/** The courier of a running node. */
export const courierOf = (node: LabNode): Promise<number> =>
  until(
    'the courier is there',
    () => childrenOf(node.pid).find(({ command }) => / courier( |$)/.test(command))?.pid,
  );

export interface Refusal {
  readonly status: number | null;
  readonly code: string;
  readonly message: string;
  readonly kept: string;
  readonly remedy: string;
}

/** Runs a command that is to fail: its exit status and what it says of the failure. */
export async function refusalOf(args: readonly string[]): Promise<Refusal> {
  const { status, stdout, stderr } = await esoteric([...args, '--json']);
  try {
    const { error } = JSON.parse(stdout.toString()) as { error: Omit<Refusal, 'status'> };
    return { ...error, status };
  } catch {
    throw new Error(`${args.join(' ')} ended with ${status} and gave no failure: ${stdout}${stderr}`);
  }
}

/** Every file below a directory, with its content. */
export function contentOf(directory: string): Map<string, Buffer> {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return new Map(
    files.map((entry) => [
      join(entry.parentPath, entry.name),
      readFileSync(join(entry.parentPath, entry.name)),
    ]),
  );
}
