// `run`: the node daemon from start to stop, its control socket, and the courier beside it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { dropDeliveryVariables } from '../host/environment.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { levels, type ZeroizeLevel } from '../interlock/causes.ts';
import { attestMethods } from './attest-methods.ts';
import type { Config } from './config.ts';
import { type Methods, serveControl } from './control.ts';
import type { BundleRequest } from './evidence.ts';
import { Node } from './node.ts';
import { codeDirectory, packageRoot } from './policies.ts';
import { provision } from './provision.ts';
import { stateLayout } from './state-layout.ts';
import { liveStatus } from './status.ts';

export interface RunOptions {
  /** Arguments after `courier` that lead to the same configuration. */
  readonly courierArguments: readonly string[];
  /** Provision first where nothing is: only without a TPM, where nothing lasting is made. */
  readonly provisionFirst: boolean;
  /** Go on where memory cannot be locked. */
  readonly allowSwappable: boolean;
  /** Aborted when the node is to stop. */
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  readonly onReady?: (node: Node) => void;
}

/** Runs until `signal` aborts. A node that is zeroized meanwhile stays and answers. @throws as `Node.start`. */
export async function runNode(config: Config, options: RunOptions): Promise<void> {
  const courierVariables = leaveCredentials(options.log);
  if (options.provisionFirst && !existsSync(stateLayout(config.node.state_dir).node)) await provision(config);
  await using node = await Node.start(config, options.log, { allowSwappable: options.allowSwappable });
  await using _control = await serveControl(node.layout.control, methodsOf(node));
  await using _courier = config.courier.spawn
    ? startCourier(options, courierVariables)
    : { [Symbol.asyncDispose]: async () => {} };
  node.ready();
  options.onReady?.(node);
  if (!options.signal.aborted) await once(options.signal, 'abort');
  options.log('Stopping: links are removed, memory is wiped.');
}

