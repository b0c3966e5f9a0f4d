// What is attested of the running program: judged for a program of our own making, then told by a node that runs.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { collectForensics } from '../../src/appliance/collect.ts';
import { loadConfig } from '../../src/appliance/config.ts';
import type { Config } from '../../src/appliance/config-schema.ts';
import { readCustody } from '../../src/appliance/custody.ts';
import { examine } from '../../src/appliance/doctor.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import { appraiseProgram, type ProgramAppraisal, requireProgram } from '../../src/appliance/program.ts';
import { verifyFiles } from '../../src/appliance/verify.ts';
import { parseStatement } from '../../src/attestation/statement.ts';
import {
  type About,
  attest,
  attestationDirectory,
  builder,
  cycloneDxBom,
  packageOf,
  slsaProvenance,
} from '../lab/attested-package.ts';
import { esoteric } from '../lab/node.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';
import { labNode, profile, Scratch } from './scene.ts';

const scratch = new Scratch();
let lab: LocalSigstore;
beforeAll(async () => {
  lab = await startSigstore();
  writeFileSync(scratch.at('root.json'), JSON.stringify(lab.trustedRoot));
});
afterAll(async () => {
  await lab.stop();
  scratch[Symbol.dispose]();
});

const bundle = async (about: About, ...more: [artifact: Uint8Array, how?: Parameters<typeof attest>[3]]) =>
  JSON.stringify(await attest(lab, more[0], about, more[1]));

