// Who and what makes a node collect, and how it goes on when there is little room: one bundle at a time, limited in number, on a disk
// that is nearly full, and what a dry run says beforehand.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Announcer } from '../../src/appliance/announce.ts';
import { Collecting } from '../../src/appliance/collecting.ts';
import { type Config, loadConfig } from '../../src/appliance/config.ts';
import { type BundleMade, type BundleRequest, makeBundle } from '../../src/appliance/evidence.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import type { Preview } from '../../src/appliance/preview.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import type { Manifest } from '../../src/forensics/format.ts';
import { JournalWriter } from '../../src/journal/write.ts';
import { memoryDisk, memoryDiskMissing } from '../lab/memory-disk.ts';
import { esoteric, esotericWords, type LabNode } from '../lab/node.ts';
import { labNode, profile, refusalOf, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const provision = ['provision', '--profile', profile('leaf')];

const bundlesOf = (node: LabNode): string[] =>
  readdirSync(join(node.stateDirectory, 'bundles'))
    .filter((name) => name.endsWith('.tar.gz'))
    .map((name) => join(node.stateDirectory, 'bundles', name))
    .sort();
const manifestOf = (archive: string): Manifest =>
  JSON.parse(execFileSync('tar', ['-xzOf', archive, 'manifest.json'], { encoding: 'utf8' })) as Manifest;
const memberOf = (archive: string, path: string): string =>
  execFileSync('tar', ['-xzOf', archive, path], { encoding: 'utf8', maxBuffer: 1 << 26 });
/** Nothing but whole bundles. */
const strays = (node: LabNode): string[] =>
  readdirSync(join(node.stateDirectory, 'bundles')).filter(
    (name) => !/\.tar\.gz(\.sigstore\.json)?$/.test(name),
  );

describe('a bundle', () => {
  let node: LabNode;
  beforeAll(async () => {
    node = await labNode(scratch, 'whole', {
      tpm: true,
    });
    await node.ask(provision);
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const parsed = (archive: string, path: string) => JSON.parse(memberOf(archive, path)) as never;
  const alwaysThere = [
    'custody/custody.jsonl',
    'entropy/audit.json',
    'entropy/entropy.json',
    'evidence/certificates.json',
    'evidence/configuration.toml',
    'evidence/doctor.json',
    'evidence/enrolment.json',
    'evidence/eventlog.bin',
    'evidence/pcrs.json',
    'evidence/policies.json',
    'host/addresses.json',
    'host/binaries.jsonl',
    'host/kernel.log',
    'host/links.json',
    'host/mounts.txt',
    'host/neighbours.json',
    'host/packages.tsv',
    'host/processes.jsonl',
    'host/routes.json',
    'host/sockets.txt',
    'host/versions.json',
    'links/interlock.json',
  ];

  it('of a stopped node says that it is stopped, and holds all that its machine can tell', async () => {
    const { archive } = await node.ask<BundleMade>(['collect-forensics']);
    const { files, trigger } = manifestOf(archive);
    expect(trigger).toBe('hand');
    expect(files.map(({ path }) => path)).toEqual(expect.arrayContaining(alwaysThere));
    expect(parsed(archive, 'links/interlock.json')).toMatchObject({
      phase: 'stopped',
      lifecycle: { state: 'sealed' },
      endedUncleanly: false,
      zeroizeUnderWay: null,
    });
    expect(files.find(({ path }) => path === 'links/interlock.json')?.source).toMatch(/does not run/);
    expect(parsed(archive, 'entropy/entropy.json')).toEqual({ state: 'stopped' });
    expect(parsed(archive, 'evidence/doctor.json')).toContainEqual(
      expect.objectContaining({ check: 'TPM', result: 'ok' }),
    );
    const pcrs = parsed(archive, 'evidence/pcrs.json') as { sha256: Record<string, string> };
    expect(Object.keys(pcrs.sha256)).toHaveLength(24);
    expect(memberOf(archive, 'evidence/configuration.toml')).toMatch(/^\[forensics\]$/m);
    const audit = parsed(archive, 'entropy/audit.json') as { sources: { name: string; credit: number }[] };
    expect(audit.sources.map(({ name }) => name)).toContain('clock-jitter');
    expect(parsed(archive, 'evidence/policies.json')).toHaveProperty(['interlock.toml']);
  });

  it('of a running node holds its live state, and the collectors in the order of volatility', async () => {
    await node.run();
    const { archive } = await node.ask<BundleMade>(['collect-forensics']);
    const { files, collectors } = manifestOf(archive);
    expect(files.map(({ path }) => path)).toEqual(expect.arrayContaining(alwaysThere));
    expect(parsed(archive, 'links/interlock.json')).toMatchObject({ phase: 'armed' });
    const order = ['memory', 'temporary', 'disk', 'configuration', 'archive'];
    const ranks = collectors.map(({ volatility = '' }) => order.indexOf(volatility));
    expect(ranks).toEqual(ranks.toSorted((a, b) => a - b));
    const begun = collectors.map(({ started = '' }) => started);
    expect(begun).toEqual(begun.toSorted());
    expect(Date.parse(begun[0] ?? '')).toBeGreaterThan(Date.now() - 60_000);
  });

  it('is rehearsed by a dry run, of the running node and of the stopped one, which changes nothing', async () => {
    const made = manifestOf(bundlesOf(node)[1] ?? '').files.map(({ path }) => path);
    const before = await node.ask<object[]>(['custody', 'show']);
    const running = await node.ask<Preview>(['collect-forensics', '--dry-run']);
    expect(running).toMatchObject({ refused: null, disk: { cut: false } });
    // Records of redaction are made of the others.
    const read = made.filter((path) => !path.startsWith('redaction/'));
    expect(running.members.map(({ path }) => path)).toEqual(expect.arrayContaining(read));
    const custody = running.members.find(({ name }) => name === 'custody log');
    expect(custody).toMatchObject({ volatility: 'disk', redacted: false, status: 'ok' });
    expect(custody?.bytes).toBe(readFileSync(join(node.stateDirectory, 'custody.jsonl')).length);
    expect(running.bytes).toBe(running.members.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(await node.ask(['custody', 'show'])).toEqual(before);
    await node.stop();
    const all = readdirSync(node.stateDirectory, { recursive: true }).sort();
    const stopped = await esoteric(['collect-forensics', '--dry-run', ...node.arguments]);
    expect(stopped).toMatchObject({ status: 0, stderr: '' });
    const lines = stopped.stdout.toString();
    expect(lines).toMatch(/^evidence\/pcrs\.json +memory +\d\.\d KiB$/m);
    expect(lines).toMatch(/^custody\/custody\.jsonl +disk +\d+\.\d KiB$/m);
    expect(lines).toMatch(/in all as they are read.*Nothing was written\./);
    expect(readdirSync(node.stateDirectory, { recursive: true }).sort()).toEqual(all);
  });

  it.skipIf(!existsSync('/usr/bin/script'))('shows its progress on a terminal', () => {
    const words = esotericWords(['collect-forensics', ...node.arguments]);
    const command = words.map((word) => `'${word}'`).join(' ');
    const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
      encoding: 'utf8',
      env: { ...process.env, TERM: 'xterm' },
    });
    expect(stdout).toMatch(/1 of \d+: .*packing.*signing/s);
    expect(bundlesOf(node)).toHaveLength(3); // The rehearsals used up no number.
  });

  it('is made one after the other where two processes ask at once, and after one that was killed', async () => {
    const bundles = join(node.stateDirectory, 'bundles');
    mkdirSync(join(bundles, '.collecting-99/journal'), { recursive: true });
    writeFileSync(join(bundles, 'old.tar.gz.4711.new'), 'half');
    const both = await Promise.all(
      [1, 2].map(() => node.ask<BundleMade>(['collect-forensics', '--reason', 'at once'])),
    );
    const [first = 0, second = 0] = both.map(({ sequence }) => sequence).sort((a, b) => a - b);
    expect(second).toBe(first + 1);
    expect(strays(node)).toEqual([]);
  });
});

describe('a node collects by itself', () => {
  it('by its timer and for alerts, across restarts, and never more often than is allowed', {
    timeout: 150_000,
  }, async () => {
    await using node = await labNode(scratch, 'itself', {
      configuration: `[forensics]\nevery_seconds = 3\nper_hour = 3\non_severity = "warning"\n`,
    });
    await node.ask(provision);
    await node.run();
    await node.ask(['alert', 'test']); // Of the channels: no incident.
    await until('the timer', () => (node.log.includes('was made (timer)') ? true : undefined), 50_000);
    expect(manifestOf(bundlesOf(node)[0] ?? '')).toMatchObject({ trigger: 'timer', reason: 'timer' });
    node.kill();
    await node.stop();
    await node.run();
    const limit = '3 bundles were begun within an hour';
    await until('the limit', () => (node.log.includes(limit) ? true : undefined), 50_000);
    const made = bundlesOf(node).map(manifestOf);
    expect(made).toHaveLength(3);
    // Raised while the node was starting.
    expect(made.filter(({ trigger }) => trigger === 'alert')).toEqual([
      expect.objectContaining({ reason: expect.stringMatching(/^alert: itself-\d+-unclean-\d+$/) }),
    ]);
    expect(strays(node)).toEqual([]);
    const refusal = await refusalOf(['collect-forensics', ...node.arguments]);
    expect(refusal).toMatchObject({ status: 1, code: 'bundles-limited' });
    expect(refusal.remedy).toMatch(/^Wait until 20\d\d-.*Z, or raise forensics\.per_hour/);
    expect(await node.ask(['collect-forensics', '--dry-run'])).toMatchObject({
      refused: { code: 'bundles-limited' },
    });
    await node.ask(['zeroize', '--level', 'purge', '--reason', 'a test']);
    expect(bundlesOf(node).map((archive) => manifestOf(archive).trigger)[3]).toBe('zeroize');
  });
});

describe('requests that meet', () => {
  const setUp = (forensics: Partial<Config['forensics']> = {}) => {
    const directory = scratch.at(`meet-${Math.random().toString(36).slice(2)}`);
    mkdirSync(join(directory, 'spool'), { recursive: true });
    const base = loadConfig({ overrides: { stateDir: directory }, hostName: 'meeting' });
    const config = { ...base, forensics: { ...base.forensics, ...forensics } };
    const layout = stateLayout(directory);
    const log: string[] = [];
    const begun: string[] = [];
    const gates = new Map<string, () => void>();
    const collecting = new Collecting({
      config,
      layout,
      announcer: new Announcer(config, layout, (line) => log.push(line)),
      make: async ({ reason }: BundleRequest) => {
        begun.push(reason);
        await new Promise<void>((resolve) => gates.set(reason, resolve));
        return { archive: reason } as BundleMade;
      },
    });
    return { collecting, begun, log, finish: (reason: string) => gates.get(reason)?.(), config, layout };
  };

  it('wait for each other, a zeroize before the others, and are told so', async () => {
    const { collecting, begun, finish } = setUp();
    const told: string[] = [];
    const first = collecting.collect({ reason: 'first' });
    const second = collecting.collect({ reason: 'second' }, (step) => told.push(step));
    const third = collecting.collect({ reason: 'third', trigger: 'zeroize' });
    expect(begun).toEqual(['first']);
    expect(told).toEqual(['waiting: another bundle is being made']);
    finish('first');
    await first;
    await until('the next begins', () => (begun.length === 2 ? true : undefined));
    finish('third');
    await third;
    await until('the last begins', () => (begun.length === 3 ? true : undefined));
    finish('second');
    await second;
    expect(begun).toEqual(['first', 'third', 'second']);
  });

  it('wait for what must not be done beside them, such as the look for what an earlier run left behind, which waits for them', async () => {
    const { collecting, begun, finish } = setUp();
    const { promise: looking, resolve: looked } = Promise.withResolvers<void>();
    const before = collecting.alone(() => looking);
    const zeroize = collecting.collect({ reason: 'zeroize', trigger: 'zeroize' });
    const after = collecting.alone(async () => begun.push('look'));
    expect(begun).toEqual([]);
    looked();
    await before;
    await until('the bundle begins', () => (begun.length === 1 ? true : undefined));
    expect(begun).toEqual(['zeroize']);
    finish('zeroize');
    await Promise.all([zeroize, after]);
    expect(begun).toEqual(['zeroize', 'look']);
  });

  it('are refused once the node stops, which finishes what is under way', async () => {
    const { collecting, begun, finish } = setUp();
    const first = collecting.collect({ reason: 'first' });
    const waiting = ['second', 'third'].map((reason) =>
      collecting.collect({ reason }).then(
        () => 'made',
        ({ code }: { code: string }) => code,
      ),
    );
    const stopped = collecting[Symbol.asyncDispose]();
    finish('first');
    await stopped;
    expect(await first).toMatchObject({ archive: 'first' });
    expect(await Promise.all(waiting)).toEqual(['node-stopping', 'node-stopping']);
    expect(begun).toEqual(['first']);
  });

  it('of alerts get one bundle within the pause, whatever the storm, and only from the severity on', async () => {
    const { config, layout, begun, log } = setUp();
    const forensics = { ...config.forensics, on_severity: 'error' as const, pause_seconds: 900 };
    const announcer = new Announcer({ ...config, forensics }, layout, (line) => log.push(line));
    const collecting = new Collecting({
      config: { ...config, forensics },
      layout,
      announcer,
      make: async ({ reason, severity }) => {
        begun.push(`${reason} (${severity})`);
        throw new Error('no disk');
      },
    });
    const alert = (key: string, severity: 'warning' | 'error' | 'critical') =>
      announcer.alert({ key, severity, title: key, body: '', facts: {} });
    alert('early', 'critical');
    expect(begun).toEqual([]);
    collecting.start();
    for (let number = 0; number < 50; number += 1) alert(`storm-${number}`, 'error');
    alert('mild', 'warning');
    expect(begun).toEqual(['alert: early (critical)']);
    await until('the failure is told', () =>
      log.some((line) => line.includes('No bundle was made (alert: early): no disk')) ? true : undefined,
    );
    expect(log.some((line) => line.includes('storm-7 gets no bundle of its own'))).toBe(true);
    expect(log.some((line) => line.includes('mild gets no bundle'))).toBe(false);
    await collecting[Symbol.asyncDispose]();
  });
});

const missing = memoryDiskMissing();
describe.skipIf(missing !== undefined)(
  `on a disk that is nearly full${missing ? ` (skipped: ${missing})` : ''}`,
  () => {
    const mebibyte = 1 << 20;
    /** A node on a disk of 48 MiB with a reserve of 16. */
    const crowded = async (word: string) => {
      const disk = memoryDisk(scratch.at(word, 'state'), '48m');
      const node = await labNode(scratch, word, {
        configuration: `[forensics]\nreserve_bytes = ${16 * mebibyte}\n`,
      });
      const filler = join(node.stateDirectory, 'filler');
      const leave = (bytes: number): void => {
        rmSync(filler, { force: true });
        writeFileSync(filler, Buffer.alloc(Math.max(0, disk.free() - bytes)));
      };
      return { node, disk, leave };
    };

    it('a node that is zeroized makes its bundle of the reserve, and has the journal cut', {
      timeout: 150_000,
    }, async () => {
      const { node, disk, leave } = await crowded('crowded');
      using _disk = disk;
      await using _node = node;
      await node.ask(provision);
      await node.run();
      using writer = new JournalWriter({ namespace: node.journald.namespace });
      for (let at = 0; at < 2500; ) {
        const entry = { MESSAGE: `${at} ${'long '.repeat(800)}`, SYSLOG_IDENTIFIER: 'ea-flood' };
        if (writer.send(entry)) at += 1;
        else await sleep(5); // It takes nothing while its queue is full.
      }
      await node.journald.flush();
      leave(15 * mebibyte);
      await node.ask(['zeroize', '--reason', 'a test']);
      const [archive = ''] = bundlesOf(node);
      const { files, collectors, trigger } = manifestOf(archive);
      expect(trigger).toBe('zeroize');
      expect(collectors.filter(({ status }) => status === 'truncated')).toEqual([
        expect.objectContaining({
          name: 'journal',
          detail: expect.stringMatching(
            /^Only the newest \d+ entries were taken, because the disk is nearly/,
          ),
        }),
      ]);
      const { path = '', size } = files.find(({ path }) => path.startsWith('journal/')) ?? {};
      expect(size).toBeGreaterThan(mebibyte);
      expect(memberOf(archive, path)).toMatch(/zeroized/i);
      expect(files.map(({ path }) => path)).toContain('evidence/zeroize-certificate.json');
      expect(disk.free()).toBeGreaterThan(4 * mebibyte);
      expect(strays(node)).toEqual([]);
      const verified = await esoteric(['verify', archive, '--allow-bypassed', '--json']);
      const { claims } = JSON.parse(verified.stdout.toString()) as {
        claims: { claim: string; result: string }[];
      };
      expect(claims.filter(({ result }) => result === 'failed')).toEqual([]);
      // And the state of a zeroized node is told when it has stopped, its certificate included.
      await node.stop();
      leave(20 * mebibyte);
      const later = await node.ask<BundleMade>(['collect-forensics', '--lines', '10']);
      expect(memberOf(later.archive, 'evidence/zeroize-certificate.json')).toBe(
        memberOf(archive, 'evidence/zeroize-certificate.json'),
      );
      expect(memberOf(later.archive, 'links/interlock.json')).toContain('"state": "zeroized"');
    });

    it('none is made that would not leave the custody log its room, and nothing is used up by the refusal', async () => {
      const { node, disk, leave } = await crowded('crammed');
      using _disk = disk;
      await using _node = node;
      await node.ask(provision);
      const before = await node.ask(['custody', 'show']);
      leave(6 * mebibyte);
      expect(await refusalOf(['collect-forensics', ...node.arguments])).toMatchObject({
        status: 1,
        code: 'disk-full',
        remedy: expect.stringMatching(/^Make room/),
      });
      expect(await node.ask(['custody', 'show'])).toEqual(before);
      leave(30 * mebibyte);
      expect((await node.ask<BundleMade>(['collect-forensics'])).sequence).toBe(1);
    });

    it('one that finds it full while it is packed leaves nothing half made, and the next one is made', async () => {
      const { node, disk, leave } = await crowded('cramped');
      using _disk = disk;
      await using _node = node;
      await node.ask(provision);
      leave(40 * mebibyte);
      const config = loadConfig({ path: node.config, overrides: { noTpm: true } });
      const layout = stateLayout(node.stateDirectory);
      const filling = {
        name: 'somebody else',
        path: 'host/else.txt',
        source: 'Fills the disk as the last of all',
        volatility: 'archive' as const,
        limitBytes: 10,
        redact: false,
        gather: async () => {
          leave(4096);
          return 'filled';
        },
      };
      const make = async (collectors: readonly (typeof filling)[]) => {
        using custody = CustodyLog.open(layout.custody);
        const record = readNodeRecord(layout);
        const anchor = async () => undefined;
        return await makeBundle(
          { config, layout, record, custody, keys: null, anchor, collectors },
          { reason: 'full' },
        );
      };
      await expect(make([filling])).rejects.toMatchObject({
        code: 'disk-full',
        kept: expect.stringContaining('nothing half made'),
      });
      expect(readdirSync(layout.bundles)).toEqual([]);
      leave(40 * mebibyte);
      expect((await make([])).sequence).toBe(2);
      const events = await node.ask<{ event: string; detail: object }[]>(['custody', 'show']);
      expect(events.filter(({ event }) => event.startsWith('bundle-')).map(({ event }) => event)).toEqual([
        'bundle-begun',
        'bundle-given-up',
        'bundle-begun',
        'bundle-made',
      ]);
    });
  },
);
