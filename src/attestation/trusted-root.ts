// The trusted root (`trusted_root.json`): the certificate authorities and logs whose word a relying party takes.
// https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto

import type { KeyObject } from 'node:crypto';
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
