// A bundle whose node died between signing it and telling of it: a real custody log and spool, and bundles that lie there.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { takeJobs } from '../../src/alerts/spool.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import { handOverLeftBehind } from '../../src/appliance/handover.ts';
import type { NodeRecord } from '../../src/appliance/node-record.ts';
import { makeStateDirectories, stateLayout } from '../../src/appliance/state-layout.ts';
import { makeStatement } from '../../src/attestation/statement.ts';
import { unsignedBundle } from '../../src/attestation/unsigned.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import { bundleBegun, bundleGivenUp, bundleMade } from '../../src/forensics/format.ts';

let directory: string;
let custody: CustodyLog;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ea-handover-'));
  makeStateDirectories(stateLayout(directory), undefined);
  custody = CustodyLog.open(stateLayout(directory).custody);
});
afterEach(() => {
  custody.close();
  rmSync(directory, { recursive: true });
});

const sha256 = 'ab'.repeat(32);
const statement = (sequence: number): string =>
  JSON.stringify(
    unsignedBundle(
      makeStatement({
        archiveName: `alpha-${sequence}`,
        archiveSha256: sha256,
        predicate: {
          node: 'alpha',
          sequence,
          created: '2026-11-20T16:30:00Z',
          reason: 'a test',
          assurance: { tpm: 'bypassed', sigstore: 'bypassed', standIns: [], notes: [] },
          manifestDigest: { sha256 },
          quote: null,
          eventLog: null,
          clock: null,
          signingKeyCertification: null,
          custodyHead: { sequence: 1, hash: sha256 },
        },
      }),
    ),
  );

/** Leaves the two files of a bundle, the second of them as it is given. */
function leave(sequence: number, signature: string | undefined): string {
  const name = `alpha-00000${sequence}-20261120T163000Z.tar.gz`;
  const archive = join(stateLayout(directory).bundles, name);
  writeFileSync(archive, 'archive');
  if (signature !== undefined) writeFileSync(`${archive}.sigstore.json`, signature);
  return archive;
}

it('what was signed and not told of is told and handed on, once, as urgent as it was begun; what was not is left as it lies', async () => {
  const layout = stateLayout(directory);
  custody.append(bundleMade, { sequence: 1, sha256 });
  custody.append(bundleGivenUp, { sequence: 2, why: 'a test' });
  custody.append(bundleBegun, { sequence: 3, reason: 'zeroize: operator', severity: 'critical' });
  leave(1, statement(1));
  leave(2, statement(2));
  const killed = leave(3, statement(3));
  leave(4, statement(4).slice(0, 100));
  leave(5, undefined);
  custody.append(bundleBegun, { sequence: 6, reason: 'by an earlier version' });
  leave(6, statement(6));
  const config = configSchema.parse({ forensics: { upload: 'file:///somewhere' } });
  const owner = { config, layout, custody, record: { node: 'alpha' } as NodeRecord };
  for (let times = 0; times < 2; times += 1) await handOverLeftBehind(owner);
  const made = [...custody.records()].filter(({ event }) => event === bundleMade).slice(1);
  expect(made.map(({ detail }) => detail)).toEqual([
    { sequence: 3, sha256, signed: 'nobody', severity: 'critical' },
    { sequence: 6, sha256, signed: 'nobody', severity: 'notice' },
  ]);
  const jobs = takeJobs(layout.spool, (file, why) => expect.unreachable(`${file}: ${why}`));
  expect(jobs.map(({ job }) => job)).toMatchObject([
    {
      kind: 'bundle',
      key: 'alpha-bundle-000003',
      payload: { archive: killed, upload: 'file:///somewhere', proofOfPossession: null },
    },
    { kind: 'bundle', key: 'alpha-bundle-000006' },
  ]);
});