describe('a program', () => {
  let root: string;
  let count = 0;
  let tarball: Buffer;
  const files = {
    'package.json': '{"name":"appliance","version":"0.1.0"}',
    'dist/cli/main.js': 'console.log("main")',
    'dist/pool.js': 'export {}',
    'policies/verify.toml': 'may_be_unproven = []',
  };
  beforeEach(async () => {
    root = `${scratch.at(`program-${count++}`)}/`;
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(join(root, path, '..'), { recursive: true });
      writeFileSync(join(root, path), content);
    }
    tarball = await packageOf(root, ['package.json', 'dist', 'policies']);
  });

  const config = (
    program: Partial<Config['program']> = {},
    trustedRoot = scratch.at('root.json'),
  ): Config => {
    const usual = loadConfig({ path: scratch.at('empty.toml') });
    return {
      ...usual,
      sigstore: { ...usual.sigstore, trusted_root: trustedRoot },
      program: { ...usual.program, identity: builder, issuer: lab.issuer, ...program },
    };
  };
  beforeAll(() => writeFileSync(scratch.at('empty.toml'), ''));
  const appraise = (settings = config()): Promise<ProgramAppraisal> =>
    appraiseProgram(settings, { root, code: 'dist' });
  const beside = (found: Readonly<Record<string, string | Uint8Array>>): string =>
    attestationDirectory(join(root, 'attestations'), found);

  it('that nobody attests is said to be so, and may start', async () => {
    const found = await appraise();
    expect(found).toMatchObject({
      version: '0.1.0',
      digest: null,
      provenance: { result: 'absent' },
      sbom: { result: 'absent' },
    });
    expect(() => requireProgram(config(), found)).not.toThrow();
    const strict = config({ required: ['provenance'] });
    expect(() => requireProgram(strict, found)).toThrow(
      /only with a verified provenance of its program, which is absent/,
    );
  });

  it('is what was attested: by whom, of what, for which package', async () => {
    beside({
      'appliance-0.1.0.tgz': tarball,
      'provenance.sigstore.json': await bundle(slsaProvenance, tarball),
      'sbom.sigstore.json': await bundle(cycloneDxBom, tarball),
    });
    const found = await appraise();
    const by = `${builder}, vouched for by ${lab.issuer}`;
    expect(found).toEqual({
      version: '0.1.0',
      digest: { sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
      changed: [],
      provenance: {
        result: 'verified',
        detail: 'built by https://builds.example/runner, from git+https://code.example/appliance (c0ffee)',
        by,
      },
      sbom: { result: 'verified', detail: 'CycloneDX 1.6, 2 components', by },
    });
    expect(() => requireProgram(config({ required: ['provenance', 'sbom'] }), found)).not.toThrow();
  });

  it('may be attested in lines of one file, by SHA-512 alone, with a version in the type, by any release of a workflow', async () => {
    const spdx = {
      predicateType: 'https://spdx.dev/Document/v2.3',
      predicate: { spdxVersion: 'SPDX-2.3', packages: [{}] },
    };
    const other = { predicateType: 'https://in-toto.io/attestation/vulns/v0.1', predicate: {} };
    beside({
      'appliance.tgz': tarball,
      'attestations.jsonl': [
        await bundle(slsaProvenance, tarball, { algorithms: ['sha512'] }),
        await bundle(spdx, tarball, { algorithms: ['sha512', 'sha256'] }),
        await bundle(other, tarball),
      ].join('\n'),
    });
    const found = await appraise(config({ identity: builder.replace('v0.1.0', '*') }));
    expect(found).toMatchObject({
      provenance: { result: 'verified' },
      sbom: { result: 'verified', detail: 'SPDX-2.3, 1 packages' },
    });
  });

  it('has its dependencies held against the SBOM, as far as that lists them', async () => {
    const purls = ['pkg:npm/zod@4.6.7', 'pkg:npm/%40sigstore/sign@5.1.0?x=y'];
    const components = purls.map((purl) => ({ purl }));
    const sbom = { ...cycloneDxBom, predicate: { ...cycloneDxBom.predicate, components } };
    beside({ 'a.tgz': tarball, 's.sigstore.json': await bundle(sbom, tarball) });
    const install = (packages: object): void => {
      mkdirSync(join(root, 'node_modules'), { recursive: true });
      writeFileSync(join(root, 'node_modules/.package-lock.json'), JSON.stringify({ packages }));
    };
    const dependencies = {
      'node_modules/zod': { version: '4.6.7' },
      'node_modules/a/node_modules/@sigstore/sign': { version: '5.1.0' },
      'node_modules/vitest': { version: '5.1.1', dev: true },
    };
    install(dependencies);
    expect((await appraise()).sbom.detail).toBe(
      'CycloneDX 1.6, 2 components; it lists all 2 packages that are installed',
    );
    install({ ...dependencies, 'node_modules/tar': { version: '7.5.23' } });
    expect((await appraise()).sbom).toMatchObject({
      result: 'verified',
      detail:
        'CycloneDX 1.6, 2 components; it does not list 1 of the 3 packages that are installed: tar@7.5.23',
    });
  });

  it('is told to have other policies than were packed, which is no other program', async () => {
    beside({ 'a.tgz': tarball, 'p.sigstore.json': await bundle(slsaProvenance, tarball) });
    const other = { predicateType: 'https://in-toto.io/attestation/vulns/v0.1', predicate: {} };
    beside({ 'other.sigstore.json': await bundle(other, tarball) });
    writeFileSync(join(root, 'policies/verify.toml'), 'may_be_unproven = ["time"]');
    expect(await appraise()).toMatchObject({
      changed: ['policies/verify.toml'],
      provenance: { result: 'verified' },
      sbom: { result: 'absent' },
    });
  });

  it.each([
    [
      'a module was changed',
      () => writeFileSync(join(root, 'dist/pool.js'), 'export { }'),
      /dist\/pool\.js is not as/,
    ],
    ['a module is missing', () => rmSync(join(root, 'dist/pool.js')), /dist\/pool\.js is not as/],
    [
      'a module was added',
      () => writeFileSync(join(root, 'dist/more.js'), ''),
      /dist\/more\.js is not in the package/,
    ],
    [
      'a link was added',
      () => symlinkSync('/etc/passwd', join(root, 'dist/link.js')),
      /dist\/link\.js is not in the package/,
    ],
    [
      'its manifest was changed',
      () => writeFileSync(join(root, 'package.json'), '{"version":"9"}'),
      /package\.json is not/,
    ],
  ])('is another program where %s', async (_, change, why) => {
    beside({ 'a.tgz': tarball, 'p.sigstore.json': await bundle(slsaProvenance, tarball) });
    change();
    const { provenance, digest } = await appraise();
    expect(provenance.result).toBe('failed');
    expect(provenance.detail).toMatch(why);
    expect(digest).toBeNull();
  });

  it('is not shown by a package that is damaged or that unpacks to anything', async () => {
    const reason = async (packed: Buffer): Promise<string> => {
      beside({ 'a.tgz': packed, 'p.sigstore.json': await bundle(slsaProvenance, packed) });
      const { provenance, digest } = await appraise();
      expect([provenance.result, digest]).toEqual(['failed', null]);
      return provenance.detail;
    };
    writeFileSync(join(root, 'dist/pool.js'), '// and much more\n'.repeat(200));
    const archive = gunzipSync(await packageOf(root, ['package.json', 'dist/pool.js']));
    const at = archive.indexOf('package/dist/pool.js');
    archive.writeUInt8(archive.readUInt8(at) ^ 1, at);
    expect(await reason(gzipSync(archive))).toContain('checksum failure');
    writeFileSync(join(root, 'dist/pool.js'), Buffer.alloc(8 << 20));
    expect(await reason(await packageOf(root, ['package.json', 'dist']))).toContain('decompression ratio');
  });

  it('is not shown by stand-ins, whatever they signed', async () => {
    beside({ 'a.tgz': tarball, 'p.sigstore.json': await bundle(slsaProvenance, tarball) });
    const strict = config({ required: ['provenance'] });
    const stoodIn = { ...strict, sigstore: { ...strict.sigstore, stand_ins: ['rekor'] } };
    const found = await appraise(stoodIn);
    expect(found).toMatchObject({
      provenance: { result: 'verified', standIns: true },
      sbom: { result: 'absent' },
    });
    expect(found.digest).not.toBeNull();
    expect(() => requireProgram(stoodIn, found)).toThrow(
      /which is verified against stand-ins alone: .*stand-ins: rekor\)/,
    );
  });

  it('is not said to be attested by nobody where the directory that is configured cannot be read', async () => {
    const missing = join(root, 'elsewhere');
    for (const attestations of [missing, join(root, 'package.json')]) {
      const { provenance, sbom } = await appraise(config({ attestations }));
      expect([provenance.result, sbom.result]).toEqual(['failed', 'failed']);
      expect(provenance.detail).toContain(attestations);
    }
    mkdirSync(missing);
    expect((await appraise(config({ attestations: missing }))).provenance.result).toBe('absent');
    writeFileSync(join(root, 'attestations'), '');
    expect((await appraise()).provenance).toMatchObject({
      result: 'failed',
      detail: expect.stringContaining('ENOTDIR'),
    });
  });

  it.each([
    ['p.sigstore.json', 'a FIFO', (path: string) => execFileSync('mkfifo', [path]), 'not a regular file'],
    ['a.tgz', 'too large', (path: string) => truncateSync(path, (256 << 20) + 1), 'larger than 256 MiB'],
  ])('has nothing read of %s that is %s', async (name, _, make, why) => {
    const genuine = { 'a.tgz': tarball, 'p.sigstore.json': await bundle(slsaProvenance, tarball) };
    const path = join(beside(genuine), name);
    if (name !== 'a.tgz') rmSync(path);
    make(path);
    expect((await appraise()).provenance).toEqual({ result: 'failed', detail: `${path} is ${why}` });
  });

  it('is not shown by an attestation of another package, by somebody else, by nobody in particular, or under another root', async () => {
    const genuine = await bundle(slsaProvenance, tarball);
    const reason = async (
      found: Record<string, string | Uint8Array>,
      settings = config(),
    ): Promise<string> => {
      rmSync(join(root, 'attestations'), { recursive: true, force: true });
      beside(found);
      const { provenance, digest } = await appraise(settings);
      expect(provenance).toMatchObject({ result: 'failed' });
      expect(digest).toBeNull(); // Not even unpacked.
      expect(provenance).not.toHaveProperty('by');
      return provenance.detail;
    };
    const both = { 'a.tgz': tarball, 'p.sigstore.json': genuine };
    const another = await packageOf(root, ['package.json', 'dist']);
    expect(await reason({ ...both, 'a.tgz': another })).toContain('it is about another artifact');
    expect(await reason({ 'p.sigstore.json': genuine })).toContain('is not beside it');
    expect(await reason({ ...both, 'b.tgz': tarball })).toContain('more than one package');
    expect(await reason(both, config({ identity: 'https://builds.example/other' }))).toContain(
      'signer identity failed',
    );
    expect(await reason(both, config({ issuer: 'https://issuer.example' }))).toContain(
      'signer identity failed',
    );
    expect(await reason(both, config({ identity: '' }))).toContain('program.identity');
    await using foreign = await startSigstore();
    writeFileSync(scratch.at('foreign.json'), JSON.stringify(foreign.trustedRoot));
    expect(await reason(both, config({}, scratch.at('foreign.json')))).toMatch(/rejected/);
    expect(await reason(both, config({}, scratch.at('missing.json')))).toMatch(/missing\.json/);
    expect(await reason({ ...both, 'p.sigstore.json': '{}' })).toContain('p.sigstore.json');
    expect(await reason({ ...both, 'p.sigstore.json': 'not JSON' })).toContain('p.sigstore.json');
    const altered = JSON.parse(genuine);
    const payload = Buffer.from(altered.dsseEnvelope.payload, 'base64')
      .toString()
      .replace('runner', 'ranner');
    altered.dsseEnvelope.payload = Buffer.from(payload).toString('base64');
    expect(await reason({ ...both, 'p.sigstore.json': JSON.stringify(altered) })).toContain(
      'signature failed',
    );
    const empty = { ...slsaProvenance, predicate: {} };
    expect(await reason({ ...both, 'p.sigstore.json': await bundle(empty, tarball) })).toContain(
      'not of the form of its type',
    );
  });
});

