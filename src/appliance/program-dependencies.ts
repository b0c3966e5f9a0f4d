// What npm says that it installed for the program, held against what an SBOM lists (package URLs, https://github.com/package-url/purl-spec).
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from '../host/zod.ts';

const lockfile = z.looseObject({
  packages: z.record(
    z.string(),
    z.looseObject({ version: z.string().optional(), dev: z.boolean().optional() }),
  ),
});

/** As `name@version`. Null where the SBOM lists no packages of npm, or npm left no list. */
export function unlistedIn(
  listed: readonly string[],
  root: string,
): { readonly installed: number; readonly missing: readonly string[] } | null {
  const known = new Set(listed.flatMap((purl) => nameIn(purl) ?? []));
  const installed = installedIn(root);
  if (known.size === 0 || installed.length === 0) return null;
  return { installed: installed.length, missing: installed.filter((name) => !known.has(name)) };
}

function nameIn(purl: string): string | undefined {
  const [, name, version] = /^pkg:npm\/([^?#]+)@([^@?#]+)/.exec(purl) ?? [];
  try {
    return name === undefined || version === undefined ? undefined : decodeURIComponent(`${name}@${version}`);
  } catch {
    return undefined;
  }
}

/** From npm's own list of what lies in node_modules, without what only serves development. */
function installedIn(root: string): string[] {
  try {
    const text = readFileSync(join(root, 'node_modules', '.package-lock.json'), 'utf8');
    const { packages } = lockfile.parse(JSON.parse(text));
    const names = Object.entries(packages).flatMap(([path, { version, dev }]) =>
      version === undefined || dev === true ? [] : `${path.replace(/^.*node_modules\//, '')}@${version}`,
    );
    return [...new Set(names)].sort();
  } catch {
    return [];
  }
}
