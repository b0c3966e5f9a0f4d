// The conformance bundles of the Sigstore project, read from ../shared/vectors where that folder is present.

import { createPublicKey } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { publicGoodRoot } from '../../src/attestation/public-good-root.ts';
import { verifyArtifactBundle } from '../../src/attestation/sigstore-verify.ts';
import { Failure } from '../../src/host/failure.ts';

const vectors = join(import.meta.dirname, '../../../shared/vectors/sigstore-bundles');
const present = existsSync(vectors);
const names = present
  ? readdirSync(vectors, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  : [];
const beacon =
  'https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main';

function judge(name: string): 'accepted' | 'rejected' {
  const file = (path: string): Buffer | null => {
    const full = join(vectors, name, path);
    return existsSync(full) ? readFileSync(full) : null;
  };
  const json = (bytes: Buffer): unknown => JSON.parse(bytes.toString('utf8'));
  const key = file('key.pub');
  const root = file('trusted_root.json');
  try {
    verifyArtifactBundle({
      bundle: json(file('bundle.sigstore.json') ?? Buffer.alloc(0)),
      artifact: file('artifact') ?? readFileSync(join(vectors, 'a.txt')),
      trustedRoot: root === null ? publicGoodRoot() : json(root),
      publicKey: key === null ? null : createPublicKey(key),
      identity: {
        subject: file('identity')?.toString('utf8').trim() ?? beacon,
        issuer: file('issuer')?.toString('utf8').trim() ?? 'https://token.actions.githubusercontent.com',
      },
    });
    return 'accepted';
  } catch (thrown) {
    if (thrown instanceof Failure && thrown.code === 'bundle-rejected') return 'rejected';
    throw thrown;
  }
}

// No vector is judged otherwise than its name says; one that is would be listed here with the reason.
describe.skipIf(!present)('the Sigstore conformance bundles (skipped: ../shared/vectors is absent)', () => {
  for (const { name } of names) {
    const should = name.endsWith('_fail') ? 'rejected' : 'accepted';
    it(`${name} is ${should}`, () => {
      expect(judge(name)).toBe(should);
    });
  }
});