describe('a node', () => {
  const checkout = resolve(import.meta.dirname, '../..');
  const statementOf = ({ sigstore }: BundleMade) => {
    const { dsseEnvelope } = JSON.parse(readFileSync(sigstore, 'utf8'));
    return parseStatement(Buffer.from(dsseEnvelope.payload, 'base64'));
  };

  it('tells of its program in status, doctor, the log and every bundle; and raises an alert where it is another', async () => {
    const directory = scratch.at('attested');
    const tarball = await packageOf(checkout, ['package.json', 'src']);
    const genuine = await bundle(slsaProvenance, tarball);
    const attestations = (text: string) =>
      attestationDirectory(directory, { 'appliance.tgz': tarball, 'p.sigstore.json': text });
    attestations(genuine);
    await using node = await labNode(scratch, 'iota', {
      sigstore: true,
      configuration: `
[sigstore]
trusted_root = "${scratch.at('root.json')}"
stand_ins = ["fulcio"]
[program]
attestations = "${directory}"
identity = "${builder}"
issuer = "${lab.issuer}"
`,
    });
    await node.ask(['provision', '--profile', profile('leaf')]);
    const config = loadConfig({ path: node.config, overrides: { noTpm: true } });
    const collect = (): Promise<BundleMade> =>
      collectForensics(config, { reason: 'its program', lines: 1 }, () => {});

    const made = await collect();
    const verified = {
      provenance: { result: 'verified', by: `${builder}, vouched for by ${lab.issuer}` },
      sbom: { result: 'absent' },
    };
    const stated = statementOf(made).predicate.program;
    expect(stated).toMatchObject(verified);
    expect(stated?.provenance.standIns).toBe(true);
    expect(stated?.provenance.detail).toContain('stand-ins: fulcio');
    const shown = await esoteric(['verify', made.archive, '--allow-bypassed', '--explain', 'program']);
    expect(shown.status).toBe(0);
    expect(shown.stdout.toString()).toMatch(
      /program, as the node found it: .*sha256:[0-9a-f]{64}\n {2}provenance {2}verified {2}\S+, vouched/,
    );
    expect(shown.stdout.toString()).toContain('who attests how it was built');
    writeFileSync(scratch.at('verify.toml'), '[program]\nrequired = ["provenance", "sbom"]\n');
    const strictly = { archive: made.archive, policy: scratch.at('verify.toml'), allowBypassed: true };
    const { report, accepted } = await verifyFiles(strictly);
    expect(accepted).toBe(false);
    expect(report).toMatchObject({ verdict: 'rejected', program: verified });
    expect(report.reasons).toEqual([
      expect.stringMatching(
        /^The policy asks for a verified provenance of .* is verified against stand-ins alone: .*: fulcio\)\.$/,
      ),
      expect.stringMatching(/^The policy asks for a verified SBOM of the node's program, and it is absent: /),
    ]);

    attestations(genuine.replace('"payload":"', '"payload":"AAAA'));
    expect(await examine(config)).toContainEqual(
      expect.objectContaining({
        check: 'program',
        result: 'missing',
        detail: expect.stringContaining('provenance failed'),
      }),
    );
    writeFileSync(
      scratch.at('strict.toml'),
      `${readFileSync(node.config, 'utf8')}required = ["provenance"]\n`,
    );
    const refused = await esoteric(['run', '--config', scratch.at('strict.toml'), '--no-tpm']);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain(
      'starts only with a verified provenance of its program, which is failed',
    );
    await node.run();
    expect(node.log).toMatch(/The provenance of the program does not verify: p\.sigstore\.json/);
    expect(node.log).toMatch(/not shown to be what was built \[.*-program-unverified-/);
    // What lies there by now does not matter to the node that runs.
    attestations(genuine);
    const failed = { provenance: { result: 'failed' } };
    expect((await node.status()).program).toMatchObject(failed);
    const after = await node.ask<BundleMade>(['collect-forensics', '--lines', '1']);
    expect(statementOf(after).predicate.program).toMatchObject(failed);
    const told = readCustody(config).filter(({ event }) => event === 'program-appraised');
    expect(told.map(({ detail }) => detail.provenance)).toEqual(['failed', 'failed']);
  });
});
