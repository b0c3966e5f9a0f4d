// What whoever has the whole machine may try: the sealed key of a node, its TPM, and the approval that lies on its disk.
// No program is in the way: the TPM alone judges.

import { storedApprovals } from '../../src/appliance/approvals.ts';
import { loadConfig } from '../../src/appliance/config.ts';
import { NodeKeys } from '../../src/appliance/node-keys.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import type { SecretArena, SecretBuffer } from '../../src/host/arena.ts';
import type { LabNode } from './node.ts';

/** @throws TpmError `tpm-policy` where the TPM refuses, with its response code. */
export async function unsealByForce(node: LabNode, arena: SecretArena, name: string): Promise<SecretBuffer> {
  const layout = stateLayout(node.stateDirectory);
  const { tpm } = readNodeRecord(layout);
  const [approval] = storedApprovals(layout);
  if (tpm === null || approval === undefined) throw new Error(`Node ${node.name} has no TPM or no approval.`);
  await using keys = await NodeKeys.open(loadConfig({ path: node.config }), tpm);
  return await keys.unseal(arena, layout.directory, name, approval);
}
