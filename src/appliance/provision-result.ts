// What `provision --json` tells (docs/cli.md), and how it follows from the node's records.
import type { EnrolmentRecord } from '../attestation/enrolment.ts';
import { handleText } from '../keys/anchors.ts';
import { fingerprintOf } from '../keys/policy.ts';
import type { Config } from './config.ts';
import type { Assurance, NodeRecord } from './node-record.ts';
import { type HeldBlob, type OwnedObject, ownedBy } from './ownership.ts';
import type { StateLayout } from './state-layout.ts';

/** The JSON contract of `provision --json` (docs/cli.md). */
export interface ProvisionResult {
  readonly node: string;
  readonly assurance: Assurance;
  readonly tpm: null | {
    readonly tcti: string;
    readonly manufacturer: string;
    readonly firmware: string;
    readonly srk: { readonly handle: string; readonly name: string; readonly adopted: boolean };
    readonly ak: { readonly handle: string; readonly name: string; readonly publicKey: string };
    readonly signingKey: { readonly name: string; readonly publicKey: string };
    /** Hex SHA-256 of the public keys that can open what is sealed. */
    readonly authorities: { readonly policySigner: string; readonly recoveryKey: string };
  };
  readonly keys: readonly {
    readonly name: string;
    readonly purpose: string;
    readonly publicKey: string | null;
    readonly sealed: boolean;
  }[];
  /** Whether the keys open in the present state; null without a TPM. `request`: what the policy signer is to sign. */
  readonly approval: null | { readonly state: 'approved' | 'needed'; readonly request: string | null };
  /** What the node has, or would have, in the TPM. */
  readonly owns: readonly OwnedObject[];
  /** Path of the enrolment record. */
  readonly enrolment: string;
  /** What this run made or changed; empty when everything stood already. */
  readonly changed: readonly string[];
  /** With --dry-run on a node with a TPM: what would be made beside `owns`. */
  readonly planned?: {
    readonly blobs: readonly HeldBlob[];
    /** The lockout parameters that would be set; null where they stay as they are. */
    readonly lockout: null | { readonly maxTries: number; readonly recoverySeconds: number };
  };
}

export function resultOf(
  config: Config,
  layout: StateLayout,
  record: NodeRecord,
  enrolment: EnrolmentRecord,
  approval: ProvisionResult['approval'],
  changed: readonly string[],
): ProvisionResult {
  return {
    node: record.node,
    assurance: record.assurance,
    tpm: tpmResult(config, record, enrolment),
    keys: record.keys.map((key) => ({
      ...key,
      publicKey: enrolment.keys.find((entry) => entry.name === key.name)?.publicKey ?? null,
      sealed: record.tpm !== null,
    })),
    approval,
    owns: ownedBy(record),
    enrolment: layout.enrolment,
    changed,
  };
}

function tpmResult(config: Config, record: NodeRecord, { tpm }: EnrolmentRecord): ProvisionResult['tpm'] {
  if (tpm === null || record.tpm === null) return null;
  const { authorities, srk } = record.tpm;
  return {
    tcti: config.tpm.tcti,
    manufacturer: tpm.manufacturer,
    firmware: tpm.firmware,
    srk: { handle: handleText(srk.handle), name: srk.name, adopted: srk.adopted },
    ak: { handle: tpm.ak.handle, name: tpm.ak.name, publicKey: tpm.ak.publicKey },
    signingKey: { name: tpm.signingKey.name, publicKey: tpm.signingKey.publicKey },
    authorities: {
      policySigner: fingerprintOf(authorities.signer),
      recoveryKey: fingerprintOf(authorities.recovery),
    },
  };
}
