// A provisioned node on the TPM of the benchmarks, with its keys open as in a node that runs.
import { writeFileSync } from 'node:fs';
import { loadConfig } from '../../src/appliance/config.ts';
import { NodeKeys } from '../../src/appliance/node-keys.ts';
import { type NodeRecord, readNodeRecord } from '../../src/appliance/node-record.ts';
import { provision } from '../../src/appliance/provision.ts';
import { type StateLayout, stateLayout } from '../../src/appliance/state-layout.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { type BenchTpm, withBareTpm } from './bench-tpm.ts';

/** The key that a relay's profile names for its tunnels. */
export const keyName = 'wireguard';

export interface BenchNode extends BenchTpm {
  readonly keys: NodeKeys;
  readonly record: NodeRecord;
  readonly anchors: NonNullable<NodeRecord['tpm']>;
  readonly layout: StateLayout;
}

export function withNode<T>(work: (node: BenchNode) => Promise<T>): Promise<T> {
  return withBareTpm(async (bench) => {
    await measureFirmware(bench.tcti);
    const config = loadConfig({ path: writeConfiguration(bench) });
    await provision(config);
    const layout = stateLayout(config.node.state_dir);
    const record = readNodeRecord(layout);
    if (record.tpm === null) throw new Error('The node of the benchmarks has no TPM.');
    await using keys = await NodeKeys.open(config, record.tpm);
    return await work({ ...bench, keys, record, anchors: record.tpm, layout });
  });
}

/** Path of a configuration for this TPM; the state goes into the scratch directory. */
export function writeConfiguration({ tcti, path }: BenchTpm): string {
  const file = path('config.toml');
  const lines = [
    '[node]',
    'name = "bench"',
    'role = "relay"',
    `state_dir = "${path('state')}"`,
    '[tpm]',
    `tcti = "${tcti}"`,
    'stand_ins = ["swtpm"]',
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  return file;
}

/** Extends the PCRs that keys are sealed to, as a firmware that measures would. */
export async function measureFirmware(tcti: string): Promise<void> {
  await using tpm = await openTpm({ tcti });
  for (const pcr of [0, 7]) await tpm.pcrExtend(pcr, { sha256: new Uint8Array(32).fill(1 + pcr) });
}
