import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OutboxRow, readRows } from '../../src/alerts/outbox.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import type { ZeroizeSummary } from '../../src/appliance/incident.ts';
import type { Uploads } from '../../src/appliance/uploads.ts';
import type { LabNode } from '../lab/node.ts';
import { type S3Server, startS3 } from '../lab/s3.ts';
import { startWebhook, type Webhook } from '../lab/webhook.ts';
import { courierOf, labNode, Scratch, until } from './scene.ts';

const scratch = new Scratch();
const credentials = {
  accessKeyId: 'AKIAENDTOENDENDTOEND',
  secretAccessKey: 'a-secret-that-protects-nothing',
};
const bucket = 'evidence';
let s3: S3Server;
let webhook: Webhook;
let other: Webhook;
beforeAll(async () => {
  [s3, webhook, other] = await Promise.all([
    startS3({ credentials, buckets: [bucket] }),
    startWebhook(),
    startWebhook(),
  ]);
});
afterAll(async () => {
  await Promise.all([s3.stop(), webhook.stop(), other.stop()]);
  scratch[Symbol.dispose]();
});

/** A node whose courier has two channels and a bucket, each with a server that fails on request. */
async function deliveringNode(word: string, courier = ''): Promise<LabNode> {
  const keyFile = scratch.at(word, 's3-credentials');
  const node = await labNode(scratch, word, {
    courierFiles: {
      's3-credentials': `[default]\naws_access_key_id = ${credentials.accessKeyId}\naws_secret_access_key = ${credentials.secretAccessKey}\n`,
    },
    configuration: `
[forensics]
upload = "s3://${bucket}/${word}?endpoint=${encodeURIComponent(s3.endpoint)}&region=us-east-1"
[courier]
s3_credentials_file = "${keyFile}"
${courier}
[[alerts.channels]]
url = "${webhook.url('json', { path: `/${word}` })}"
[[alerts.channels]]
url = "${other.url('ntfy', { path: `/${word}` })}"
`,
  });
  await node.ask(['provision']);
  return node;
}

/** As `alert status` gives them, without starting a program each time. */
const rowsOf = (node: LabNode): OutboxRow[] => readRows(`${node.stateDirectory}/courier/outbox.sqlite`);
const settled = (node: LabNode): Promise<OutboxRow[]> =>
  until('everything is delivered', () => {
    const rows = rowsOf(node);
    return rows.length >= 3 && rows.every(({ state }) => state === 'delivered') ? rows : undefined;
  });
const keysAt = ({ received }: Webhook, word: string): string[] =>
  received.filter(({ path }) => path.startsWith(`/${word}`)).map(({ key }) => key);
const spoolOf = (node: LabNode): string[] =>
  readdirSync(`${node.stateDirectory}/spool`).filter((name) => name.endsWith('.json'));

/** What lies in the bucket for the node is what lies on it, byte for byte. */
function expectUploaded(node: LabNode, word: string): void {
  const directory = `${node.stateDirectory}/bundles`;
  const names = readdirSync(directory).filter((name) => /\.tar\.gz(\.sigstore\.json)?$/.test(name));
  expect(names.length).toBeGreaterThan(0);
  const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  const stored = [...s3.objects(bucket)].filter(([key]) => key.startsWith(`${word}/`));
  expect(new Map(stored.map(([key, object]) => [basename(key), sha256(object.bytes)]))).toEqual(
    new Map(names.map((name) => [name, sha256(readFileSync(`${directory}/${name}`))])),
  );
}