/** Credentials of deliveries are the courier's. @returns variables for it that lead to them, and are none themselves. */
function leaveCredentials(log: (line: string) => void): Readonly<Record<string, string>> {
  const { handed, wiped } = dropDeliveryVariables();
  if (wiped.length > 0) {
    log(
      `${wiped.join(', ')} stood in the environment of the node daemon, which may not have them. They are wiped here, and no courier gets them: name files in courier.s3_credentials_file and sigstore.identity_token_file, or start the courier by itself (courier.spawn = false) with these variables.`,
    );
  }
  return handed;
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

function number(value: unknown, name: string, low: number, high: number): number {
  if (typeof value === 'number' && value >= low && value <= high) return value;
  throw new Failure('usage', `${name} must be a number from ${low} to ${high}.`, {
    status: exitStatus.usage,
  });
}

function whole(value: unknown, name: string, low: number, high: number): number {
  if (Number.isInteger(value)) return number(value, name, low, high);
  throw new Failure('usage', `${name} must be a whole number from ${low} to ${high}.`, {
    status: exitStatus.usage,
  });
}

/** Of what is recorded for good: somebody will want to know why. */
function reasonIn(params: Record<string, unknown>): string {
  const reason = text(params.reason)?.trim() ?? '';
  if (reason !== '') return reason;
  throw new Failure('usage', 'The reason is empty; it goes into the custody log.', {
    kept: 'Nothing was done.',
    remedy: 'Say why, with --reason.',
    status: exitStatus.usage,
  });
}

/** By hand, whatever the caller says. */
const bundleRequest = (params: Record<string, unknown>): BundleRequest => ({
  reason: text(params.reason) ?? 'by hand',
  trigger: 'hand',
  since: text(params.since),
  until: text(params.until),
  units: Array.isArray(params.units) ? params.units.map(String) : undefined,
  boot: text(params.boot),
  lines: params.lines === undefined ? undefined : number(params.lines, 'The number of lines', 1, 2 ** 31),
  journalPath: text(params.journalPath),
  caseKey: text(params.caseKey),
  namespace: text(params.namespace),
  caseName: text(params.caseName),
  examiner: text(params.examiner),
  recipients: Array.isArray(params.recipients) ? params.recipients.map(String) : undefined,
  upload: text(params.upload),
});

/** What the control socket answers. Parameters come from other processes and are checked here. */
function methodsOf(node: Node): Methods {
  return {
    ...attestMethods(node),
    status: async () => await liveStatus(node),
    'maintenance-begin': async (params) => {
      const interfaces = Array.isArray(params.interfaces) ? params.interfaces.map(String) : [];
      return node.maintenance.begin({
        interfaces,
        seconds: whole(params.seconds, 'The duration', 1, 86_400),
        flaps: whole(params.flaps, 'The number of flaps', 1, 1000),
        reason: reasonIn(params),
      });
    },
    'maintenance-end': async () => node.maintenance.end(),
    'maintenance-forbid': async (params) =>
      node.maintenance.forbid(whole(params.seconds, 'The duration', 1, 604_800), reasonIn(params)),
    'maintenance-allow': async () => node.maintenance.allow(),
    'maintenance-settle': async (params) =>
      node.maintenance.settle(text(params.what) ?? '', reasonIn(params)),
    zeroize: async (params) => {
      const level = text(params.level);
      if (level !== undefined && !levels.includes(level as ZeroizeLevel)) {
        throw new Failure('usage', `There is no level "${level}".`, {
          remedy: `Use one of ${levels.join(', ')}.`,
          status: exitStatus.usage,
        });
      }
      return await node.striking.zeroize(text(params.reason) ?? '', level as ZeroizeLevel | undefined);
    },
    command: async (params) => node.guard.obey(text(params.command) ?? ''),
    predict: async (params) =>
      node.guard.predict(text(params.source) ?? 'unknown', number(params.confidence, 'The confidence', 0, 1)),
    approve: async (params) => await node.approve(text(params.approval) ?? ''),
    'custody-followed': async () => await node.custodyFollower.followed(),
    collect: async (params, caller) => await node.collect(bundleRequest(params), caller.progress),
    'collect-preview': async (params, caller) => await node.preview(bundleRequest(params), caller.progress),
    stream: async (params, caller) => {
      const wanted =
        params.bytes === null ? Number.POSITIVE_INFINITY : number(params.bytes, 'bytes', 0, 2 ** 53);
      const block = new Uint8Array(65_536);
      const consumer = node.pool.consumer('control socket');
      try {
        consumer.read(block.subarray(0, 1)); // Refuses before anything is promised.
        const socket = caller.raw();
        for (let sent = 0; sent < wanted && socket.writable; ) {
          const part = block.subarray(0, Math.min(block.length, wanted - sent));
          consumer.read(part);
          await new Promise((resolve) => socket.write(part, resolve));
          sent += part.length;
        }
      } finally {
        block.fill(0);
        node.pool.release(consumer);
      }
    },
    pool: async (params) => {
      const restart = text(params.restart);
      if (restart !== undefined) node.pool.restart(restart);
      return node.pool.status();
    },
    alert: async (params) => {
      const key = `${node.record.node}-test-${Date.now()}`;
      const alert = {
        key,
        severity: 'critical' as const,
        title: `${node.record.node}: test of the alert channels`,
        body: text(params.message) ?? 'This is a test. Nothing has happened.',
        facts: {},
      };
      node.announcer.alert(alert, 'without a bundle');
      return { key };
    },
  };
}

/**
 * The courier as a child: it ends when its standard input does, after a last attempt at what is due, so that it outlives a node
 * that was killed just long enough to tell. One that dies is started again, after a pause that doubles up to a minute.
 */
function startCourier(options: RunOptions, variables: Readonly<Record<string, string>>): AsyncDisposable {
  let stopping = false;
  let pause = 500;
  let child: ChildProcess | undefined;
  const start = (): void => {
    child = spawn(
      process.execPath,
      [...process.execArgv, mainPath(), 'courier', ...options.courierArguments],
      {
        stdio: ['pipe', 'ignore', 'inherit'],
        env: { ...process.env, ...variables },
      },
    );
    child.on('error', (error) => options.log(`The courier could not be started: ${error.message}`));
    child.on('exit', (status, signal) => {
      if (stopping) return;
      pause = Math.min(pause * 2, 60_000);
      options.log(`The courier ended (${signal ?? status}); it is started again in ${pause / 1000} s.`);
      setTimeout(() => {
        if (!stopping) start();
      }, pause).unref();
    });
  };
  start();
  return {
    async [Symbol.asyncDispose]() {
      stopping = true;
      const running = child;
      if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
      running.stdin?.end();
      await once(running, 'exit');
    },
  };
}

/** The program as it runs now. */
const mainPath = (): string =>
  `${packageRoot}${codeDirectory}/cli/main.${codeDirectory === 'src' ? 'ts' : 'js'}`;
