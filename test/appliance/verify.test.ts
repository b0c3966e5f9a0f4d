import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tpmSilent, unsignedNote } from '../../src/appliance/assurance.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import type { Status } from '../../src/appliance/status.ts';
import { makeStatement, parseStatement } from '../../src/attestation/statement.ts';
import { unsignedBundle } from '../../src/attestation/unsigned.ts';
import { claimNames, type VerifyReport } from '../../src/forensics/claims.ts';
import { type Assurance, decodeManifest, largestStatement } from '../../src/forensics/format.ts';
import { packBundle } from '../../src/forensics/pack.ts';
import { readArchive } from '../../src/forensics/unpack.ts';
import { defaultVerifyPolicy } from '../../src/forensics/verify-policy.ts';
import { esoteric, type LabNode } from '../lab/node.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';
import { labNode, profile, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const identity = 'https://nodes.example/gamma';

interface Verified {
  readonly status: number | null;
  readonly report: VerifyReport;
  /** Claims by result. */
  readonly claims: Record<string, string[]>;
}

async function verify(archive: string, ...more: string[]): Promise<Verified> {
  const { status, stdout, stderr } = await esoteric(['verify', archive, ...more, '--json']);
  expect(stderr).toBe('');
  const report = JSON.parse(stdout.toString()) as VerifyReport;
  expect(report.claims, stdout.toString()).toHaveLength(claimNames.length);
  const claims = Object.groupBy(report.claims, ({ result }) => result);
  return {
    status,
    report,
    claims: Object.fromEntries(
      Object.entries(claims).map(([result, of = []]) => [result, of.map(({ claim }) => claim)]),
    ),
  };
}

/** A copy of a bundle's two files, the first changed by `change`. */
function copyOf(
  bundle: BundleMade,
  name: string,
  change: (bytes: Buffer) => Buffer = (bytes) => bytes,
): string {
  const directory = scratch.at(name);
  mkdirSync(directory);
  const archive = `${directory}/${basename(bundle.archive)}`;
  const bytes = readFileSync(bundle.archive);
  writeFileSync(archive, change(bytes));
  copyFileSync(bundle.sigstore, `${archive}.sigstore.json`);
  return archive;
}

/** What somebody without any key can make of a bundle: another assurance in archive and statement, and no signature. */
async function forgedFrom(bundle: BundleMade, name: string, assurance: Partial<Assurance>): Promise<string> {
  const { members } = await readArchive(readFileSync(bundle.archive), defaultVerifyPolicy.limits, () => true);
  const [first, ...others] = members;
  const manifest = decodeManifest(first?.bytes ?? Buffer.alloc(0));
  const changed = { ...manifest, assurance: { ...manifest.assurance, ...assurance } };
  const staging = scratch.at(`${name}-staging`);
  for (const { path, bytes = Buffer.alloc(0) } of others) {
    mkdirSync(dirname(`${staging}/${path}`), { recursive: true });
    writeFileSync(`${staging}/${path}`, bytes);
  }
  const archive = scratch.at(`${name}.tar.gz`);
  const packed = await packBundle(staging, changed, archive);
  const { dsseEnvelope } = JSON.parse(readFileSync(bundle.sigstore, 'utf8')) as {
    dsseEnvelope: { payload: string };
  };
  const { predicate } = parseStatement(Buffer.from(dsseEnvelope.payload, 'base64'));
  const statement = makeStatement({
    archiveName: basename(archive),
    archiveSha256: packed.sha256,
    predicate: {
      ...predicate,
      quote: null,
      nv: null,
      assurance: changed.assurance,
      manifestDigest: { sha256: packed.manifestSha256 },
    },
  });
  writeFileSync(`${archive}.sigstore.json`, JSON.stringify(unsignedBundle(statement)));
  return archive;
}

describe('verify, of a bundle that a TPM signed and local services countersigned', () => {
  let node: LabNode;
  let sigstore: LocalSigstore;
  let bundle: BundleMade;
  let held: string[];
  beforeAll(async () => {
    sigstore = await startSigstore();
    writeFileSync(scratch.at('root.json'), JSON.stringify(sigstore.trustedRoot));
    const token = scratch.at('gamma', 'identity-token');
    node = await labNode(scratch, 'gamma', {
      tpm: true,
      sigstore: true,
      courierFiles: { 'identity-token': sigstore.identityToken(identity) },
      configuration: `
[sigstore]
fulcio = "${sigstore.fulcio}"
rekor = "${sigstore.rekor}"
tsa = "${sigstore.tsa}"
identity = "${identity}"
issuer = "${sigstore.issuer}"
identity_token_file = "${token}"
trusted_root = "${scratch.at('root.json')}"
stand_ins = ["fulcio", "rekor", "timestamp authority"]
`,
    });
    await node.ask(['provision', '--profile', profile('leaf')]);
    const made = await node.ask<BundleMade>(['collect-forensics', '--reason', 'for the auditor']);
    expect(await node.ask(['courier', '--once'])).toEqual({ queued: 0 });
    // The two files as the courier delivers them; beside the archive stays what the node alone signed.
    const countersigned = `${node.stateDirectory}/courier/countersigned/${basename(made.sigstore)}`;
    const archive = copyOf({ ...made, sigstore: countersigned }, 'delivered');
    bundle = { ...made, archive, sigstore: `${archive}.sigstore.json` };
    copyFileSync(`${node.stateDirectory}/enrolment.json`, scratch.at('enrolment.json'));
    held = [
      ...['--enrolment', scratch.at('enrolment.json'), '--trusted-root', scratch.at('root.json')],
      ...['--identity', identity, '--issuer', sigstore.issuer],
    ];
  });
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    await sigstore.stop();
  });

  it('is incomplete, with nothing failed, for what hangs on stand-ins is not proven: 3, and 0 where that is allowed', async () => {
    const strict = await verify(bundle.archive, ...held);
    expect(strict).toMatchObject({ status: 3, report: { verdict: 'incomplete', reasons: [] } });
    expect(strict.claims.failed).toBeUndefined();
    expect(strict.claims.proven).toEqual(
      expect.arrayContaining(['archive integrity', 'manifest', 'signature', 'custody chain', 'sequence']),
    );
    expect(strict.claims['not-proven']).toEqual(
      expect.arrayContaining(['TPM identity', 'quote', 'event log', 'transparency', 'time']),
    );
    // The TPM's own NV memory agrees.
    const detailOf = (name: string) => strict.report.claims.find(({ claim }) => claim === name)?.detail;
    expect(detailOf('sequence')).toContain('The TPM’s counter stood at it.');
    expect(detailOf('custody chain')).toMatch(/The TPM was told of it up to record \d+\.$/);
    expect(detailOf('zeroize')).toMatch(/tells of no zeroize/);
    for (const { result, detail } of strict.report.claims) {
      if (result === 'not-proven') expect(detail.length).toBeGreaterThan(20);
    }
    const allowed = await verify(bundle.archive, ...held, '--allow-bypassed');
    expect(allowed).toMatchObject({ status: 0, report: { verdict: 'incomplete' } });
    expect(allowed.report.bundle?.assurance).toMatchObject({ tpm: 'simulator', sigstore: 'on' });
  });

  it('is rejected by the root of the public Sigstore, with a word of where another is named', async () => {
    const enrolment = ['--enrolment', scratch.at('enrolment.json')];
    const hint = expect.stringMatching(/^rejected\nThis was held against .* --trusted-root\.$/m);
    const { status, stdout } = await esoteric(['verify', bundle.archive, ...enrolment]);
    expect([status, stdout.toString()]).toEqual([3, hint]);
    const own = await esoteric(['verify', bundle.archive, ...held]);
    expect(own.stdout.toString()).not.toContain('was held against the root');
  });

  it('is accepted by a policy that allows exactly what is not proven, and by none that allows less', async () => {
    const { claims } = await verify(bundle.archive, ...held);
    const unproven = claims['not-proven'] ?? [];
    const policy = (allowed: string[]): string[] => {
      const path = scratch.at(`policy-${allowed.length}.toml`);
      writeFileSync(path, `may_be_unproven = ${JSON.stringify(allowed)}\n`);
      return ['--policy', path];
    };
    expect((await verify(bundle.archive, ...held, ...policy(unproven))).status).toBe(0);
    expect((await verify(bundle.archive, ...held, ...policy(unproven.slice(1)))).status).toBe(3);
  });

  it('proves the absence of a rollback against a head that was seen earlier, and fails against another', async () => {
    const { custody } = await node.ask<Status>(['status']);
    const first = await node.ask<{ sequence: number; hash: string }>(['custody', 'check']);
    expect(first).toMatchObject({ ok: true });
    const enrolled = JSON.parse(readFileSync(scratch.at('enrolment.json'), 'utf8')) as {
      custodyHead: { sequence: number; hash: string };
    };
    const head = `${enrolled.custodyHead.sequence}:${enrolled.custodyHead.hash}`;
    const rollback = async (known: string) =>
      (await verify(bundle.archive, ...held, '--known-head', known)).report.claims.find(
        ({ claim }) => claim === 'custody rollback',
      )?.result;
    expect(custody?.sequence).toBeGreaterThan(0);
    expect(await rollback(head)).toBe('proven');
    expect(await rollback(`1:${'ab'.repeat(32)}`)).toBe('failed');
  });

  it('rejects a flipped bit anywhere in the archive, also with --allow-bypassed', async () => {
    const size = readFileSync(bundle.archive).length;
    for (const at of [0, 12, Math.floor(size / 3), Math.floor(size / 2), size - 5]) {
      const flipped = copyOf(bundle, `flipped-${at}`, (bytes) => {
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        return bytes;
      });
      const { status, report, claims } = await verify(flipped, ...held, '--allow-bypassed');
      expect([at, status, report.verdict]).toEqual([at, 3, 'rejected']);
      expect(claims.failed).toContain('archive integrity');
    }
  });

  it('rejects an archive whose signed statement is missing, empty, garbage or of another bundle', async () => {
    const other = await node.ask<BundleMade>(['collect-forensics', '--reason', 'another']);
    const cases: [string, string | null][] = [
      ['missing', null],
      ['empty', ''],
      ['garbage', '{"mediaType":'],
      ['null', 'null'],
      ['array', '[1, 2]'],
      ['foreign', readFileSync(other.sigstore, 'utf8')],
      ['huge', `${readFileSync(bundle.sigstore, 'utf8')}${' '.repeat(largestStatement)}`],
    ];
    for (const [name, content] of cases) {
      const archive = copyOf(bundle, `statement-${name}`);
      const beside = `${archive}.sigstore.json`;
      if (content === null) copyFileSync(archive, `${archive}.alone`);
      else writeFileSync(beside, content);
      const { status, report } = await verify(
        content === null ? `${archive}.alone` : archive,
        ...held,
        '--allow-bypassed',
      );
      expect([name, status, report.verdict]).toEqual([name, 3, 'rejected']);
    }
  });

  it('rejects a forged one with an empty list of signatures, and proves nothing of what it states', async () => {
    const archive = await forgedFrom(bundle, 'forged', {});
    const { status, report, claims } = await verify(archive, ...held, '--allow-bypassed');
    expect({ status, verdict: report.verdict }).toEqual({ status: 3, verdict: 'rejected' });
    expect(claims.failed).toEqual(['signature']);
    expect(claims.proven).toBeUndefined();
    expect((await verify(archive)).claims.failed).toEqual(['signature']);
  });

  it('does not prove an unsigned one that says that the TPM did not answer, and says that this is only asserted', async () => {
    for (const note of [tpmSilent, unsignedNote('tpm-swapped')]) {
      const archive = await forgedFrom(bundle, `unanswered-${note.length}`, { notes: [note] });
      const { status, report, claims } = await verify(archive, ...held);
      expect({ status, verdict: report.verdict }).toEqual({ status: 3, verdict: 'incomplete' });
      expect(claims.proven).toBeUndefined();
      const detail = report.claims.find(({ claim }) => claim === 'signature')?.detail;
      expect(detail).toContain(`It says that ${note.replace(/: .*/, '')}, which is only asserted`);
    }
  });

  it('rejects a statement in whose JSON a key stands twice, and takes one that is pretty-printed', async () => {
    const text = readFileSync(bundle.sigstore, 'utf8');
    const pretty = copyOf(bundle, 'statement-pretty');
    writeFileSync(`${pretty}.sigstore.json`, JSON.stringify(JSON.parse(text), null, 2));
    expect((await verify(pretty, ...held)).claims.failed).toBeUndefined();
    for (const [at, key] of ['"dsseEnvelope":', '"dsse\\u0045nvelope" :'].entries()) {
      const twice = copyOf(bundle, `statement-twice-${at}`);
      const changed = text.replace('"dsseEnvelope":', `${key}{"payload":"ZXZpbA=="},"dsseEnvelope":`);
      writeFileSync(`${twice}.sigstore.json`, changed);
      const { status, claims, report } = await verify(twice, ...held, '--allow-bypassed');
      expect(status).toBe(3);
      expect(claims.failed).toContain('signature');
      expect(JSON.stringify(report)).toContain('has a key twice in one object');
    }
  });

  it("rejects it against another node's enrolment record", async () => {
    await using other = await labNode(scratch, 'delta', { tpm: true, sigstore: true });
    await other.ask(['provision']);
    const enrolment = ['--enrolment', `${other.stateDirectory}/enrolment.json`];
    const { status, report } = await verify(
      bundle.archive,
      ...held.slice(2),
      ...enrolment,
      '--allow-bypassed',
    );
    expect({ status, verdict: report.verdict }).toEqual({ status: 3, verdict: 'rejected' });
  });

  it('rejects it for another identity than the one that signed', async () => {
    const { claims, status } = await verify(
      bundle.archive,
      ...held.slice(0, 4),
      ...['--identity', `${identity}.evil`, '--issuer', sigstore.issuer, '--allow-bypassed'],
    );
    expect(status).toBe(3);
    expect(claims.failed).toContain('signer identity');
  });

  it('leaves the TPM unproven, not failed, where no enrolment record is at hand', async () => {
    const { status, claims } = await verify(bundle.archive, ...held.slice(2));
    expect(status).toBe(3);
    expect(claims.failed).toBeUndefined();
    expect(claims['not-proven']).toEqual(expect.arrayContaining(['TPM identity', 'quote']));
  });
});

