// A software TPM for tests and the demo: swtpm with its state in a directory, reached through tpm2-tss's swtpm TCTI.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { resolve as resolvePath } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Swtpm {
  /** For `openTpm`. */
  readonly tcti: string;
  readonly pid: number;
  readonly directory: string;
  /** Ends it; the state stays in the directory. */
  stop(): Promise<void>;
  /** SIGKILL, without waiting. */
  kill(): void;
  /** Stops and starts it on the same state: a TPM reset. */
  restart(): Promise<void>;
}

/**
 * Starts a TPM whose state is in `dir` (made if need be). It dies with this process, however that ends, and serves one
 * client after another.
 */
export async function startSwtpm(dir: string): Promise<Swtpm> {
  const directory = resolvePath(dir); // A relative tpmstate directory puts swtpm into failure mode.
  mkdirSync(directory, { recursive: true });
  const socket = `${directory}/swtpm.sock`;
  let child = await launch(directory, socket);
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 2000);
    await ended;
    clearTimeout(timer);
  };
  return {
    tcti: `swtpm:path=${socket}`,
    get pid() {
      return child.pid ?? 0;
    },
    directory,
    stop,
    kill: () => void child.kill('SIGKILL'),
    restart: async () => {
      await stop();
      child = await launch(directory, socket);
    },
  };
}

async function launch(directory: string, socket: string): Promise<ChildProcess> {
  for (const path of [socket, `${socket}.ctrl`]) rmSync(path, { force: true });
  // biome-ignore format: one option and its value a line
  const child = spawn('setpriv', [
    '--pdeathsig', 'KILL',
    'swtpm', 'socket', '--tpm2',
    '--tpmstate', `dir=${directory}`,
    '--server', `type=unixio,path=${socket}`,
    '--ctrl', `type=unixio,path=${socket}.ctrl`, // where tpm2-tss looks for it
    '--flags', 'not-need-init,startup-clear',
  ], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString('utf8');
  });
  let failure: Error | undefined;
  child.on('error', (error) => {
    failure = error;
  });
  for (let waited = 0; waited < 5000; waited += 10) {
    if (failure !== undefined) throw failure;
    if (child.exitCode !== null) throw new Error(`swtpm ended with ${child.exitCode}: ${said.trim()}`);
    if (listens(child.pid, socket) && listens(child.pid, `${socket}.ctrl`)) return child;
    await sleep(10);
  }
  child.kill('SIGKILL');
  throw new Error(`swtpm did not start: ${said.trim()}`);
}

/** A socket's file is there before anybody listens at it; the kernel's table tells (proc(5): SO_ACCEPTCON is 0x10000). */
function listens(pid: number | undefined, path: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/net/unix`, 'latin1')
      .split('\n')
      .some((line) => line.split(/\s+/)[3] === '00010000' && line.endsWith(` ${path}`));
  } catch {
    return false; // It has ended meanwhile.
  }
}
