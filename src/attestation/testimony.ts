// Whether what a witness answered is about our signature at all, so that no wrong answer replaces a pending bundle.
// RFC 3161, section 2.4.2; Rekor's `dsse` entry, versions 0.0.1 and 0.0.2.

import { createHash } from 'node:crypto';
import { type Bundle, bundleFromJSON } from '@sigstore/bundle';
import { RFC3161Timestamp } from '@sigstore/core';
import type { VerificationMaterial } from '@sigstore/sign';
import { z } from '../host/zod.ts';
import { CountersignFailure, type SigstoreService } from './countersign-failure.ts';
import { readSigningKey } from './dsse.ts';
import type { SigstoreBundle } from './sigstore-bundle.ts';
import { parseTrustedRoot } from './trusted-root.ts';
import { examine, type SigstoreClaims } from './witnesses.ts';

const entryBody = z.union([
  z.object({ spec: z.object({ payloadHash: z.object({ value: z.hex() }) }) }),
  z.object({ spec: z.object({ dsseV002: z.object({ payloadHash: z.object({ digest: z.base64() }) }) }) }),
]);

/** Throws when an entry records another payload, or a timestamp is over another signature. Proves no more than that. */
export function assertTestimony(testimony: VerificationMaterial, { content }: Bundle): void {
  if (content.$case !== 'dsseEnvelope') throw new Error('the bundle carries no envelope');
  const { payload, signatures } = content.dsseEnvelope;
  const digest = createHash('sha256').update(payload).digest();
  for (const { canonicalizedBody } of testimony.tlogEntries ?? []) {
    const { spec } = entryBody.parse(JSON.parse(canonicalizedBody.toString('utf8')));
    const recorded =
      'dsseV002' in spec
        ? Buffer.from(spec.dsseV002.payloadHash.digest, 'base64')
        : Buffer.from(spec.payloadHash.value, 'hex');
    if (!recorded.equals(digest)) throw new Error('it recorded another payload');
  }
  for (const { signedTimestamp } of testimony.rfc3161Timestamps ?? []) {
    RFC3161Timestamp.parse(Buffer.from(signedTimestamp)).tstInfo.verify(
      signatures[0]?.sig ?? Buffer.alloc(0),
    );
  }
}

const witnessOf: Record<keyof SigstoreClaims, SigstoreService> = {
  signature: 'configuration',
  'signer identity': 'fulcio',
  transparency: 'rekor',
  time: 'timestamp authority',
};

/** Throws a `CountersignFailure` when something in the countersigned bundle fails against the trusted root. */
export function assertTrusted(
  countersigned: SigstoreBundle,
  given: { readonly publicKeyPem: string; readonly trustedRoot?: unknown },
): void {
  const { claims } = examine({
    bundle: bundleFromJSON(countersigned),
    root: parseTrustedRoot(given.trustedRoot),
    key: readSigningKey(given.publicKeyPem),
    identity: null,
    standIns: [],
  });
  for (const claim of ['signature', 'signer identity', 'transparency', 'time'] as const) {
    const { result, detail } = claims[claim];
    if (result !== 'failed') continue;
    const message = `What the Sigstore services testified does not verify (${claim}: ${detail}).`;
    throw new CountersignFailure(witnessOf[claim], true, 'testimony-untrusted', message, {
      remedy: 'Check that the trusted root is that of the Sigstore services in the configuration.',
    });
  }
}
