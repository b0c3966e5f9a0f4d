// The trusted root of the public-good Sigstore instance, as shipped with @sigstore/tuf: no network is needed.

import seeds from '@sigstore/tuf/seeds.json' with { type: 'json' };

/** The parsed `trusted_root.json`, as old as the installed package. */
export function publicGoodRoot(): unknown {
  const { targets } = seeds['https://tuf-repo-cdn.sigstore.dev'];
  return JSON.parse(Buffer.from(targets['trusted_root.json'], 'base64').toString('utf8'));
}
