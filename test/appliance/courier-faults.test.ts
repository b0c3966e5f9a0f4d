// The courier against a store and a disk that fail: in the end exactly one good copy, a receipt, and the spool empty.
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { takeReceipts } from '../../src/alerts/receipts.ts';
import { dropJob } from '../../src/alerts/spool.ts';
import { type Config, loadConfig } from '../../src/appliance/config.ts';
import { runCourier } from '../../src/appliance/courier.ts';
import { type StateLayout, stateLayout } from '../../src/appliance/state-layout.ts';
import { retryUploads, uploadsOf } from '../../src/appliance/uploads.ts';
import { esotericWords, type LabNode } from '../lab/node.ts';
import { type Fault, type S3Server, startS3 } from '../lab/s3.ts';
import { labNode, Scratch } from './scene.ts';

const scratch = new Scratch();
const credentials = { accessKeyId: 'COURIER', secretAccessKey: 'courier-secret' };
const isRoot = process.geteuid?.() === 0;
const long = process.env.ESOTERIC_LONG !== undefined;
const reason = long ? '' : ' (skipped: npm run test:chaos)';
/** More than one part. */
const archive = randomBytes((8 << 20) + 54_321);
let s3: S3Server;
let node: LabNode;
let config: Config;
let layout: StateLayout;
let sequence = 0;
let names: string[];
let prefix: string;

beforeAll(async () => {
  s3 = await startS3({ credentials, buckets: ['evidence'] });
  node = await labNode(scratch, 'faulty', {
    courierFiles: {
      's3-credentials': `[default]\naws_access_key_id = ${credentials.accessKeyId}\naws_secret_access_key = ${credentials.secretAccessKey}\n`,
    },
    configuration: `[forensics]\nupload = "s3://evidence/x?endpoint=${s3.endpoint}"\n[courier]\ns3_credentials_file = "${scratch.at('faulty', 's3-credentials')}"\n`,
  });
  await node.ask(['provision']);
  config = loadConfig({ path: node.config, overrides: { noTpm: true, noSigstore: true } });
  layout = stateLayout(node.stateDirectory);
});
afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
  await s3.stop();
  scratch[Symbol.dispose]();
});

/** A bundle of another number, handed to the courier. */
beforeEach(() => {
  sequence += 1;
  prefix = `case-${sequence}`;
  const number = String(sequence).padStart(6, '0');
  const name = `${node.name}-${number}-20261120T100000Z.tar.gz`;
  names = [name, `${name}.sigstore.json`];
  const [path = '', sigstore = ''] = names.map((each) => join(layout.bundles, each));
  writeFileSync(path, archive);
  writeFileSync(sigstore, '{}');
  const upload = `s3://evidence/${prefix}?endpoint=${s3.endpoint}`;
  dropJob(layout.spool, {
    kind: 'bundle',
    key: `${node.name}-bundle-${number}`,
    payload: { archive: path, sigstore, upload, proofOfPossession: null },
  });
});
afterEach(() => {
  s3.faults.failNext(0, 500);
  s3.onRequest = undefined;
});

const toTheEnd = { once: true, signal: new AbortController().signal, log: () => {} };

/** Runs the courier again and again, without its waits. */
async function insist(): Promise<void> {
  for (let attempt = 0; attempt < 10; attempt += 1) {
    if ((await runCourier(config, toTheEnd)) === 0) return;
    retryUploads(config);
  }
  throw new Error(JSON.stringify(uploadsOf(config)));
}

function expectDelivered(): void {
  const stored = [...s3.objects('evidence')].filter(([key]) => key.startsWith(`${prefix}/`));
  expect(stored.map(([key]) => key)).toEqual(names.map((name) => `${prefix}/${name}`));
  expect(stored[0]?.[1].bytes.equals(archive)).toBe(true);
  expect(readdirSync(layout.spool).filter((name) => name.endsWith('.json'))).toEqual([]);
  expect(readdirSync(layout.uploads)).toEqual([]);
  expect(uploadsOf(config)).toMatchObject({ spooled: 0, stuck: null });
  const taken = takeReceipts(layout.receipts, (_, why) => expect.fail(why));
  expect(taken.map(({ receipt }) => receipt.kind === 'delivered' && receipt.files[0]?.where)).toEqual([
    `s3://evidence/${prefix}/${names[0]}`,
  ]);
  for (const { done } of taken) done();
}

async function afterFault(
  fault: Fault,
  method: 'PUT' | 'POST' | 'GET' | 'HEAD',
  count: number,
): Promise<void> {
  s3.faults.failNext(count, fault, method);
  await insist();
  expectDelivered();
}

async function afterKill(stage: number): Promise<void> {
  const [program = '', ...words] = esotericWords(['courier', ...node.arguments]);
  const child = spawn(program, words, { stdio: 'ignore' });
  const exited = once(child, 'exit');
  let seen = 0;
  s3.onRequest = () => {
    seen += 1;
    if (seen === stage) child.kill('SIGKILL');
  };
  expect(await exited).toEqual([null, 'SIGKILL']);
  s3.onRequest = undefined;
  retryUploads(config);
  await insist();
  expectDelivered();
}

