// A node of the lab: its configuration, its TPM with a synthetic firmware log, its journal, and the real program run on them.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Config, loadConfig } from '../../src/appliance/config.ts';
import { isRunning } from '../../src/appliance/control.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import { type Status, statusOf } from '../../src/appliance/status.ts';
import { runChild } from '../../src/host/child.ts';
import { findUser } from '../../src/host/privileges.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { BusSearch } from './bus.ts';
import { syntheticEventLog } from './eventlog.ts';
import { type Journald, startJournald } from './journald.ts';
import { inside } from './network.ts';
import { type Swtpm, startSwtpm } from './swtpm.ts';
import { TpmProxy } from './tpm-proxy.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const nodeArguments = ['--disable-warning=ExperimentalWarning', main];

/** The words that run the program. */
export const esotericWords = (args: readonly string[]): string[] => [
  process.execPath,
  ...nodeArguments,
  ...args,
];

/** Runs the program to its end, in a namespace or here. */
export async function esoteric(
  args: readonly string[],
  options: { readonly namespace?: string; readonly timeoutMilliseconds?: number } = {},
): Promise<{ status: number | null; stdout: Buffer; stderr: string }> {
  const [program = '', ...words] = esotericWords(args);
  const [command, rest] =
    options.namespace === undefined ? [program, words] : inside(options.namespace, program, ...words);
  return await runChild(command, rest, { timeoutMilliseconds: options.timeoutMilliseconds ?? 120_000 });
}

/** As `esoteric`, with --json; throws what the program said when it fails. */
export async function esotericJson<T>(
  args: readonly string[],
  options: { readonly namespace?: string; readonly accept?: readonly number[] } = {},
): Promise<T> {
  const result = await esoteric([...args, '--json'], options);
  if (result.status === null || !(options.accept ?? [0]).includes(result.status)) {
    throw new Error(`${args.join(' ')} ended with ${result.status}: ${result.stderr}${result.stdout}`);
  }
  return JSON.parse(result.stdout.toString()) as T;
}

/** Quick to assess, and enough to seed from: what all sources cost at a start is tried where sources are, and in the demo. */
const quickSources = [
  'page-fault-timing',
  'system-call-timing',
  'clock-jitter',
  'hash-timing',
  'kernel-counters',
];

export interface LabNodeOptions {
  readonly name: string;
  /** Directory for everything that this node keeps. */
  readonly directory: string;
  /** Undefined: here. */
  readonly namespace?: string;
  readonly tpm: boolean;
  /** False where it is measured how fast the TPM is: no probe then sits on its bus. Default true. */
  readonly probed?: boolean;
  readonly sigstore: boolean;
  /** TOML after the tables that every lab node has; [courier] is in here. */
  readonly configuration: string;
  readonly interfaces: readonly string[];
  /** Of `run`, beside this process's own. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Lines of [tpm]. */
  readonly tpmSettings?: readonly string[];
  readonly courierUser?: string;
  /** The courier's files: name and content. They belong to its user. */
  readonly courierFiles?: Readonly<Record<string, string>>;
}

export class LabNode implements AsyncDisposable {
  readonly name: string;
  readonly stateDirectory: string;
  readonly config: string;
  readonly tpm: Swtpm | null;
  readonly journald: Journald;
  readonly #options: LabNodeOptions;
  readonly #probe: TpmProxy | undefined;
  readonly #search = new BusSearch();
  #process: ChildProcess | undefined;
  /** What the running node wrote to stderr. */
  log = '';

  private constructor(
    options: LabNodeOptions,
    tpm: Swtpm | null,
    probe: TpmProxy | undefined,
    journald: Journald,
  ) {
    this.#options = options;
    this.#probe = probe;
    this.name = options.name;
    this.stateDirectory = join(options.directory, 'state');
    this.config = join(options.directory, 'config.toml');
    this.tpm = tpm;
    this.journald = journald;
  }

