// The courier's side of Sigstore: a pending bundle goes to Fulcio, Rekor and a timestamp authority and comes back
// with what they testify. What the node signed is not touched, and nothing here can make the node sign again.

import type { X509Certificate } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { type Bundle, bundleFromJSON, bundleToJSON } from '@sigstore/bundle';
import { RekorWitness, TSAWitness, type VerificationMaterial } from '@sigstore/sign';
import { Failure } from '../host/failure.ts';
import { asking, misconfigured, type SigstoreService } from './countersign-failure.ts';
import { type CertificateRequest, certify } from './fulcio.ts';
import { parseSigstoreBundle, type SigstoreBundle } from './sigstore-bundle.ts';
import { assertTestimony, assertTrusted } from './testimony.ts';

export interface SigstoreServices {
  readonly fulcio?: string | undefined;
  readonly rekor?: string | undefined;
  readonly tsa?: string | undefined;
  /** 1 unless said. Version 2 records certificates only, so it needs `fulcio`. */
  readonly rekorVersion?: 1 | 2 | undefined;
}

export interface CountersignRequest extends CertificateRequest {
  readonly bundle: unknown;
  readonly services: SigstoreServices;
  /** Where given, what the services testify must verify against it before it is taken. */
  readonly trustedRoot?: unknown;
}

/**
 * Countersigns a pending bundle at each service given. All of them answer, or a `CountersignFailure` is thrown and
 * the pending bundle stays what it is. Asking again is safe: what was signed never changes.
 */
export async function countersign(request: CountersignRequest): Promise<SigstoreBundle> {
  const pending = parseSigstoreBundle(request.bundle);
  const bundle = bundleFromJSON(pending);
  const { fulcio, rekor, tsa, rekorVersion } = checkedServices(request.services);
  const options = { timeout: request.timeoutMilliseconds, retry: 0 };

  const certificate = fulcio === undefined ? null : await certify(fulcio, pending, request);
  const verifier = certificate?.toString() ?? request.publicKeyPem;
  const witness = async (service: SigstoreService, ask: () => Promise<VerificationMaterial>) =>
    asking(service, request.identityToken, async () => {
      const testimony = await ask();
      assertTestimony(testimony, bundle);
      assemble(pending, bundle, null, testimony);
      return testimony;
    });
  const log = {
    rekorBaseURL: rekor ?? '',
    entryType: 'dsse',
    majorApiVersion: rekorVersion,
    ...options,
  } as const;
  const clock = { tsaBaseURL: tsa ?? '', ...options };
  const [entry, time] = await Promise.all([
    rekor === undefined
      ? {}
      : witness('rekor', () => new RekorWitness(log).testify(bundle.content, verifier)),
    tsa === undefined
      ? {}
      : witness('timestamp authority', () => new TSAWitness(clock).testify(bundle.content)),
  ]);
  const countersigned = assemble(pending, bundle, certificate, { ...entry, ...time });
  if (request.trustedRoot !== undefined) assertTrusted(countersigned, request);
  return countersigned;
}

function assemble(
  pending: SigstoreBundle,
  bundle: Bundle,
  certificate: X509Certificate | null,
  { tlogEntries = [], rfc3161Timestamps = [] }: VerificationMaterial,
): SigstoreBundle {
  const { content } = bundle.verificationMaterial;
  const countersigned = parseSigstoreBundle(
    withoutUndefined(
      bundleToJSON({
        ...bundle,
        verificationMaterial: {
          content:
            certificate === null
              ? content
              : { $case: 'certificate', certificate: { rawBytes: certificate.raw } },
          tlogEntries,
          timestampVerificationData: rfc3161Timestamps.length === 0 ? undefined : { rfc3161Timestamps },
        },
      }),
    ),
  );
  if (!isDeepStrictEqual(countersigned.dsseEnvelope, pending.dsseEnvelope)) {
    throw new Failure('bundle-changed', 'Countersigning would have changed what the node signed.', {
      kept: 'The bundle stays pending.',
    });
  }
  return countersigned;
}

const withoutUndefined = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

function checkedServices(services: SigstoreServices): SigstoreServices & { rekorVersion: 1 | 2 } {
  const remedy = 'Correct the Sigstore services in the courier’s configuration.';
  const { fulcio, rekor, tsa, rekorVersion = 1 } = services;
  if (rekorVersion === 2 && rekor !== undefined && fulcio === undefined) {
    const message = 'Rekor version 2 records certificates only, and no Fulcio is configured to issue one.';
    throw misconfigured('sigstore-services-invalid', message, remedy);
  }
  const address = (service: string, url: string | undefined): string | undefined => {
    if (url === undefined) return undefined;
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
      throw misconfigured(
        'sigstore-services-invalid',
        `The address of ${service} is not an http(s) URL.`,
        remedy,
      );
    }
    return url.replace(/\/+$/, '');
  };
  return {
    fulcio: address('Fulcio', fulcio),
    rekor: address('Rekor', rekor),
    tsa: address('the timestamp authority', tsa),
    rekorVersion,
  };
}
