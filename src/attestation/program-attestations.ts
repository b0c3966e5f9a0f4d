// What others attest of the running program: how it was built (SLSA provenance v1) and what it consists of (an SBOM, in SPDX or
// CycloneDX), each an in-toto statement in a Sigstore bundle, over the package that it was installed from. Pure: bytes in, verdict out.
// https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation/tree/main/spec/predicates

import { bundleFromJSON } from '@sigstore/bundle';
import { reasonOf } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import type { AttestationKind, AttestationOutcome } from './program-format.ts';
import { verifyArtifactBundle } from './sigstore-verify.ts';
import { statementPayloadType } from './statement.ts';
import type { ExpectedIdentity } from './witnesses.ts';

export interface Attestation {
  /** Of the file. */
  readonly name: string;
  readonly bundle: unknown;
}

interface Predicate {
  readonly kind: AttestationKind;
  /** Others' words about the package. @throws ZodError for a predicate that is none of this type. */
  readonly read: (predicate: unknown) => Told;
}

interface Told {
  readonly detail: string;
  /** Package URLs (purl) of what an SBOM lists. */
  readonly listed?: readonly string[];
}

const text = z.string().max(2048);
const provenance = z.looseObject({
  buildDefinition: z.looseObject({
    buildType: text,
    resolvedDependencies: z
      .array(z.looseObject({ uri: text.optional(), digest: z.record(z.string(), text).optional() }))
      .optional(),
  }),
  runDetails: z.looseObject({ builder: z.looseObject({ id: text }) }),
});
const cycloneDx = z.looseObject({
  bomFormat: z.literal('CycloneDX'),
  specVersion: text,
  components: z.array(z.looseObject({ purl: text.optional() })).default([]),
});
const spdx = z.looseObject({
  spdxVersion: text,
  packages: z
    .array(
      z.looseObject({
        externalRefs: z
          .array(z.looseObject({ referenceType: z.string(), referenceLocator: text }))
          .optional(),
      }),
    )
    .default([]),
});

const slsaProvenance: Predicate = {
  kind: 'provenance',
  read: (predicate) => {
    const { buildDefinition, runDetails } = provenance.parse(predicate);
    const [source] = buildDefinition.resolvedDependencies ?? [];
    const revision = source?.digest?.gitCommit ?? source?.digest?.sha1;
    const at = revision === undefined ? '' : ` (${revision})`;
    const from = source?.uri === undefined ? '' : `, from ${source.uri}${at}`;
    return { detail: `built by ${runDetails.builder.id}${from}` };
  },
};
const spdxDocument: Predicate = {
  kind: 'sbom',
  read: (predicate) => {
    const { spdxVersion, packages } = spdx.parse(predicate);
    const listed = packages
      .flatMap(({ externalRefs = [] }) => externalRefs)
      .flatMap(({ referenceType, referenceLocator }) => (referenceType === 'purl' ? referenceLocator : []));
    return { detail: `${spdxVersion}, ${packages.length} packages`, listed };
  },
};
const cycloneDxBom: Predicate = {
  kind: 'sbom',
  read: (predicate) => {
    const { specVersion, components } = cycloneDx.parse(predicate);
    const listed = components.flatMap(({ purl }) => purl ?? []);
    return { detail: `CycloneDX ${specVersion}, ${components.length} components`, listed };
  },
};

/** Some write a version at the end of the type of an SBOM. */
const predicates: readonly (readonly [type: RegExp, predicate: Predicate])[] = [
  [/^https:\/\/slsa\.dev\/provenance\/v1$/, slsaProvenance],
  [/^https:\/\/spdx\.dev\/Document(\/v[\d.]+)?$/, spdxDocument],
  [/^https:\/\/cyclonedx\.org\/bom(\/v[\d.]+)?$/, cycloneDxBom],
];

const statement = z.looseObject({
  _type: z.string().regex(/^https:\/\/in-toto\.io\/Statement\/v(0\.1|1)$/),
  predicateType: z.string(),
  predicate: z.unknown(),
});

interface Given {
  readonly artifact: Uint8Array | null;
  readonly trustedRoot: unknown;
  readonly identity: ExpectedIdentity | null;
}

interface Appraised {
  /** Null: it cannot be read, so it may be of either. */
  readonly kind: AttestationKind | null;
  readonly outcome: AttestationOutcome;
  readonly listed?: readonly string[] | undefined;
}

/**
 * Of each kind: verified where one attestation is, by the examination that `verify` does; else failed, with the first reason; absent
 * where there is none. `artifact` is the package; null: it is not there. `identity` null: nobody is expected, and then nothing is
 * verified. `listed`: package URLs in the SBOM that is verified. Other attestations than these are left alone.
 */
export function appraiseAttestations(
  attestations: readonly Attestation[],
  given: Given,
): Readonly<Record<AttestationKind, AttestationOutcome>> & { readonly listed: readonly string[] } {
  const all = attestations.flatMap((attestation) => appraiseOne(attestation, given) ?? []);
  const of = (kind: AttestationKind): Appraised => {
    const those = all.filter((one) => one.kind === kind || one.kind === null);
    const verified = those.find(({ outcome }) => outcome.result === 'verified');
    const absent = { kind, outcome: { result: 'absent', detail: 'nobody attests it here' } } as const;
    return verified ?? those[0] ?? absent;
  };
  const sbom = of('sbom');
  return { provenance: of('provenance').outcome, sbom: sbom.outcome, listed: sbom.listed ?? [] };
}

/** Undefined for what is neither. */
function appraiseOne(
  { name, bundle }: Attestation,
  { artifact, trustedRoot, identity }: Given,
): Appraised | undefined {
  let kind: AttestationKind | null = null;
  const failed = (why: string): Appraised => ({
    kind,
    outcome: { result: 'failed', detail: plain(`${name}: ${why}`).replace(/\.$/, '') },
  });
  try {
    const { predicateType, predicate } = statementIn(bundle);
    const known = predicates.find(([type]) => type.test(predicateType))?.[1];
    if (known === undefined) return undefined;
    kind = known.kind;
    if (artifact === null) return failed('the package that it is about (.tgz) is not beside it');
    if (identity === null)
      return failed('nobody is expected to have signed it (program.identity, program.issuer)');
    const claims = verifyArtifactBundle({ bundle, artifact, trustedRoot, publicKey: null, identity });
    const { detail, listed } = known.read(predicate);
    const by = plain(claims['signer identity'].detail);
    return { kind, outcome: { result: 'verified', detail: plain(detail), by }, listed };
  } catch (error) {
    return failed(error instanceof z.ZodError ? 'it is not of the form of its type' : reasonOf(error));
  }
}

function statementIn(bundle: unknown): z.infer<typeof statement> {
  const { content } = bundleFromJSON(bundle);
  if (content.$case !== 'dsseEnvelope' || content.dsseEnvelope.payloadType !== statementPayloadType)
    throw new Error('it holds no in-toto statement');
  return statement.parse(JSON.parse(content.dsseEnvelope.payload.toString('utf8')));
}

/** Others' words, for one line of a terminal. */
const plain = (words: string): string => words.replaceAll(/[\s\p{Cc}]+/gu, ' ').slice(0, 500);