  static async create(options: LabNodeOptions): Promise<LabNode> {
    mkdirSync(options.directory, { recursive: true, mode: 0o711 });
    const tpm = options.tpm ? await startSwtpm(join(options.directory, 'tpm')) : null;
    const probe = tpm === null || options.probed === false ? undefined : await TpmProxy.start(tpm);
    const journald = await startJournald(`ea-${options.name}`);
    const node = new LabNode(options, tpm, probe, journald);
    if (tpm !== null) await bootFirmware(tpm.tcti, join(options.directory, 'eventlog.bin'));
    writeFileSync(node.config, node.#configuration());
    node.#writeCourierFiles();
    return node;
  }

  /** Arguments that every command on this node takes. */
  get arguments(): string[] {
    return [
      '--config',
      this.config,
      ...(this.#options.tpm ? [] : ['--no-tpm']),
      ...(this.#options.sigstore ? [] : ['--no-sigstore']),
    ];
  }

  /** `esotericJson` with this node's arguments, in its namespace. */
  async ask<T>(args: readonly string[], accept?: readonly number[]): Promise<T> {
    const { namespace } = this.#options;
    const answer = await esotericJson<T>([...args, ...this.arguments], {
      ...(namespace === undefined ? {} : { namespace }),
      ...(accept === undefined ? {} : { accept }),
    });
    if (args[0] === 'provision') await this.#learn();
    return answer;
  }

  /** What `status` says, asked from this process: what is asked hundreds of times need not start a program each time. */
  status(): Promise<Status> {
    return statusOf(this.#loaded);
  }

  get #loaded(): Config {
    const { tpm, sigstore } = this.#options;
    return loadConfig({ path: this.config, overrides: { noTpm: !tpm, noSigstore: !sigstore } });
  }

  /** Starts `run` and waits until it answers as running. */
  async run(): Promise<void> {
    await this.#learn();
    const words = this.#reachable([process.execPath, ...nodeArguments, 'run', ...this.arguments]);
    const { namespace } = this.#options;
    const [command, args] =
      namespace === undefined ? [words[0] ?? '', words.slice(1)] : inside(namespace, ...words);
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
      stdio: ['ignore', 'inherit', 'pipe'],
      env: { ...process.env, ...this.#options.environment },
    });
    const before = this.log.length;
    const { control } = stateLayout(this.stateDirectory);
    child.stderr.on('data', (chunk: Buffer) => {
      this.log += chunk.toString('utf8');
    });
    this.#process = child;
    for (let waited = 0; waited < 120_000; waited += 50) {
      if (this.log.includes(' is running.', before) && (await isRunning(control))) return;
      if (child.exitCode !== null)
        throw new Error(`Node ${this.name} ended with ${child.exitCode}: ${this.log}`);
      await sleep(50);
    }
    throw new Error(`Node ${this.name} did not start: ${this.log}`);
  }

  /**
   * A courier of another user must be able to read the program. Where the checkout lies in a closed directory (/root), the
   * node runs from a bind mount of it at an open place, in a mount namespace that goes with the process.
   */
  #reachable(words: readonly string[]): string[] {
    if (this.#options.courierUser === undefined || isOpenToAll(root)) return [...words];
    const place = join(this.#options.directory, 'program');
    mkdirSync(place, { recursive: true, mode: 0o755 });
    const moved = words.map((word) => (word === main ? join(place, relative(root, main)) : word));
    const script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"';
    return ['unshare', '--mount', 'sh', '-c', script, 'sh', root, place, ...moved];
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  kill(): void {
    this.#process?.kill('SIGKILL');
  }

  /**
   * A reboot as its TPM sees it: reset, and the firmware's measurements made again, or those of another `firmware`. The node
   * must not run.
   */
  async reboot(firmware?: string): Promise<void> {
    if (this.tpm === null) return;
    await this.tpm.restart();
    await bootFirmware(this.tpm.tcti, join(this.#options.directory, 'eventlog.bin'), firmware);
  }

  /** Ends the daemon as a service manager would. */
  async stop(): Promise<number | null> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null)
      return child?.exitCode ?? null;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
    await exited;
    clearTimeout(timer);
    return child.exitCode;
  }

  /** The way to the TPM that the node takes, over the probe. */
  get probedTcti(): string {
    return this.#probe?.tcti ?? this.tpm?.tcti ?? '';
  }

  /** What has crossed the bus of the TPM. */
  get bus(): Buffer {
    return this.#probe?.recorded ?? Buffer.alloc(0);
  }

  /** The keys of this node as far as its TPM has opened them here, to be searched for on the bus. */
  get busSearch(): BusSearch {
    return this.#search;
  }

  /** Ends the node. @throws Error where one of its secrets has crossed the bus in a form that a probe can read. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#learn();
    const seen = this.#search.sightings(this.bus);
    this.#search[Symbol.dispose]();
    await this.#probe?.[Symbol.asyncDispose]();
    await this.tpm?.stop();
    await this.journald.stop();
    if (seen.length > 0) throw new Error(`On the bus of the TPM of ${this.name}: ${seen.join(', ')}`);
  }

  async #learn(): Promise<void> {
    if (this.tpm === null || this.#probe === undefined) return;
    const config = loadConfig({ path: this.config });
    await this.#search.learn({ ...config, tpm: { ...config.tpm, tcti: this.tpm.tcti } });
  }

  #configuration(): string {
    const { name, interfaces, tpm, directory, configuration } = this.#options;
    return [
      '[node]',
      `name = "${name}"`,
      `interfaces = ${JSON.stringify(interfaces)}`,
      `state_dir = "${this.stateDirectory}"`,
      ...(tpm && this.tpm !== null
        ? [
            '[tpm]',
            `tcti = "${this.probedTcti}"`,
            `event_log = "${join(directory, 'eventlog.bin')}"`,
            'stand_ins = ["swtpm", "synthetic event log"]',
            ...(this.#options.tpmSettings ?? []),
          ]
        : []),
      '[journal]',
      `namespace = "${this.journald.namespace}"`,
      ...(/^\[entropy\]/m.test(configuration)
        ? []
        : ['[entropy]', `sources = ${JSON.stringify(quickSources)}`]),
      configuration,
      '',
    ].join('\n');
  }

  #writeCourierFiles(): void {
    const { courierFiles = {}, courierUser, directory } = this.#options;
    const owner = courierUser === undefined ? undefined : findUser(courierUser);
    for (const [name, content] of Object.entries(courierFiles)) {
      const path = join(directory, name);
      writeFileSync(path, content, { mode: 0o600 });
      if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
      chmodSync(path, 0o400);
    }
  }
}

/** Whether every directory on the way may be entered by any user. */
function isOpenToAll(path: string): boolean {
  const open = (statSync(path).mode & 0o001) !== 0;
  return open && (dirname(path) === path || isOpenToAll(dirname(path)));
}

/** Does what firmware would have done: extends the synthetic log into the PCRs and leaves it where the kernel would. */
async function bootFirmware(tcti: string, path: string, firmware?: string): Promise<void> {
  const { log, extends: events } = syntheticEventLog(firmware);
  await using tpm = await openTpm({ tcti });
  for (const { pcr, sha256, sha1 } of events) {
    const banks = await tpm.pcrBanks();
    await tpm.pcrExtend(pcr, { sha256, ...(banks.includes('sha1') ? { sha1 } : {}) });
  }
  writeFileSync(path, log);
}