describe('a bundle is delivered in the end', () => {
  it.each<[Fault, 'PUT' | 'POST' | 'GET' | 'HEAD', number]>([
    [507, 'PUT', 3],
    ['slow', 'PUT', 4],
    ['expired', 'POST', 1],
    ['rot', 'GET', 1],
  ])('after %s of %s, %i times', afterFault);

  it.skipIf(!long).each<[Fault, 'PUT' | 'POST' | 'GET' | 'HEAD', number]>([
    [500, 'PUT', 4],
    [507, 'POST', 2],
    ['break', 'PUT', 4],
    ['reset', 'GET', 4],
    ['etag', 'PUT', 1],
  ])(`after %s of %s, %i times${reason}`, afterFault);

  // HEAD, POST, two parts, POST, GET; PUT and GET of the signature.
  it('after a kill -9 of the courier amid the parts', async () => afterKill(3));
  it.skipIf(!long).each([1, 2, 4, 5, 6, 7, 8])(
    `after a kill -9 of the courier at request %i${reason}`,
    afterKill,
  );

  it.skipIf(!isRoot)(
    `with a disk that has no room for the state of its parts${isRoot ? '' : ' (skipped: needs root)'}`,
    async () => {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k,nr_inodes=1', 'full', layout.uploads]);
      try {
        expect(() => writeFileSync(join(layout.uploads, 'x'), 'x')).toThrow(/ENOSPC/);
        s3.faults.failNext(3, 500, 'PUT');
        await insist();
        expectDelivered();
      } finally {
        execFileSync('umount', [layout.uploads]);
      }
    },
  );

  it('although nothing can be reached at first: it waits, and `upload status` says for what', async () => {
    s3.faults.failNext(1000, 'reset');
    expect(await runCourier(config, toTheEnd)).toBe(1);
    const { stuck } = uploadsOf(config);
    expect(stuck).toMatchObject({ bundles: 1, why: expect.stringMatching(/cannot be reached/) });
    s3.faults.failNext(0, 500);
    retryUploads(config);
    await insist();
    expectDelivered();
  });

  it('where other content took its name, which stays, and only a person can tell where it is to go', async () => {
    const put = new S3Client({
      region: 'us-east-1',
      endpoint: s3.endpoint,
      forcePathStyle: true,
      credentials,
    });
    const taken = { Bucket: 'evidence', Key: `${prefix}/${names[1]}`, Body: 'other' };
    await put.send(new PutObjectCommand(taken));
    expect(await runCourier(config, toTheEnd)).toBe(1);
    expect(uploadsOf(config).stuck?.why).toMatch(/Other content already lies at .* give the upload another/);
    retryUploads(config, { elsewhere: `s3://evidence/${prefix}-again?endpoint=${s3.endpoint}` });
    expect(await runCourier(config, toTheEnd)).toBe(0);
    expect(s3.objects('evidence').get(taken.Key)?.bytes.toString()).toBe('other');
    prefix = `${prefix}-again`;
    expectDelivered();
  });

  it('unless the node no longer keeps it: then it is dead-lettered, and says so', async () => {
    writeFileSync(join(layout.bundles, 'another'), '');
    s3.faults.failNext(3, 507, 'PUT');
    expect(await runCourier(config, toTheEnd)).toBe(1);
    expect(readdirSync(layout.uploads)).toEqual([`${names[0]}.parts.json`]);
    for (const name of names) execFileSync('rm', [join(layout.bundles, name)]);
    retryUploads(config);
    expect(await runCourier(config, toTheEnd)).toBe(0);
    expect(readdirSync(layout.uploads)).toEqual([]);
    expect(s3.requests.at(-1)).toMatch(/^DELETE .*204$/);
    expect(uploadsOf(config).bundles[0]).toMatchObject({
      state: 'dead-lettered',
      error: expect.stringMatching(/no longer kept on this node/),
    });
    expect(existsSync(layout.bundles)).toBe(true);
  });
});

it('a bundle that is out of sight with all others is waited for: its directory is not mounted', async () => {
  renameSync(layout.bundles, `${layout.bundles}-elsewhere`);
  mkdirSync(layout.bundles);
  try {
    expect(await runCourier(config, toTheEnd)).toBe(1);
    expect(uploadsOf(config).stuck?.why).toMatch(/cannot be found/);
  } finally {
    rmdirSync(layout.bundles);
    renameSync(`${layout.bundles}-elsewhere`, layout.bundles);
  }
  retryUploads(config);
  await insist();
  expectDelivered();
});

describe('credentials', () => {
  it('are those that the SDK finds, where no file is named', async () => {
    const own = { ...config, courier: { ...config.courier, s3_credentials_file: '' } };
    const before = { ...process.env };
    const names = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_EC2_METADATA_DISABLED'] as const;
    try {
      for (const name of names) delete process.env[name];
      Object.assign(process.env, { AWS_EC2_METADATA_DISABLED: 'true', HOME: scratch.path });
      expect(await runCourier(own, toTheEnd)).toBe(1);
      expect(uploadsOf(config).stuck?.why).toMatch(/There are no S3 credentials/);
      retryUploads(config);
      process.env.AWS_ACCESS_KEY_ID = credentials.accessKeyId;
      process.env.AWS_SECRET_ACCESS_KEY = credentials.secretAccessKey;
      expect(await runCourier(own, toTheEnd)).toBe(0);
      expectDelivered();
    } finally {
      for (const name of [...names, 'HOME'] as const) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
    }
  });

  it('of a shared profile are found as well', async () => {
    const own = { ...config, courier: { ...config.courier, s3_credentials_file: '' } };
    process.env.AWS_SHARED_CREDENTIALS_FILE = scratch.at('faulty', 's3-credentials');
    try {
      expect(await runCourier(own, toTheEnd)).toBe(0);
      expectDelivered();
    } finally {
      delete process.env.AWS_SHARED_CREDENTIALS_FILE;
    }
  });
});
