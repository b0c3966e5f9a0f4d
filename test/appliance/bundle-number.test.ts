// Numbers of bundles that came to nothing, how many are begun within an hour, and what a bundle says in words of a person: by the real
// program on a node without a TPM.
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { requireTurn } from '../../src/appliance/bundle-limits.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import type { Preview } from '../../src/appliance/preview.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import type { ManyReport } from '../../src/appliance/verify-many.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import { type Manifest, statementSchema } from '../../src/forensics/format.ts';
import { memoryDisk, memoryDiskMissing } from '../lab/memory-disk.ts';
import { esoteric, esotericWords, type LabNode } from '../lab/node.ts';
import { labNode, refusalOf, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

interface Told {
  readonly event: string;
  readonly detail: Readonly<Record<string, unknown>>;
}
/** Of bundles: what the custody log tells. */
const bundleEvents = async (node: LabNode): Promise<Told[]> =>
  (await node.ask<Told[]>(['custody', 'show'])).filter(({ event }) => event.startsWith('bundle-'));
const collect = (node: LabNode, ...more: string[]): Promise<BundleMade> =>
  node.ask<BundleMade>(['collect-forensics', '--lines', '1', ...more]);

async function gapsOf(node: LabNode): Promise<ManyReport['nodes'][number]['claims'][number] | undefined> {
  const bundles = join(node.stateDirectory, 'bundles');
  const { stdout } = await esoteric(['verify', bundles, '--allow-bypassed', '--json']);
  const { nodes } = JSON.parse(stdout.toString()) as ManyReport;
  return nodes[0]?.claims.find(({ claim }) => claim === 'sequence gaps');
}

const missing = memoryDiskMissing();
describe.skipIf(missing !== undefined)(`a number${missing ? ` (skipped: ${missing})` : ''}`, () => {
  it('is used up by nothing that can be found wrong before, such as the policy of redaction', async () => {
    await using node = await labNode(scratch, 'policy');
    await node.ask(['provision']);
    const broken = scratch.at('redaction.toml');
    writeFileSync(broken, '[[rules]]\nname = "no pattern"\n');
    const policy = resolve(import.meta.dirname, '../../policies/redaction.toml');
    const script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"';
    const words = esotericWords(['collect-forensics', ...node.arguments]);
    const refused = spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', broken, policy, ...words]);
    expect(refused).toMatchObject({ status: 2 });
    expect(refused.stderr.toString()).toContain(broken.replace(scratch.path, '').slice(1));
    expect(await bundleEvents(node)).toEqual([]);
    expect((await collect(node)).sequence).toBe(1);
  });

  it('whose bundle came to nothing is told of, so that the series of bundles has no gap', async () => {
    await using node = await labNode(scratch, 'killed');
    await node.ask(['provision']);
    expect((await collect(node)).sequence).toBe(1);
    // As a kill leaves it between the counting and the beginning.
    writeFileSync(join(node.stateDirectory, 'sequence'), '2\n');
    expect((await collect(node)).sequence).toBe(3);
    // There can be no directory for its members: one that must not go lies there.
    const place = join(node.stateDirectory, 'bundles', '.collecting-4');
    const words = ['collect-forensics', ...node.arguments];
    {
      using _mounted = memoryDisk(place, '1m');
      writeFileSync(join(place, 'kept'), '');
      expect((await esoteric(words)).status).not.toBe(0);
    }
    expect((await collect(node)).sequence).toBe(5);
    const told = (await bundleEvents(node)).map(({ event, detail }) => [
      event,
      detail.from ?? detail.sequence,
    ]);
    expect(told).toEqual([
      ['bundle-begun', 1],
      ['bundle-made', 1],
      ['bundle-numbers-skipped', 2],
      ['bundle-begun', 3],
      ['bundle-made', 3],
      ['bundle-begun', 4],
      ['bundle-begun', 5],
      ['bundle-made', 5],
    ]);
    const gaps = await gapsOf(node);
    expect(gaps?.result).not.toBe('failed');
    for (const number of [2, 4]) expect(gaps?.detail).toContain(`Number ${number} is given up`);
    // A line that is no record hides what comes after it. The bundle is made all the same, and contradicts nothing.
    const log = join(node.stateDirectory, 'custody.jsonl');
    const lines = readFileSync(log, 'utf8').split('\n');
    writeFileSync(log, [lines[0], 'no record', ...lines.slice(1)].join('\n'));
    const made = await collect(node);
    expect(made.sequence).toBe(6);
    expect(made.problems.join('\n')).toMatch(/left behind: .*A line of the custody log .* is broken/);
    expect(readFileSync(log, 'utf8').match(/bundle-numbers-skipped/g)).toHaveLength(1);
  });
});

describe('the bundles of an hour', () => {
  it('are counted when they are begun, also those that came to nothing and those that the limits have removed', async () => {
    await using node = await labNode(scratch, 'often', {
      configuration: '[forensics]\nper_hour = 3\nkeep_bytes = 1\n',
    });
    await node.ask(['provision']);
    await collect(node);
    await collect(node);
    using custody = CustodyLog.open(join(node.stateDirectory, 'custody.jsonl'));
    custody.append('bundle-begun', { sequence: 99 });
    custody.append('bundle-given-up', { sequence: 99, why: 'a test' });
    const refusal = await refusalOf(['collect-forensics', ...node.arguments]);
    expect(refusal).toMatchObject({ status: 1, code: 'bundles-limited' });
    expect(refusal.message).toContain('3 bundles were begun within an hour');
    const { refused } = await node.ask<Preview>(['collect-forensics', '--dry-run', '--lines', '1']);
    expect(refused?.code).toBe('bundles-limited');
    expect((await bundleEvents(node)).filter(({ event }) => event === 'bundle-begun')).toHaveLength(3);
  });

  it('are again as many as are allowed when an hour has passed since the oldest that counts', async () => {
    const layout = stateLayout(scratch.at('hour'));
    execFileSync('mkdir', ['-p', layout.bundles]);
    const config = configSchema.parse({ forensics: { per_hour: 2 } });
    let now = Date.parse('2026-11-20T16:00:00Z');
    using custody = CustodyLog.open(layout.custody, () => new Date(now).toISOString());
    for (const minute of [0, 10, 20]) {
      now = Date.parse(`2026-11-20T16:${String(minute).padStart(2, '0')}:00Z`);
      custody.append('bundle-begun', { sequence: minute });
    }
    const turn = (time: string, trigger: 'hand' | 'zeroize' = 'hand') =>
      requireTurn(config, layout, trigger, Date.parse(time));
    await expect(turn('2026-11-20T16:30:00Z')).rejects.toMatchObject({
      remedy: expect.stringContaining('2026-11-20T17:10:00Z'),
    });
    await turn('2026-11-20T16:30:00Z', 'zeroize');
    await expect(turn('2026-11-20T17:09:59Z')).rejects.toThrow('2 bundles were begun');
    await turn('2026-11-20T17:10:00Z');
    await turn('2026-11-20T12:00:00Z'); // The clock was wrong, or is.
  });
});

describe('the words of a bundle', () => {
  it('are redacted as its members are, but for the name of the examiner', async () => {
    await using node = await labNode(scratch, 'words');
    await node.ask(['provision']);
    const address = '203.0.113.9';
    const words = (what: string) => `${what} from ${address}, password=hunter2, größe`;
    const unread = scratch.at(`${address}.journal`);
    appendFileSync(unread, 'none');
    const made = await collect(
      node,
      ...['--reason', words('login'), '--case', words('case')],
      '--examiner',
      address,
      '--journal-path',
      unread,
    );
    const text = execFileSync('tar', ['-xzOf', made.archive, 'manifest.json'], { encoding: 'utf8' });
    const manifest = JSON.parse(text) as Manifest;
    const { dsseEnvelope } = JSON.parse(readFileSync(made.sigstore, 'utf8')) as {
      dsseEnvelope: { payload: string };
    };
    const stated = Buffer.from(dsseEnvelope.payload, 'base64').toString();
    const pseudonyms = /^login from (‹ip:[0-9a-f]{8}›), password=(‹\w+:[0-9a-f]{8}›), größe$/.exec(
      manifest.reason,
    );
    expect(pseudonyms).not.toBeNull();
    expect(manifest.case).toBe(manifest.reason.replace('login', 'case'));
    expect(manifest.examiner).toBe(address);
    expect(statementSchema.parse(JSON.parse(stated)).predicate.reason).toBe(manifest.reason);
    // Where the journal was read from, and why it was not.
    const journal = manifest.collectors.find(({ name }) => name === 'journal');
    expect(journal?.status).not.toBe('ok');
    expect(JSON.stringify([manifest.files, manifest.collectors])).not.toContain(address);
    expect(text.replace(`"examiner":"${address}"`, '') + stated).not.toMatch(/hunter2|203\.0\.113/);
  });
});
