// The trusted root (`trusted_root.json`): the certificate authorities and logs whose word a relying party takes.
// https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto

import type { KeyObject } from 'node:crypto';
import type { TransparencyLogEntry } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import { type TrustMaterial, toTrustMaterial } from '@sigstore/verify';
import { exitStatus, Failure } from '../host/failure.ts';

const parts = ['certificateAuthorities', 'timestampAuthorities', 'tlogs', 'ctlogs'] as const;

/** Reads a trusted root. Throws a `trusted-root-invalid` failure (wrong usage) when it is not one. */
export function parseTrustedRoot(json: unknown): TrustedRoot {
  try {
    const root = TrustedRoot.fromJSON(json);
    toTrustMaterial(root);
    if (parts.every((part) => root[part].length === 0)) throw new Error('it names no authority and no log');
    return root;
  } catch (cause) {
    throw new Failure(
      'trusted-root-invalid',
      'The trusted root cannot be read: it is not a trusted_root.json.',
      {
        remedy: 'Give the trusted_root.json of the Sigstore instance that countersigned the bundle.',
        status: exitStatus.usage,
        cause,
      },
    );
  }
}

/** The root, and the one key that a bundle without a certificate may be signed with. */
export function trustMaterial(root: TrustedRoot | null, key: KeyObject): TrustMaterial {
  return toTrustMaterial(root ?? TrustedRoot.fromJSON({}), () => ({ publicKey: key, validFor: () => true }));
}

/**
 * Whether an entry is of a log whose key was not in use when it was timestamped. The library asks that by the time that the log signed;
 * a log of version 2 signs none.
 */
export function outOfUse(
  root: TrustedRoot,
  entries: readonly TransparencyLogEntry[],
  stamped: readonly Date[],
): boolean {
  const logs = toTrustMaterial(root).tlogs;
  return entries.some(({ inclusionPromise, logId }) => {
    const log = logs.find(({ logID }) => logId !== undefined && logID.equals(logId.keyId));
    if (inclusionPromise !== undefined || log === undefined) return false;
    return stamped.some((time) => time < log.validFor.start || time > log.validFor.end);
  });
}
