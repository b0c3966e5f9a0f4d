// Why a bundle's TPM will not sign it, as the bundle's assurance and whoever asked for it are told.
import { Failure, reasonOf } from '../host/failure.ts';
import { unsignedNote } from './assurance.ts';
import type { Config } from './config.ts';
import type { NodeKeys } from './node-keys.ts';
import type { Assurance, NodeRecord } from './node-record.ts';

export interface TpmTrouble {
  readonly code: string | undefined;
  readonly why: string;
}

/** Undefined where the TPM answers, or is bypassed on purpose. */
export async function troubleWithTpm(context: {
  readonly config: Config;
  readonly record: NodeRecord;
  readonly keys: NodeKeys | null;
  readonly tpmTrouble?: unknown;
}): Promise<TpmTrouble | undefined> {
  const { config, record, keys, tpmTrouble } = context;
  if (record.tpm === null || config.tpm.mode === 'none') return undefined;
  try {
    if (keys === null) throw tpmTrouble ?? new Failure('tpm-unreachable', 'It does not answer.');
    await keys.capPcr();
    return undefined;
  } catch (error) {
    return { code: error instanceof Failure ? error.code : undefined, why: reasonOf(error) };
  }
}

/** As the node's, and what this bundle lacks beside. */
export const assuranceUnder = (assurance: Assurance, trouble: TpmTrouble | undefined): Assurance =>
  trouble === undefined
    ? assurance
    : { ...assurance, notes: [...assurance.notes, unsignedNote(trouble.code)] };