describe('verify, of a bundle made with bypasses', () => {
  let bundle: BundleMade;
  beforeAll(async () => {
    await using node = await labNode(scratch, 'bypassed');
    await node.ask(['provision']);
    bundle = await node.ask<BundleMade>(['collect-forensics', '--output', scratch.at('bypassed-out')]);
  });

  it('rejects it, says which bypasses, and accepts it only with --allow-bypassed', async () => {
    const strict = await verify(bundle.archive);
    expect(strict).toMatchObject({ status: 3, report: { verdict: 'rejected' } });
    expect(strict.report.reasons).toEqual([
      expect.stringContaining('the TPM bypassed'),
      expect.stringContaining('Sigstore bypassed'),
    ]);
    const allowed = await verify(bundle.archive, '--allow-bypassed');
    expect(allowed).toMatchObject({ status: 0, report: { verdict: 'incomplete', reasons: [] } });
    expect(allowed.claims.failed).toBeUndefined();
    expect(allowed.claims['not-proven']).toContain('signature');
  });

  it('still rejects it with a flipped bit', async () => {
    const flipped = copyOf(bundle, 'bypassed-flipped', (bytes) => {
      const at = bytes.length >> 1;
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      return bytes;
    });
    expect((await verify(flipped, '--allow-bypassed')).status).toBe(3);
  });

  it('rejects what is no archive at all, without a stack trace', async () => {
    const junk: [string, Buffer][] = [
      ['empty', Buffer.alloc(0)],
      ['text', Buffer.from('This is not a bundle.\n')],
      ['gzip-of-nothing', Buffer.from('1f8b08000000000000030300000000000000000000', 'hex')],
      ['cut', readFileSync(bundle.archive).subarray(0, 700)],
      ['noise', Buffer.from(Array.from({ length: 4096 }, (_, n) => (n * 167 + 13) & 255))],
    ];
    for (const [name, content] of junk) {
      const path = scratch.at(`${name}.tar.gz`);
      writeFileSync(path, content);
      const { status, report } = await verify(path, '--allow-bypassed');
      expect([name, status, report.verdict]).toEqual([name, 3, 'rejected']);
      const { stderr, stdout } = await esoteric(['verify', path]);
      expect(`${stdout}${stderr}`).not.toMatch(/^\s+at /m);
    }
  });

  it('ends with 2 for what the relying party itself got wrong, and names it', async () => {
    writeFileSync(scratch.at('no.json'), 'not JSON');
    writeFileSync(scratch.at('null.json'), 'null');
    mkdirSync(scratch.at('empty'));
    writeFileSync(scratch.at('other.json'), '{"format": "something/1"}');
    const cases: [string[], string][] = [
      [[scratch.at('nowhere.tar.gz')], 'file-missing'],
      [[scratch.at('empty')], 'bundles-missing'],
      [['s3://Bucket_1/x'], 'upload-url-invalid'],
      [[bundle.archive, '--enrolment', scratch.at('nowhere.json')], 'file-missing'],
      [[bundle.archive, '--enrolment', scratch.at('no.json')], 'enrolment-invalid'],
      [[bundle.archive, '--enrolment', scratch.at('other.json')], 'enrolment-invalid'],
      [[bundle.archive, '--trusted-root', scratch.at('no.json')], 'file-invalid'],
      [[bundle.archive, '--trusted-root', scratch.at('null.json')], 'file-invalid'],
      [[bundle.archive, '--trusted-root', scratch.at('nowhere.json')], 'file-missing'],
      [[bundle.archive, '--policy', scratch.at('nowhere.toml')], 'config-missing'],
      [[bundle.archive, '--case-key', scratch.at('nowhere.key')], 'case-key-unreadable'],
      [[bundle.archive, '--known-head', 'yesterday'], 'usage'],
      [[bundle.sigstore], 'usage'],
      [[bundle.archive, '--sigstore-bundle', scratch.at('nowhere.json')], 'file-missing'],
    ];
    for (const [words, code] of cases) {
      const { status, stdout, stderr } = await esoteric(['verify', ...words, '--json']);
      const { error } = JSON.parse(stdout.toString()) as { error: { code: string } };
      expect([words, status, error.code, stderr]).toEqual([words, 2, code, '']);
    }
  });
});
