// A real systemd-journald of one's own: a journal namespace (systemd-journald.service(8)), with or without systemd as init.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { requireChild, runChild } from '../../src/host/child.ts';
import { readIfPresent } from '../../src/host/durable.ts';
import { Failure, reasonOf } from '../../src/host/failure.ts';
import { JournalWriter, journalSocketPath } from '../../src/journal/write.ts';

const program = '/lib/systemd/systemd-journald';

/** The sentence why no journald can be started here, or undefined where it can. */
export function journaldMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'starting systemd-journald needs root';
  return existsSync(program) ? undefined : `${program} is not installed (Debian: systemd)`;
}

export interface Journald {
  readonly namespace: string;
  /** Native protocol, for `JournalWriter`. */
  readonly socketPath: string;
  /** Returns when all that was sent before can be read with journalctl. Leaves an entry of its own in the journal. */
  flush(): Promise<void>;
  /** SIGKILL, without waiting. */
  kill(): void;
  /** Starts it again on what it has written. */
  restart(): Promise<void>;
  /** Ends journald and removes all that it wrote. */
  stop(): Promise<void>;
}

/**
 * Starts systemd-journald for a namespace and waits until it listens. It dies with this process. What an earlier run of
 * the same namespace left is removed first; one that still runs is a Failure.
 *
 * Where /etc/machine-id is missing or empty (a container), systemd-machine-id-setup writes a random one. It stays:
 * journals are stored under it.
 */
export async function startJournald(namespace: string): Promise<Journald> {
  const missing = journaldMissing();
  if (missing !== undefined) throw new Failure('journald-unavailable', `No journald: ${missing}.`);
  const socketPath = journalSocketPath(namespace);
  const machine = await machineId();
  const { directory, settings, journals } = placesOf(namespace, machine);
  const clean = () => {
    for (const path of [directory, settings, ...journals]) rmSync(path, { recursive: true, force: true });
  };
  const busy = await connected(`${directory}/stdout`);
  if (busy !== undefined) {
    busy.destroy();
    throw new Failure('journald-busy', `A journald already serves the namespace ${namespace}.`);
  }
  swept ??= sweep(machine);
  await swept;
  clean();
  mkdirSync(settings, { recursive: true });
  // Volatile: a /var/log/journal that appears would make the machine's own journal persistent.
  writeFileSync(`${settings}/lab.conf`, '[Journal]\nStorage=volatile\n');

  let running = await launch(namespace, directory).catch((error: unknown) => {
    clean();
    throw error;
  });
  const writer = new JournalWriter({ socketPath });
  return {
    namespace,
    socketPath,
    flush: () => flush(writer, namespace, running.child),
    kill: () => void running.child.kill('SIGKILL'),
    restart: async () => {
      await running.end('SIGTERM');
      running = await launch(namespace, directory);
    },
    stop: async () => {
      writer[Symbol.dispose]();
      await running.end('SIGTERM');
      clean();
    },
  };
}

const placesOf = (namespace: string, machine: string) => ({
  directory: dirname(journalSocketPath(namespace)),
  settings: `/run/systemd/journald@${namespace}.conf.d`,
  journals: ['/run', '/var'].map((root) => `${root}/log/journal/${machine}.${namespace}`),
});

let swept: Promise<void> | undefined;

/** Removes what runs that were killed have left: namespaces of the lab that nobody serves. Once a process. */
async function sweep(machine: string): Promise<void> {
  for (const name of readdirSync('/run/systemd')) {
    const [, namespace] = /^journal\.(ea-.+)$/.exec(name) ?? [];
    if (namespace === undefined) continue;
    const { directory, settings, journals } = placesOf(namespace, machine);
    const served = await connected(`${directory}/stdout`);
    served?.destroy();
    if (served !== undefined || isYoung(directory)) continue;
    for (const path of [directory, settings, ...journals]) rmSync(path, { recursive: true, force: true });
  }
}

/** Another may just be starting there. */
const isYoung = (directory: string): boolean =>
  Date.now() - (statSync(directory, { throwIfNoEntry: false })?.mtimeMs ?? 0) < 60_000;

interface Running {
  readonly child: ChildProcess;
  end(signal: NodeJS.Signals): Promise<void>;
}

async function launch(namespace: string, directory: string): Promise<Running> {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program, namespace], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString('utf8')).slice(-2000);
  });
  // A namespaced journald leaves after 30 idle seconds; one open stdout stream keeps it.
  let keepAlive: Socket | undefined;
  const end = async (signal: NodeJS.Signals) => {
    keepAlive?.destroy();
    child.kill(signal);
    await Promise.race([exited, delay(3000, undefined, { ref: false }).then(() => child.kill('SIGKILL'))]);
    await exited;
  };
  keepAlive = await listening(`${directory}/stdout`, () => child.exitCode !== null);
  if (keepAlive !== undefined) return { child, end };
  await end('SIGKILL');
  throw new Failure('journald-failed', `systemd-journald did not start: ${said.trim() || 'it said nothing'}`);
}

async function machineId(): Promise<string> {
  const read = () => /^[0-9a-f]{32}$/m.exec(readIfPresent('/etc/machine-id') ?? '')?.[0];
  const present = read();
  if (present !== undefined) return present;
  await requireChild('systemd-machine-id-setup', []);
  const created = read();
  if (created === undefined) throw new Failure('journald-unavailable', '/etc/machine-id cannot be set up.');
  return created;
}

/** A loaded machine may let journald wait. */
const flushMilliseconds = 20_000;

/** journald reads its datagrams in order: once a marker is visible, so is everything before it. */
async function flush(writer: JournalWriter, namespace: string, journald: ChildProcess): Promise<void> {
  const marker = randomUUID();
  const query = [`--namespace=${namespace}`, '--quiet', '--output=cat', `LAB_FLUSH=${marker}`];
  let sent = false;
  let said = '';
  for (const deadline = Date.now() + flushMilliseconds; Date.now() < deadline; ) {
    sent ||= writer.send({ MESSAGE: 'Flush marker of the lab.', PRIORITY: '7', LAB_FLUSH: marker });
    const { stdout, stderr } = await runChild('journalctl', query);
    if (sent && stdout.length > 0) return;
    said = stderr.trim();
    await delay(10);
  }
  throw new Failure(
    'journald-failed',
    `The journal did not take the flush marker within its time: ${JSON.stringify({
      sent,
      ended: journald.exitCode ?? journald.signalCode,
      journalctl: said,
    })}.`,
  );
}

async function listening(path: string, gone: () => boolean): Promise<Socket | undefined> {
  for (let attempt = 0; attempt < 500 && !gone(); attempt += 1) {
    const stream = await connected(path);
    if (stream !== undefined) return stream;
    await delay(10);
  }
  return undefined;
}

async function connected(path: string): Promise<Socket | undefined> {
  const stream = connect(path);
  try {
    await once(stream, 'connect');
  } catch (error) {
    if (/ENOENT|ECONNREFUSED/.test(reasonOf(error))) return undefined;
    throw error;
  }
  stream.on('error', () => {});
  stream.unref();
  return stream;
}