describe('after a zeroize', () => {
  it('a bundle that S3 refuses is kept and tried again until it lies there', async () => {
    await using node = await deliveringNode('refused');
    await node.run();
    s3.faults.failNext(1000, 403);
    await node.ask(['zeroize', '--reason', 'a test']);
    const kept = await until('the first attempt has failed', () =>
      rowsOf(node).find(({ kind, attempts }) => kind === 'bundle' && attempts > 0),
    );
    expect(kept).toMatchObject({ state: 'queued' });
    expect(kept.error).not.toMatch(new RegExp(credentials.secretAccessKey));
    expect((await node.status()).alerts.queued).toBeGreaterThan(0);
    s3.faults.failNext(0, 403);
    const rows = await settled(node);
    expect(rows.find(({ kind }) => kind === 'bundle')?.attempts).toBeGreaterThan(1);
    expect(await node.ask(['alert', 'status'])).toEqual(rows);
    expectUploaded(node, 'refused');
    const { bundles, stuck } = await until('the receipt is in the custody log', async () => {
      const uploads = await node.ask<Uploads>(['upload', 'status']);
      return uploads.bundles.every(({ delivered }) => delivered !== null) ? uploads : undefined;
    });
    expect(stuck).toBeNull();
    expect(bundles[0]?.delivered?.where).toMatch(/^s3:\/\/evidence\/refused\/refused-.*\.tar\.gz$/);
  });

  it('a channel that hangs delays no other, and its alert is delivered with the same key by the next courier', async () => {
    await using node = await deliveringNode('hanging');
    await node.run();
    const courier = await courierOf(node);
    webhook.respond('hang');
    s3.faults.failNext(1, 'slow');
    await node.ask(['zeroize', '--reason', 'a test']);
    const [key = ''] = await until(
      'the other channel has it',
      () => {
        const keys = keysAt(other, 'hanging');
        return keys.length > 0 ? keys : undefined;
      },
      4000,
    );
    await until('the hanging channel has been asked', () =>
      keysAt(webhook, 'hanging').length > 0 ? true : undefined,
    );
    // Killed between a send and its record, a courier would send once more; so this waits for the record.
    await until('the other delivery is recorded', () =>
      rowsOf(node).some(({ channel, state }) => channel === 'ntfy-2' && state === 'delivered')
        ? true
        : undefined,
    );
    const row = rowsOf(node).find(({ kind, channel }) => kind === 'alert' && channel === 'json-1');
    expect(row).toMatchObject({ state: 'queued', key });
    process.kill(courier, 'SIGKILL');
    webhook.respond(200);
    const rows = await settled(node);
    expect(await courierOf(node)).not.toBe(courier);
    expect(keysAt(webhook, 'hanging')).toEqual([key, key]);
    expect(keysAt(other, 'hanging')).toEqual([key]);
    expect(rows).toHaveLength(3);
    expectUploaded(node, 'hanging');
  });

  it('an alert that a channel refuses for good is dead-lettered and counted, and the bundle goes out all the same', async () => {
    await using node = await deliveringNode('dead');
    await node.run();
    webhook.respond(400);
    await node.ask(['zeroize', '--reason', 'a test']);
    const rows = await until('all have ended', () => {
      const all = rowsOf(node);
      return all.length === 3 && all.every(({ state }) => state !== 'queued') ? all : undefined;
    });
    webhook.respond(200);
    expect(rows.map(({ channel, state }) => [channel, state]).sort()).toEqual([
      ['', 'delivered'],
      ['json-1', 'dead-lettered'],
      ['ntfy-2', 'delivered'],
    ]);
    expect((await node.status()).alerts).toEqual({ queued: 0, deadLettered: 1, delivered: 2 });
  });

  it('a dead courier keeps nothing from zeroizing: jobs wait in the spool, counted, until one runs', async () => {
    await using node = await deliveringNode('alone', 'spawn = false');
    await node.run();
    await node.ask(['zeroize', '--reason', 'a test']);
    expect(await node.status()).toMatchObject({
      state: 'zeroized',
      alerts: { queued: 2, delivered: 0, deadLettered: 0 },
    });
    expect(spoolOf(node)).toHaveLength(2);
    await node.stop();
    expect((await node.status()).alerts.queued).toBe(2);
    expect(await node.ask(['courier', '--once'])).toEqual({ queued: 0 });
    expect(spoolOf(node)).toEqual([]);
    expect((await node.status()).alerts).toEqual({ queued: 0, delivered: 3, deadLettered: 0 });
    expectUploaded(node, 'alone');
    expect(await node.ask(['courier', '--once'])).toEqual({ queued: 0 });
    expect(keysAt(webhook, 'alone')).toHaveLength(1);
  });

  it('what was queued when the node was killed is delivered by the courier of the next run', async () => {
    await using node = await deliveringNode('crashed');
    await node.run();
    await courierOf(node);
    s3.faults.failNext(1000, 503);
    await node.ask(['collect-forensics', '--reason', 'before the crash']);
    await until('an attempt has failed', () =>
      rowsOf(node).some(({ attempts }) => attempts > 0) ? true : undefined,
    );
    node.kill();
    await node.stop();
    s3.faults.failNext(0, 503);
    await node.run();
    const rows = await settled(node);
    expect(rows.map(({ kind }) => kind).sort()).toEqual(['alert', 'alert', 'bundle']);
    expectUploaded(node, 'crashed');
  });
});

