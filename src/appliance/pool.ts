// The collector pool as the configuration wants it: for the daemon, and for the commands where none runs.
import { accessSync, constants } from 'node:fs';
import { readAssessments } from '../entropy/assessment/record-file.ts';
import { loadCreditPolicy } from '../entropy/credit.ts';
import { EntropyPool, type PoolOptions } from '../entropy/pool.ts';
import { SeedFile } from '../entropy/seed-file.ts';
import type { SourceSettings } from '../entropy/source.ts';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { monotonicMicros } from '../host/time.ts';
import type { Config } from './config.ts';
import { policyPath } from './policies.ts';
import { stateLayout } from './state-layout.ts';

export interface PoolChoice {
  /** The disk source's, where the configuration names none. */
  readonly fallbackDirectory: string;
  /** Names or families above those of the configuration. */
  readonly sources?: readonly string[] | undefined;
  readonly onState?: PoolOptions['onState'];
  readonly onSourceFailed?: PoolOptions['onSourceFailed'];
  /** A seed file is kept, under this key where one is given. */
  readonly seedFile?: { readonly key: SecretBuffer | undefined };
}

/** Resolves when the pool serves. */
export async function startPool(
  config: Config,
  arena: SecretArena,
  choice: PoolChoice,
): Promise<EntropyPool> {
  const { fallbackDirectory, onState, onSourceFailed } = choice;
  const sources =
    choice.sources ?? (config.entropy.sources.includes('all') ? undefined : config.entropy.sources);
  const key = choice.seedFile?.key;
  const seedOptions = {
    path: stateLayout(config.node.state_dir).seed,
    arena,
    ...(key === undefined ? {} : { key }),
  };
  using seedFile = choice.seedFile === undefined ? undefined : SeedFile.take(seedOptions);
  const pool = await EntropyPool.start({
    arena,
    settings: sourceSettings(config, fallbackDirectory),
    policy: loadCreditPolicy(policyPath('entropy.toml')),
    assessments: readAssessments(config.node.state_dir),
    clock: monotonicMicros,
    ...(sources === undefined ? {} : { sources }),
    ...(onState === undefined ? {} : { onState }),
    ...(onSourceFailed === undefined ? {} : { onSourceFailed }),
    ...(seedFile === undefined ? {} : { seedFile }),
  });
  try {
    await pool.ready();
    if (seedFile !== undefined) SeedFile.leave(seedOptions, (out) => pool.read(out));
    return pool;
  } catch (error) {
    await pool[Symbol.asyncDispose]();
    throw error;
  }
}

/** What the sources are told of the node. */
export function sourceSettings(config: Config, fallbackDirectory: string): SourceSettings {
  const { entropy, node, tpm } = config;
  return {
    directory: entropy.directory === '' ? fallbackDirectory : entropy.directory,
    dnsServers: entropy.dns_servers,
    tcpHosts: entropy.tcp_hosts,
    audioDevice: entropy.audio_device,
    cameraDevice: entropy.camera_device,
    devices: entropy.devices,
    serialLines: entropy.serial_lines,
    interfaces: node.interfaces,
    gpu: entropy.gpu,
    ...(tpm.mode === 'tpm' ? { tcti: tpm.tcti } : {}),
  };
}

/** The state directory where it can be written, else the one given. */
export function writableDirectory(config: Config, otherwise: string): string {
  try {
    accessSync(config.node.state_dir, constants.W_OK);
    return config.node.state_dir;
  } catch {
    return otherwise;
  }
}
