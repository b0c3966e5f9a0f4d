// A package as `npm pack` makes it, and what a build attests of it: in-toto statements that the local Sigstore signs and logs.

import { hash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundleToJSON } from '@sigstore/bundle';
import { DSSEBundleBuilder, FulcioSigner, RekorWitness, TSAWitness } from '@sigstore/sign';
import { create } from 'tar';
import type { LocalSigstore } from './sigstore.ts';

export const builder = 'https://builds.example/appliance/.github/workflows/release.yml@refs/tags/v0.1.0';

/** The files of `names` below `root`, with `package/` before each. */
export async function packageOf(root: string, names: readonly string[]): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const packed = create({ gzip: true, portable: true, cwd: root, prefix: 'package' }, [...names]);
  for await (const chunk of packed) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

export const slsaProvenance = {
  predicateType: 'https://slsa.dev/provenance/v1',
  predicate: {
    buildDefinition: {
      buildType: 'https://builds.example/workflow/v1',
      externalParameters: {},
      resolvedDependencies: [{ uri: 'git+https://code.example/appliance', digest: { gitCommit: 'c0ffee' } }],
    },
    runDetails: { builder: { id: 'https://builds.example/runner' } },
  },
};

export const cycloneDxBom = {
  predicateType: 'https://cyclonedx.org/bom',
  predicate: { bomFormat: 'CycloneDX', specVersion: '1.6', components: [{ name: 'zod' }, { name: 'tar' }] },
};

export interface About {
  readonly predicateType: string;
  readonly predicate: object;
}

/** A Sigstore bundle by `identity` over `artifact`, in which the digest is one of `algorithms`. */
export async function attest(
  lab: LocalSigstore,
  artifact: Uint8Array,
  about: About,
  { identity = builder, algorithms = ['sha256'] }: { identity?: string; algorithms?: string[] } = {},
): Promise<object> {
  const digest = Object.fromEntries(algorithms.map((algorithm) => [algorithm, hash(algorithm, artifact)]));
  const statement = {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ name: 'appliance.tgz', digest }],
    ...about,
  };
  const made = new DSSEBundleBuilder({
    signer: new FulcioSigner({
      fulcioBaseURL: lab.fulcio,
      identityProvider: { getToken: async () => lab.identityToken(identity) },
      retry: 0,
    }),
    witnesses: [
      new RekorWitness({ rekorBaseURL: lab.rekor, entryType: 'dsse', retry: 0 }),
      new TSAWitness({ tsaBaseURL: lab.tsa, retry: 0 }),
    ],
  });
  const data = Buffer.from(JSON.stringify(statement));
  return bundleToJSON(await made.create({ data, type: 'application/vnd.in-toto+json' })) as object;
}

/** A directory as `program.attestations` names it. */
export function attestationDirectory(
  path: string,
  files: Readonly<Record<string, string | Uint8Array>>,
): string {
  mkdirSync(path, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
  return path;
}