describe('a bundle that was altered on the node', () => {
  it('is not delivered under its name until it is as it was made, in clear and encrypted', async () => {
    await using node = await deliveringNode('altered', 'spawn = false');
    const recipient = await identityToRecipient(await generateX25519Identity());
    const collect = ['collect-forensics', '--reason', 'a test'];
    for (const more of [[], ['--recipient', recipient]]) {
      const { archive } = await node.ask<{ archive: string }>([...collect, ...more]);
      const made = readFileSync(archive);
      const altered = Buffer.from(made);
      altered[made.length >> 1] = (altered[made.length >> 1] ?? 0) ^ 1;
      writeFileSync(archive, altered);
      const before = s3.objects(bucket).size;
      expect(await node.ask(['courier', '--once'])).toEqual({ queued: 1 });
      const { bundles } = await node.ask<Uploads>(['upload', 'status']);
      const { error } = bundles.find(({ state }) => state === 'queued') ?? {};
      expect(error).toMatch(/^altered-\S+ is not what it was: .*Find out what changed it/);
      expect(s3.objects(bucket).size).toBe(before);
      writeFileSync(archive, made);
      await node.ask(['upload', 'retry']);
      expect(await node.ask(['courier', '--once'])).toEqual({ queued: 0 });
      expect(
        s3
          .objects(bucket)
          .get(`altered/${basename(archive)}`)
          ?.bytes.equals(made),
      ).toBe(true);
    }
  });
});

describe('credentials in the environment', () => {
  it('are wiped by the node daemon, and its courier gets what leads to them only', async () => {
    await using node = await deliveringNode('environment');
    const variables = { AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey, AWS_PROFILE: 'evidence' };
    Object.assign(process.env, variables);
    try {
      await node.run();
    } finally {
      for (const name of Object.keys(variables)) delete process.env[name];
    }
    const environmentOf = (pid: number) => readFileSync(`/proc/${pid}/environ`, 'latin1');
    const courier = await courierOf(node);
    for (const pid of [node.pid, courier])
      expect(environmentOf(pid)).not.toContain(credentials.secretAccessKey);
    expect(environmentOf(courier)).toContain('AWS_PROFILE=evidence');
    expect(node.log).toMatch(/AWS_SECRET_ACCESS_KEY stood in the environment of the node daemon/);
  });
});

describe('a bundle', () => {
  it('is made without a journal, and says in its manifest what is missing and why', async () => {
    await using node = await labNode(scratch, 'silent');
    await node.ask(['provision']);
    await node.run();
    await node.journald.stop();
    const made = await node.ask<BundleMade>(['collect-forensics']);
    expect(made.problems).toEqual([expect.stringMatching(/^journal: It failed: .*journal/i)]);
    const manifest = manifestOf(made.archive);
    expect(manifest.collectors).toContainEqual(
      expect.objectContaining({
        name: 'journal',
        status: 'failed',
        detail: expect.stringMatching(/journal/i),
      }),
    );
    await node.ask(['zeroize', '--reason', 'a test']);
    const { bundle } = (await node.status()).zeroize as ZeroizeSummary;
    expect(manifestOf(bundle ?? '').reason).toBe('zeroize: operator');
  });

  it('is left where --output says as well, and goes where --upload says', async () => {
    await using node = await labNode(scratch, 'elsewhere');
    await node.ask(['provision']);
    const target = scratch.at('target');
    const made = await node.ask<BundleMade>([
      'collect-forensics',
      '--output',
      scratch.at('copy'),
      '--upload',
      `file://${target}`,
    ]);
    const names = [basename(made.archive), basename(made.sigstore)].sort();
    expect(readdirSync(scratch.at('copy')).sort()).toEqual(names);
    expect(await node.ask(['courier', '--once'])).toEqual({ queued: 0 });
    expect(readdirSync(target).sort()).toEqual(names);
    expect(readFileSync(`${target}/${basename(made.archive)}`)).toEqual(readFileSync(made.archive));
    // What was delivered goes without a word, the last one never, and what lies nowhere else is told.
    const tight = `${readFileSync(node.config, 'utf8')}\n[forensics]\nkeep_bytes = 1\n`;
    writeFileSync(node.config, tight);
    const next = () => node.ask<BundleMade>(['collect-forensics']);
    const bundles = [await next(), await next(), await next()];
    const limits = bundles.map(({ problems }) =>
      problems.filter((problem) => problem.startsWith('limits: ')),
    );
    const lost = new RegExp(`${basename(bundles[0]?.archive ?? '')}.*size.*delivered nowhere`);
    expect(limits).toEqual([[], [], [expect.stringMatching(lost)]]);
  });
});

/** The first member of the archive. */
function manifestOf(archive: string): { reason: string; collectors: object[] } {
  const tar = gunzipSync(readFileSync(archive));
  const name = tar.toString('latin1', 0, tar.indexOf(0));
  expect(name).toBe('manifest.json');
  const size = Number.parseInt(tar.toString('latin1', 124, 135), 8);
  return JSON.parse(tar.toString('utf8', 512, 512 + size));
}
