// The courier between a store that takes bundles and Sigstore services that do not answer yet, or that were configured later.
import { copyFileSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { takeReceipts } from '../../src/alerts/receipts.ts';
import { dropJob } from '../../src/alerts/spool.ts';
import type { BundleJob } from '../../src/appliance/bundle-job.ts';
import { type Config, loadConfig } from '../../src/appliance/config.ts';
import { runCourier } from '../../src/appliance/courier.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import { type StateLayout, stateLayout } from '../../src/appliance/state-layout.ts';
import { retryUploads, type Uploads, uploadsOf } from '../../src/appliance/uploads.ts';
import { verifyFiles } from '../../src/appliance/verify.ts';
import type { LabNode } from '../lab/node.ts';
import { type S3Server, startS3 } from '../lab/s3.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';
import { freePort, labNode, profile, Scratch, until } from './scene.ts';

const scratch = new Scratch();
const identity = 'ops@example.org';
const credentials = { accessKeyId: 'COURIER', secretAccessKey: 'courier-secret' };
const keys = `aws_access_key_id = ${credentials.accessKeyId}\naws_secret_access_key = ${credentials.secretAccessKey}\n`;
let s3: S3Server;
let lab: LocalSigstore;
let nobodyThere: string;

beforeAll(async () => {
  [s3, lab] = await Promise.all([startS3({ credentials, buckets: ['evidence'] }), startSigstore()]);
  nobodyThere = `http://127.0.0.1:${await freePort()}`;
  writeFileSync(scratch.at('root.json'), JSON.stringify(lab.trustedRoot));
});
afterAll(async () => {
  await Promise.all([s3.stop(), lab.stop()]);
  scratch[Symbol.dispose]();
});

const uploadTo = (prefix: string): string => `s3://evidence/${prefix}?endpoint=${s3.endpoint}`;
const courierConfiguration = (word: string): string =>
  `[courier]\ns3_credentials_file = "${scratch.at(word, 's3-credentials')}"\n`;
const contentAt = (prefix: string): Map<string, Buffer> =>
  new Map(
    [...s3.objects('evidence')]
      .filter(([key]) => key.startsWith(`${prefix}/`))
      .map(([key, { bytes }]) => [basename(key), Buffer.from(bytes)]),
  );
const witnesses = (signature: Buffer | undefined): number =>
  JSON.parse(String(signature)).verificationMaterial.tlogEntries?.length ?? 0;

describe('a bundle whose signature cannot be countersigned', () => {
  let node: LabNode;
  let config: Config;
  let layout: StateLayout;
  let made: BundleMade;
  let job: BundleJob;
  let count = 0;
  const token = (text: string): string => {
    const path = scratch.at('token');
    writeFileSync(path, text);
    return path;
  };

  beforeAll(async () => {
    node = await labNode(scratch, 'lambda', {
      tpm: true,
      sigstore: true,
      courierFiles: { 's3-credentials': `[default]\n${keys}` },
      configuration: `${courierConfiguration('lambda')}
[sigstore]
fulcio = "${lab.fulcio}"
rekor = "${lab.rekor}"
tsa = "${lab.tsa}"
identity = "${identity}"
issuer = "${lab.issuer}"
trusted_root = "${scratch.at('root.json')}"
stand_ins = ["fulcio", "rekor", "timestamp authority"]
`,
    });
    await node.ask(['provision', '--profile', profile('leaf')]);
    made = await node.ask<BundleMade>(['collect-forensics', '--lines', '1']);
    config = loadConfig({ path: node.config });
    layout = stateLayout(node.stateDirectory);
    const [dropped = ''] = readdirSync(layout.spool).filter((name) => name.endsWith('.json'));
    job = JSON.parse(readFileSync(join(layout.spool, dropped), 'utf8')).payload;
    await runCourier({ ...config, sigstore: { ...config.sigstore, mode: 'none' } }, toTheEnd);
  });
  afterAll(() => node[Symbol.asyncDispose]());

  const toTheEnd = { once: true, signal: new AbortController().signal, log: () => {}, environment: {} };
  /** The bundle again, as one that was made just now; its names. */
  const another = (prefix: string): { archive: string; signature: string; pending: string } => {
    count += 1;
    const number = String(count + 100).padStart(6, '0');
    const archive = `${node.name}-${number}-20261120T100000Z.tar.gz`;
    const signature = `${archive}.sigstore.json`;
    copyFileSync(made.archive, join(layout.bundles, archive));
    copyFileSync(made.sigstore, join(layout.bundles, signature));
    const payload = {
      ...job,
      archive: join(layout.bundles, archive),
      sigstore: join(layout.bundles, signature),
      upload: uploadTo(prefix),
      configured: false,
    };
    dropJob(layout.spool, { kind: 'bundle', key: `${node.name}-bundle-${number}`, payload });
    return { archive, signature, pending: `${archive}.pending.sigstore.json` };
  };
  const takeAll = () => {
    const taken = takeReceipts(layout.receipts, (_, why) => expect.fail(why));
    for (const { done } of taken) done();
    return taken.map(({ receipt }) => (receipt.kind === 'delivered' ? receipt.files : []));
  };
  const anHourAgo = (): number => Math.floor(Date.now() / 1000) - 3600;

  it.each<[string, () => Partial<Config['sigstore']>, RegExp]>([
    [
      'Fulcio is dead',
      () => ({ fulcio: nobodyThere, identity_token_file: token(lab.identityToken(identity)) }),
      /Fulcio/i,
    ],
    ['Rekor is dead', () => ({ fulcio: '', rekor: nobodyThere }), /Rekor/i],
    ['the timestamp authority is dead', () => ({ fulcio: '', tsa: nobodyThere }), /time/i],
    ['nobody has signed in', () => ({}), /nobody has signed in/],
    [
      'the identity token has expired',
      () => ({ identity_token_file: token(lab.identityToken(identity, { exp: anHourAgo() })) }),
      /token expired/,
    ],
  ])(
    'is delivered all the same while %s, its archive first and read back once',
    async (why, changes, said) => {
      const prefix = why.replaceAll(' ', '-');
      const names = another(prefix);
      const failing = { ...config, sigstore: { ...config.sigstore, ...changes() } };
      for (let attempt = 0; attempt < 3; attempt += 1) {
        expect(await runCourier(failing, toTheEnd)).toBe(1);
        const there = contentAt(prefix);
        expect([...there.keys()].sort()).toEqual([names.archive, names.pending].sort());
        expect(there.get(names.archive)?.equals(readFileSync(made.archive))).toBe(true);
        // Whoever has these two can prove what the node signed.
        expect(there.get(names.pending)?.equals(readFileSync(made.sigstore))).toBe(true);
        const { bundles } = uploadsOf(config);
        expect(bundles[0]).toMatchObject({
          state: 'queued',
          archiveAt: `s3://evidence/${prefix}/${names.archive}`,
          error: expect.stringMatching(said),
        });
        expect(takeAll()).toEqual([]);
        retryUploads(config);
      }
      const working = { ...config.sigstore, identity_token_file: token(lab.identityToken(identity)) };
      expect(await runCourier({ ...config, sigstore: working }, toTheEnd)).toBe(0);
      expect(witnesses(contentAt(prefix).get(names.signature))).toBe(1);
      expect(takeAll()).toEqual([
        [
          expect.objectContaining({ name: names.archive, where: `s3://evidence/${prefix}/${names.archive}` }),
          expect.objectContaining({ name: names.signature }),
        ],
      ]);
      const asked = s3.requests.filter(
        (line) => / \/\S+\.tar\.gz(\?\S*)? \d+$/.test(line) && line.includes(prefix),
      );
      expect(asked.filter((line) => line.startsWith('GET '))).toHaveLength(1);
      expect(asked.filter((line) => line.startsWith('PUT '))).toHaveLength(1);
      expect(readdirSync(layout.uploads)).toEqual([]);
      expect(uploadsOf(config).bundles[0]?.archiveAt).toBeNull();
    },
  );

  it('goes whole to another place that it is sent to meanwhile, and to a stick that was exchanged', async () => {
    const names = another('first-place');
    const failing = { ...config, sigstore: { ...config.sigstore, fulcio: '', rekor: nobodyThere } };
    expect(await runCourier(failing, toTheEnd)).toBe(1);
    const stick = scratch.at('stick');
    retryUploads(config, { elsewhere: `file://${stick}` });
    expect(await runCourier(failing, toTheEnd)).toBe(1);
    expect(readdirSync(stick).sort()).toEqual([names.archive, names.pending].sort());
    renameSync(stick, `${stick}-taken-away`);
    retryUploads(config);
    const bare = { ...config, sigstore: { ...config.sigstore, mode: 'none' as const } };
    expect(await runCourier(bare, toTheEnd)).toBe(0);
    expect(readdirSync(stick).sort()).toEqual([names.archive, names.signature].sort());
    expect(takeAll()).toHaveLength(1);
    expect(readdirSync(layout.uploads)).toEqual([]);
  });

  it('is told of as left at the store where the node no longer keeps it', async () => {
    const names = another('given-up');
    const failing = { ...config, sigstore: { ...config.sigstore, fulcio: '', rekor: nobodyThere } };
    expect(await runCourier(failing, toTheEnd)).toBe(1);
    for (const name of [names.archive, names.signature]) rmSync(join(layout.bundles, name));
    retryUploads(config);
    expect(await runCourier(failing, toTheEnd)).toBe(0);
    expect(uploadsOf(config).bundles[0]).toMatchObject({
      state: 'dead-lettered',
      error: expect.stringContaining(`lies at s3://evidence/given-up/${names.archive}, not countersigned.`),
    });
    expect(readdirSync(layout.uploads)).toEqual([]);
  });
});

describe('a bundle from before its way out was configured', () => {
  it('is delivered once `upload retry --all` asks for it, and countersigned once there is a service', async () => {
    await using node = await labNode(scratch, 'mu', {
      tpm: true,
      sigstore: true,
      courierFiles: { 's3-credentials': `[default]\n${keys}` },
      configuration: courierConfiguration('mu'),
    });
    const bare = readFileSync(node.config, 'utf8');
    await node.ask(['provision', '--profile', profile('leaf')]);
    const collect = ['collect-forensics', '--lines', '1'];
    const { archive, sigstore } = await node.ask<BundleMade>(collect);
    const kept = await node.ask<BundleMade>([...collect, '--upload', '']);
    const names = [archive, sigstore].map((path) => basename(path));
    const courier = () => node.ask(['courier', '--once']);
    const retryAll = (...more: string[]) => node.ask(['upload', 'retry', '--all', ...more]);
    // On their way to the courier they are not queued again.
    expect(await retryAll()).toEqual({ due: 0 });
    expect(await courier()).toEqual({ queued: 0 });
    expect(await retryAll()).toEqual({ due: 0 });

    writeFileSync(node.config, `${bare}[forensics]\nupload = "${uploadTo('later')}"\n`);
    expect(await node.ask(['upload', 'retry'])).toEqual({ due: 0 });
    expect(await retryAll()).toEqual({ due: 1 });
    expect(await courier()).toEqual({ queued: 0 });
    const delivered = contentAt('later');
    expect([...delivered.keys()].sort()).toEqual(names.toSorted());
    // Its receipt counts before a node takes it.
    expect(await retryAll()).toEqual({ due: 0 });
    await node.run();
    await until('the receipt is in the custody log', async () => {
      const { bundles } = await node.ask<Uploads>(['upload', 'status']);
      return bundles.some((row) => row.delivered !== null) ? true : undefined;
    });
    expect(await retryAll()).toEqual({ due: 0 });
    await node.stop();

    const services = `[sigstore]\nrekor = "${lab.rekor}"\ntsa = "${lab.tsa}"\ntrusted_root = "${scratch.at('root.json')}"\nstand_ins = ["rekor", "timestamp authority"]\n`;
    writeFileSync(node.config, `${bare}[forensics]\nupload = "${uploadTo('later')}"\n${services}`);
    await node.run();
    expect(await retryAll()).toEqual({ due: 2 });
    const { countersigned } = stateLayout(node.stateDirectory);
    const both = [sigstore, kept.sigstore].map((path) => basename(path)).sort();
    const complete = () => readdirSync(countersigned).filter((name) => name.endsWith('.json'));
    await until('both are countersigned', () => (complete().length === 2 ? true : undefined));
    expect(complete().sort()).toEqual(both);
    const { accepted } = await verifyFiles({
      archive,
      sigstore: join(countersigned, basename(sigstore)),
      enrolment: stateLayout(node.stateDirectory).enrolment,
      trustedRoot: scratch.at('root.json'),
      allowBypassed: true,
    });
    expect(accepted).toBe(true);
    // Where it was delivered nothing is overwritten, and what was to stay on the node has stayed.
    expect(contentAt('later')).toEqual(delivered);
    await until('nothing is queued', async () =>
      (await node.status()).alerts.queued === 0 ? true : undefined,
    );
    expect(await retryAll()).toEqual({ due: 0 });
    // With the countersigned signature it goes to another place.
    expect(await retryAll('--to', uploadTo('complete'))).toEqual({ due: 2 });
    await until('both lie there', () => (contentAt('complete').size === 4 ? true : undefined));
    expect(witnesses(contentAt('complete').get(basename(sigstore)))).toBe(1);
  });

  it('is delivered unsigned as well, also where no courier has run', async () => {
    await using node = await labNode(scratch, 'nu', { configuration: courierConfiguration('nu') });
    writeFileSync(scratch.at('nu', 's3-credentials'), keys);
    const bare = readFileSync(node.config, 'utf8');
    await node.ask(['provision']);
    const made = await node.ask<BundleMade>(['collect-forensics', '--lines', '1']);
    const kept = await node.ask<BundleMade>(['collect-forensics', '--lines', '1', '--upload', '']);
    writeFileSync(node.config, `${bare}[forensics]\nupload = "${uploadTo('unsigned')}"\n`);
    expect(await node.ask(['upload', 'retry', '--all'])).toEqual({ due: 1 });
    expect(await node.ask(['courier', '--once'])).toEqual({ queued: 0 });
    const there = contentAt('unsigned');
    expect([...there.keys()].sort()).toEqual(
      [made.archive, made.sigstore].map((path) => basename(path)).sort(),
    );
    // A person who names a place means all, also what lies at another.
    const retry = ['upload', 'retry', '--all', '--to', `file://${scratch.at('nu-stick')}`];
    expect(await node.ask(retry)).toEqual({ due: 2 });
    expect(await node.ask(['courier', '--once'])).toEqual({ queued: 0 });
    const all = [made, kept].flatMap(({ archive, sigstore }) => [basename(archive), basename(sigstore)]);
    expect(readdirSync(scratch.at('nu-stick')).sort()).toEqual(all.sort());
  });
});
