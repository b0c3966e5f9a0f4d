// `verify` of many bundles at once: a directory and a bucket, of nodes that are really set back between two bundles.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  cpSync,
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { directorySource } from '../../src/appliance/bundle-sources.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import type { Verification } from '../../src/appliance/verify.ts';
import { type ManyReport, type Verified, verifyAt } from '../../src/appliance/verify-many.ts';
import { deliver, parseUploadUrl } from '../../src/forensics/deliver.ts';
import { encrypted } from '../../src/forensics/encryption.ts';
import { sigstoreName } from '../../src/forensics/format.ts';
import { fetchObject, listObjects } from '../../src/forensics/s3-fetch.ts';
import { esoteric, type LabNode } from '../lab/node.ts';
import { type S3Server, startS3 } from '../lab/s3.ts';
import { labNode, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const watching = { signal: new AbortController().signal, onProgress: () => {} };
const collect = (node: LabNode): Promise<BundleMade> => node.ask<BundleMade>(['collect-forensics']);

/** The two files of a bundle under another directory. */
function filesIn(directory: string, { archive }: BundleMade): Pick<BundleMade, 'archive' | 'sigstore'> {
  const path = join(directory, basename(archive));
  return { archive: path, sigstore: sigstoreName(path) };
}

/** Both files of each, in a directory of their own. */
function gather(name: string, ...bundles: readonly BundleMade[]): string {
  const directory = scratch.at(name);
  mkdirSync(directory);
  for (const { archive, sigstore } of bundles)
    for (const file of [archive, sigstore]) copyFileSync(file, join(directory, basename(file)));
  return directory;
}

async function many(
  path: string,
  ...more: readonly string[]
): Promise<{ status: number | null; report: ManyReport; claims: Record<string, string> }> {
  const { status, stdout, stderr } = await esoteric(['verify', path, ...more, '--json']);
  expect(stderr).toBe('');
  const report = JSON.parse(stdout.toString()) as ManyReport;
  const claims = report.nodes.flatMap((node) => node.claims.map(({ claim, result }) => [claim, result]));
  return { status, report, claims: Object.fromEntries(claims) };
}

describe('bundles of a node whose TPM signed them', () => {
  let first: BundleMade;
  let second: BundleMade;
  let third: BundleMade;
  let forked: BundleMade;
  const held = ['--enrolment', scratch.at('enrolment.json')];
  beforeAll(async () => {
    await using node = await labNode(scratch, 'series', { tpm: true });
    await node.ask(['provision']);
    copyFileSync(`${node.stateDirectory}/enrolment.json`, scratch.at('enrolment.json'));
    first = await collect(node);
    second = await collect(node);
    const before = scratch.at('before');
    cpSync(node.stateDirectory, before, { recursive: true });
    third = await collect(node);
    // Somebody puts the disk back as it was; the TPM has counted on.
    const after = scratch.at('after');
    renameSync(node.stateDirectory, after);
    renameSync(before, node.stateDirectory);
    forked = await collect(node);
    third = { ...third, ...filesIn(join(after, 'bundles'), third) };
    const kept = gather('kept', first, second, third, forked);
    [first, second, third, forked] = [first, second, third, forked].map((made) => ({
      ...made,
      ...filesIn(kept, made),
    })) as [BundleMade, BundleMade, BundleMade, BundleMade];
  });

  it('that follow each other are accepted, and prove of each other that nothing was rolled back', async () => {
    const directory = gather('whole', first, second, third);
    const { status, report, claims } = await many(directory, ...held, '--allow-bypassed');
    expect(status).toBe(0);
    expect(claims).toEqual({
      'sequence gaps': 'proven',
      duplicates: 'proven',
      rollback: 'proven',
      forks: 'proven',
    });
    const rollbacks = report.bundles.map((bundle) =>
      bundle.claims.find(({ claim }) => claim === 'custody rollback'),
    );
    expect(rollbacks.map((claim) => claim?.result)).toEqual(['not-proven', 'proven', 'proven']);
    expect(rollbacks[1]?.detail).toContain(basename(first.archive));
    expect((await many(directory, ...held)).status).toBe(3);
  });

  it('of which one is missing are rejected, and the missing one is named', async () => {
    const { status, report, claims } = await many(gather('gap', first, third), ...held, '--allow-bypassed');
    expect([status, report.verdict, claims['sequence gaps']]).toEqual([3, 'rejected', 'failed']);
    expect(report.nodes[0]?.claims[0]?.detail).toContain(`Bundle ${second.sequence} was made`);
  });

  it('of a node whose disk was set back are rejected: two histories', async () => {
    const { status, report, claims } = await many(
      gather('forked', first, second, third, forked),
      ...held,
      '--allow-bypassed',
    );
    expect([status, report.verdict, claims.forks]).toEqual([3, 'rejected', 'failed']);
    const { detail = '' } = report.nodes[0]?.claims.find(({ claim }) => claim === 'forks') ?? {};
    expect(detail).toContain(basename(third.archive));
    expect(detail).toContain(basename(forked.archive));
  });

  it('are held each against the record of its own node, where a directory of records is given', async () => {
    mkdirSync(scratch.at('records'));
    copyFileSync(scratch.at('enrolment.json'), scratch.at('records', 'a.json'));
    const directory = gather('by-node', first, second);
    const words = ['--enrolment', scratch.at('records'), '--allow-bypassed'];
    const { status, report } = await many(directory, ...words);
    expect(status).toBe(0);
    expect(report.bundles[0]?.claims.find(({ claim }) => claim === 'signature')?.result).toBe('proven');
    copyFileSync(scratch.at('enrolment.json'), scratch.at('records', 'b.json'));
    expect((await esoteric(['verify', directory, ...words])).status).toBe(2);
  });

  it('are told as a table: a line a bundle, then what they say of each other', async () => {
    const { stdout } = await esoteric(['verify', gather('table', first, third), ...held, '--allow-bypassed']);
    const text = stdout.toString();
    expect(text).toMatch(
      new RegExp(`${basename(first.archive)} +series-\\d+ #${first.sequence} +incomplete`),
    );
    expect(text).toMatch(/series-\d+: 2 bundles\n +sequence gaps +FAILED +Bundle/);
    expect(text).toMatch(/\nrejected\n$/);
  });
});

describe('a directory', () => {
  let made: BundleMade;
  let other: BundleMade;
  beforeAll(async () => {
    await using node = await labNode(scratch, 'plain');
    await node.ask(['provision']);
    [made, other] = [await collect(node), await collect(node)];
    const kept = gather('plain-kept', made, other);
    made = { ...made, ...filesIn(kept, made) };
    other = { ...other, ...filesIn(kept, other) };
  });

  it('of bypassed bundles proves nothing, and is accepted only with --allow-bypassed', async () => {
    const directory = gather('bypassed-two', made, other);
    expect((await many(directory)).report.verdict).toBe('rejected');
    const { status, claims } = await many(directory, '--allow-bypassed');
    expect([status, ...new Set(Object.values(claims))]).toEqual([0, 'not-proven']);
  });

  it('in which one archive was altered is rejected, and says which', async () => {
    const directory = gather('altered', made, other);
    const path = join(directory, basename(other.archive));
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(path, bytes);
    const { status, report } = await many(directory, '--allow-bypassed');
    expect([status, report.verdict]).toEqual([3, 'rejected']);
    expect(report.bundles.map(({ archive, verdict }) => [archive, verdict])).toEqual([
      [basename(made.archive), 'incomplete'],
      [basename(other.archive), 'rejected'],
    ]);
    // An altered one is no word of the node: it is left out of the comparison.
    expect(report.nodes[0]?.bundles).toEqual([basename(made.archive)]);
  });

  it('is what lies in it, and not where a link leads', () => {
    const directory = scratch.at('linked');
    mkdirSync(join(directory, 'folder'), { recursive: true });
    mkdirSync(scratch.at('elsewhere'));
    const inside = join('folder', 'a-000001-20261120T160000Z.tar.gz');
    writeFileSync(join(directory, inside), '');
    writeFileSync(scratch.at('elsewhere', 'b-000001-20261120T160000Z.tar.gz'), '');
    symlinkSync(scratch.at('elsewhere'), join(directory, 'link'));
    symlinkSync('.', join(directory, 'folder', 'loop'));
    using source = directorySource(directory);
    expect(source.archives).toEqual([inside]);
    expect(source.notRead).toEqual([
      { name: join('folder', 'loop'), what: 'symbolic link', bundle: false },
      { name: 'link', what: 'symbolic link', bundle: false },
    ]);
    const unreadable = expect.objectContaining({ code: 'directory-unreadable', status: 2 }) as Error;
    expect(() => directorySource(scratch.at('nowhere'))).toThrow(unreadable);
  });

  it('in which a bundle is a link is not accepted, and says which; its statement may be one', async () => {
    const directory = gather('bundle-linked', made, other);
    const statement = join(directory, basename(made.sigstore));
    rmSync(statement);
    symlinkSync(made.sigstore, statement);
    const accepted = await many(directory, '--allow-bypassed');
    expect(accepted).toMatchObject({ status: 0, report: { notRead: [] } });
    const linked = join(directory, basename(other.archive));
    rmSync(linked);
    rmSync(sigstoreName(linked));
    symlinkSync(other.archive, linked);
    const { status, report } = await many(directory, '--allow-bypassed');
    expect(status).toBe(3);
    expect(report).toMatchObject({
      verdict: 'incomplete',
      notRead: [{ name: basename(linked), what: 'symbolic link', bundle: true }],
    });
    rmSync(join(directory, basename(made.archive)));
    rmSync(statement);
    expect(() => directorySource(directory)).toThrow(`${basename(linked)} is a symbolic link`);
  });

  it('in which an archive is missing beside its statement is rejected', async () => {
    const directory = gather('stray', made, other);
    rmSync(join(directory, basename(other.archive)));
    const { status, report } = await many(directory, '--allow-bypassed');
    expect(status).toBe(3);
    expect(report.reasons).toEqual([`${basename(other.sigstore)} lies there without its archive.`]);
  });

  it('in which one file is of no use is judged in all the others', async () => {
    const directory = gather('no-use', made, other);
    const identity = await generateX25519Identity();
    writeFileSync(scratch.at('age.key'), identity);
    const damaged = await buffer(
      encrypted([await identityToRecipient(identity)], createReadStream(other.archive)),
    );
    damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
    rmSync(join(directory, basename(other.archive)));
    writeFileSync(join(directory, `${basename(other.archive)}.age`), damaged);
    const alone = join(directory, 'alpha-000009-20261120T163000Z.tar.gz');
    copyFileSync(made.archive, alone);
    mkdirSync(sigstoreName(alone));
    const verified = await verifyAt(
      { archive: directory, allowBypassed: true, ageIdentity: scratch.at('age.key') },
      watching,
    );
    if (!verified.many) throw new Error('there are many');
    const { bundles } = verified.report;
    expect(bundles.map(({ verdict }) => verdict)).toEqual(['rejected', 'incomplete', 'rejected']);
    const detail = (at: number, name: string) =>
      bundles[at]?.claims.find(({ claim }) => claim === name)?.detail;
    expect(detail(0, 'signature')).toContain('not a file');
    expect(detail(2, 'archive integrity')).toMatch(/^The archive cannot be decrypted/);
  });

  it('in which a bundle of another node has strayed is still held against a head of the node it is about', async () => {
    const directory = scratch.at('strayed');
    cpSync(scratch.at('whole'), directory, { recursive: true });
    for (const file of [made.archive, made.sigstore]) copyFileSync(file, join(directory, basename(file)));
    mkdirSync(scratch.at('strayed-records'));
    copyFileSync(scratch.at('enrolment.json'), scratch.at('strayed-records', 'a.json'));
    const verified = await verifyAt(
      {
        archive: directory,
        allowBypassed: true,
        enrolment: scratch.at('strayed-records'),
        knownHead: `1:${'ab'.repeat(32)}`,
      },
      watching,
    );
    if (!verified.many) throw new Error('there are many');
    const rollbacks = verified.report.nodes.map(({ node, claims }) => [
      node.replace(/-\d+$/, ''),
      claims.find(({ claim }) => claim === 'rollback')?.result,
    ]);
    expect(Object.fromEntries(rollbacks)).toEqual({ plain: 'not-proven', series: 'failed' });
  });

  it('and what is of one bundle only do not go together', async () => {
    const directory = gather('usage', made, other);
    for (const words of [
      ['--sigstore-bundle', made.sigstore],
      ['--enrolment', scratch.at('none')],
    ]) {
      expect((await esoteric(['verify', directory, ...words])).status).toBe(2);
    }
  });

  describe('of a bucket', () => {
    const credentials = { accessKeyId: 'AUDITOR', secretAccessKey: 'auditor-secret' };
    const before = { ...process.env };
    let s3: S3Server;
    let url: string;
    beforeAll(async () => {
      s3 = await startS3({ credentials, buckets: ['evidence'] });
      url = `s3://evidence/case-7?endpoint=${s3.endpoint}`;
      process.env.AWS_ACCESS_KEY_ID = credentials.accessKeyId;
      process.env.AWS_SECRET_ACCESS_KEY = credentials.secretAccessKey;
      for (const [at, bundle] of [made, other].entries()) {
        await deliver({
          files: [bundle.archive, bundle.sigstore],
          target: parseUploadUrl(url.replace('case-7', `case-7/${at}`)),
          credentials: async () => credentials,
          signal: new AbortController().signal,
        });
      }
    });
    afterAll(async () => {
      await s3.stop();
      for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
    });
    afterEach(() => {
      s3.faults.failNext(0, 500);
      process.env.AWS_ACCESS_KEY_ID = credentials.accessKeyId;
      expect(leftovers()).toEqual([]);
    });
    it('one is opened from there as it is verified, and nothing of it stays', async () => {
      const of = (name: string) => url.replace('case-7', name);
      const opened = await esoteric(['forensics', 'open', of('case-7/0'), '--json']);
      expect(opened.stderr).toBe('');
      const here = await esoteric(['verify', made.archive, '--allow-bypassed', '--json']);
      const { verdict, claims } = JSON.parse(here.stdout.toString()) as Verification['report'];
      expect(JSON.parse(opened.stdout.toString())).toMatchObject({ verification: { verdict, claims } });
      const several = await esoteric(['forensics', 'open', of('case-7')]);
      expect([several.status, several.stderr]).toEqual([
        2,
        expect.stringContaining('There are 2 bundles at'),
      ]);
    });

    const leftovers = () =>
      readdirSync(process.env.TMPDIR ?? '/tmp').filter((name) =>
        name.startsWith(`esoteric-appliance-verify-${process.pid}-`),
      );
    const verify = (archive: string, more: object = {}): Promise<Verified> =>
      verifyAt({ archive, allowBypassed: true, ...more }, watching);

    it('all under a prefix are verified as those of a directory, fetched with the credentials that the SDK finds', async () => {
      const fetched = await verify(url);
      const local = await verify(gather('local', made, other));
      if (!fetched.many || !local.many) throw new Error('there are many');
      expect(fetched.accepted).toBe(true);
      expect(fetched.report.bundles.map(({ archive }) => archive)).toEqual(
        [made, other].map((bundle, at) => `${at}/${basename(bundle.archive)}`),
      );
      const verdicts = ({ bundles }: ManyReport) =>
        bundles.map(({ claims }) => claims.map(({ result }) => result));
      expect(verdicts(fetched.report)).toEqual(verdicts(local.report));
    });

    it('one is verified as a file is', async () => {
      const key = `0/${basename(made.archive)}`;
      const fetched = await verify(url.replace('case-7', `case-7/${key}`));
      const local = await verify(made.archive);
      expect(fetched as Verification).toEqual(local);
    });

    it('what is not there, or may not be read, is named', async () => {
      const codes: [string, string][] = [
        [url.replace('case-7', 'case-8'), 'bundles-missing'],
        [url.replace('case-7', 'case-7/0/alpha-000009-20261120T163000Z.tar.gz'), 'bundles-missing'],
        [url.replace('evidence', 'nowhere'), 'download-bucket-missing'],
        ['s3://evidence/x?endpoint=http://127.0.0.1:1', 'download-unreachable'],
      ];
      for (const [place, code] of codes) await expect(verify(place), place).rejects.toMatchObject({ code });
      process.env.AWS_ACCESS_KEY_ID = 'SOMEBODY';
      await expect(verify(url)).rejects.toMatchObject({ code: 'download-denied' });
    });

    it('what answers in the place of the store is named, and is no evidence', async () => {
      const portal = createServer((request, response) => {
        request.resume();
        response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Please sign in.</html>');
      }).listen(0, '127.0.0.1');
      await once(portal, 'listening');
      try {
        const { port } = portal.address() as AddressInfo;
        const through = (key: string) => verify(`s3://evidence/${key}?endpoint=http://127.0.0.1:${port}`);
        for (const key of ['case-7', `case-7/${basename(made.archive)}`])
          await expect(through(key), key).rejects.toMatchObject({ code: 'download-intercepted' });
      } finally {
        portal.closeAllConnections();
        portal.close();
      }
    });

    it('what cannot be written here is not the fault of the store', async () => {
      const target = parseUploadUrl(url);
      if (target.kind !== 's3') throw new Error('s3 was asked for');
      const fetching = fetchObject(
        { target, signal: watching.signal },
        `case-7/0/${basename(made.archive)}`,
        scratch.at('nowhere', 'archive'),
        1000,
      );
      await expect(fetching).rejects.toMatchObject({ code: 'download-unwritable' });
    });

    it('what a verifier left behind that was killed is removed by the next', async () => {
      const { pid } = spawnSync('true');
      const left = join(tmpdir(), `esoteric-appliance-verify-${pid}-abcdef`);
      mkdirSync(join(left, 'below'), { recursive: true });
      await verify(url.replace('case-7', `case-7/0/${basename(made.archive)}`));
      expect(existsSync(left)).toBe(false);
    });

    it('more than one look takes in is no list to go by', async () => {
      const target = parseUploadUrl(url);
      if (target.kind !== 's3') throw new Error('s3 was asked for');
      const place = { target, signal: watching.signal };
      expect(await listObjects(place, 'case-7/', 4)).toHaveLength(4);
      await expect(listObjects(place, 'case-7/', 3)).rejects.toMatchObject({ code: 'bundles-too-many' });
    });

    it('what is damaged on the way is fetched in vain, and what rots in the store is rejected', async () => {
      const key = url.replace('case-7', `case-7/0/${basename(made.archive)}`);
      s3.faults.failNext(1, 'corrupt', 'GET');
      await expect(verify(key)).rejects.toMatchObject({ code: 'download-corrupt' });
      s3.faults.failNext(1, 'rot', 'GET');
      await expect(verify(key)).resolves.toMatchObject({ accepted: false, report: { verdict: 'rejected' } });
    });

    it('more than the policy lets in is not fetched', async () => {
      writeFileSync(scratch.at('small.toml'), '[limits]\narchive_bytes = 1000\n');
      const key = url.replace('case-7', `case-7/0/${basename(made.archive)}`);
      const { report } = await verify(key, { policy: scratch.at('small.toml') });
      expect(JSON.stringify(report)).toContain('it is larger than 1000 bytes');
    });
  });
});
