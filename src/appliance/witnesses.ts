// Which Sigstore services are to witness a bundle's signature, and whether they have yet: the node and its commands ask this as well,
// and none of it needs a client of those services.
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Config } from './config.ts';
import type { StateLayout } from './state-layout.ts';

/** Where the countersigned signature file lies, once there is one. */
export const countersignedPath = (layout: StateLayout, sigstore: string): string =>
  join(layout.countersigned, basename(sigstore));

export const hasService = ({ sigstore: { mode, fulcio, rekor, tsa } }: Config): boolean =>
  mode !== 'none' && [fulcio, rekor, tsa].some((url) => url !== '');

/** Whether the services that are configured have yet to add what they know to it; not to what cannot be read. */
export function awaitsWitness(config: Config, layout: StateLayout, sigstore: string): boolean {
  if (!hasService(config) || existsSync(countersignedPath(layout, sigstore))) return false;
  try {
    return isPending(JSON.parse(readFileSync(sigstore, 'utf8')));
  } catch {
    return false;
  }
}

/** Signed by the node, and by no witness yet. */
export function isPending(bundle: unknown): boolean {
  const { verificationMaterial: material, dsseEnvelope: envelope } = bundle as {
    verificationMaterial?: {
      tlogEntries?: unknown[];
      certificate?: unknown;
      timestampVerificationData?: { rfc3161Timestamps?: unknown[] };
    };
    dsseEnvelope?: { signatures?: unknown[] };
  };
  return (
    (envelope?.signatures?.length ?? 0) > 0 &&
    material?.certificate === undefined &&
    (material?.tlogEntries?.length ?? 0) === 0 &&
    (material?.timestampVerificationData?.rfc3161Timestamps?.length ?? 0) === 0
  );
}
