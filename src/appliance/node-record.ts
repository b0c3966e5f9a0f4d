// The node's own record.

import { nodeEndorsementSchema } from '../attestation/endorsement-format.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import { anchorsSchema } from '../keys/anchors.ts';
import { unprovisioned } from '../keys/lifecycle.ts';
import type { StateLayout } from './state-layout.ts';

const assurance = z.object({
  tpm: z.enum(['hardware', 'simulator', 'bypassed']),
  sigstore: z.enum(['on', 'pending', 'bypassed']),
  standIns: z.array(z.string()),
  notes: z.array(z.string()),
});
export type Assurance = z.infer<typeof assurance>;

/** The lockout parameters that the TPM had before; null where they were left alone. */
export const lockoutSchema = z.object({ max: z.int(), interval: z.int(), recovery: z.int() }).nullable();
export type LockoutBefore = z.infer<typeof lockoutSchema>;

const schema = z.object({
  format: z.literal('esoteric-appliance-node/1'),
  node: z.string(),
  role: z.string(),
  created: z.string(),
  assurance,
  /** Null on a node without a TPM. */
  tpm: z
    .object({
      ...anchorsSchema.shape,
      manufacturer: z.string(),
      firmware: z.string(),
      capPcr: z.int(),
      /** NV indices of the shares, by name of the key. */
      shares: z.record(z.string(), z.int()),
      /** PEM of the keys that new keys are sealed to. */
      authorities: z.object({ signer: z.string(), recovery: z.string() }),
      lockoutBefore: lockoutSchema,
      /** Values (SHA-256, hex) when they were last approved of the PCRs that keys are sealed to, by number. */
      pcrs: z.record(z.string(), z.string()),
      resetCount: z.int(),
      restartCount: z.int(),
      /** Absent in records that were written before it was looked for. */
      endorsement: nodeEndorsementSchema.exactOptional(),
    })
    .nullable(),
  keys: z.array(z.object({ name: z.string(), purpose: z.enum(['wireguard', 'macsec', 'seed']) })),
});
export type NodeRecord = z.infer<typeof schema>;

/** @throws Failure `unprovisioned` where there is none, `node-record-invalid` where it is damaged. */
export function readNodeRecord(layout: StateLayout): NodeRecord {
  const text = readIfPresent(layout.node);
  if (text === undefined) throw unprovisioned(layout.directory);
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new Failure('node-record-invalid', `The node's record ${layout.node} is damaged.`, {
      kept: 'Nothing was overwritten, and no key was unsealed.',
      remedy: 'Restore the file from a copy, or remove it and run `esoteric-appliance provision` again.',
      cause,
    });
  }
}

export function writeNodeRecord(layout: StateLayout, record: NodeRecord): void {
  writeDurably(layout.node, `${JSON.stringify(record, null, 2)}\n`);
}
