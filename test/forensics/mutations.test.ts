// Forgeries by somebody who has whole, genuine bundles to take parts from: each is rejected, by the claim that names it.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EnrolmentRecord } from '../../src/attestation/enrolment.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import type { Manifest } from '../../src/forensics/format.ts';
import { packBundle } from '../../src/forensics/pack.ts';
import { readArchive } from '../../src/forensics/unpack.ts';
import { verifyBundle } from '../../src/forensics/verify.ts';
import { defaultVerifyPolicy } from '../../src/forensics/verify-policy.ts';
import {
  appraisers,
  beginHistory,
  type History,
  makeSample,
  type Sample,
  type SampleChoices,
} from './sample.ts';

const scratch = mkdtempSync(join(tmpdir(), 'ea-mutations-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

let made = 0;
let alpha: History;
let beta: History;
let older: Sample;
let newer: Sample;
let ofBeta: Sample;

async function sample(history: History, sequence: number, choices: SampleChoices = {}): Promise<Sample> {
  made += 1;
  const directory = join(scratch, `${made}`);
  mkdirSync(directory);
  const at = new Date(Date.UTC(2026, 10, 20, 17, made)).toISOString();
  return await makeSample(directory, { history, sequence, at, clock: 1000 * made, ...choices });
}

const nodeNamed = (node: string): SampleChoices => ({
  manifest: (manifest) => ({ ...manifest, node }),
  predicate: (predicate) => ({ ...predicate, node }),
});

beforeAll(async () => {
  for (const name of ['alpha', 'beta']) mkdirSync(join(scratch, name));
  [alpha, beta] = [beginHistory(join(scratch, 'alpha')), beginHistory(join(scratch, 'beta'))];
  older = await sample(alpha, 1);
  newer = await sample(alpha, 2, { reason: 'later' });
  ofBeta = await sample(beta, 2, nodeNamed('beta'));
});

async function verify(
  parts: Pick<Sample, 'archive' | 'sigstoreBundle'>,
  enrolment: EnrolmentRecord = older.enrolment,
): Promise<VerifyReport> {
  const report = await verifyBundle<EnrolmentRecord>(
    { ...parts, enrolment, trustedRoot: null, policy: defaultVerifyPolicy, allowBypassed: true },
    appraisers,
  );
  return report;
}
const failures = ({ claims }: VerifyReport) =>
  claims.flatMap(({ claim, result }) => (result === 'failed' ? [claim] : []));
const detailOf = ({ claims }: VerifyReport, name: string) =>
  claims.find(({ claim }) => claim === name)?.detail;

/** The newer archive again, with other content in some members; `relist` makes its manifest agree. */
async function repacked(
  name: string,
  replace: Readonly<Record<string, string>>,
  relist: boolean,
): Promise<Sample['archive']> {
  const staging = join(scratch, `${name}-staging`);
  cpSync(newer.staging, staging, { recursive: true });
  const original = await readArchive(newer.archive, defaultVerifyPolicy.limits, () => true);
  for (const { path, bytes = new Uint8Array() } of original.members.slice(1)) {
    mkdirSync(dirname(join(staging, path)), { recursive: true });
    const from = original.members.find((member) => member.path === replace[path]);
    writeFileSync(join(staging, path), from?.bytes ?? bytes);
  }
  const listed = (file: Manifest['files'][number]) => {
    const from = newer.manifest.files.find(({ path }) => path === replace[file.path]) ?? file;
    return relist ? { ...file, size: from.size, sha256: from.sha256 } : file;
  };
  const manifest = { ...newer.manifest, files: newer.manifest.files.map(listed) };
  const path = join(scratch, `${name}.tar.gz`);
  await packBundle(staging, manifest, path);
  return new Uint8Array(readFileSync(path));
}

describe('what is genuine', () => {
  it('fails in nothing', async () => {
    expect(failures(await verify(older))).toEqual([]);
    expect(failures(await verify(newer))).toEqual([]);
    expect(failures(await verify(ofBeta, { ...ofBeta.enrolment, node: 'beta' }))).toEqual(['TPM identity']);
  });

  it('and repacked as it was, is the same archive', async () => {
    expect(Buffer.compare(await repacked('same', {}, false), newer.archive)).toBe(0);
  });
});

describe('members that are exchanged', () => {
  const swap = {
    'host/hosts.txt': 'evidence/eventlog.bin',
    'evidence/eventlog.bin': 'host/hosts.txt',
  };

  it('under the same manifest are rejected by manifest and archive integrity', async () => {
    const archive = await repacked('swapped', swap, false);
    const report = await verify({ archive, sigstoreBundle: newer.sigstoreBundle });
    expect(failures(report)).toEqual(expect.arrayContaining(['archive integrity', 'manifest']));
    expect(detailOf(report, 'manifest')).toMatch(/bytes, the manifest says|SHA-256 of .* is not that of/);
  });

  it('under a manifest that was made to agree are rejected by both as well: the statement names the other', async () => {
    const archive = await repacked('relisted', swap, true);
    const report = await verify({ archive, sigstoreBundle: newer.sigstoreBundle });
    expect(failures(report)).toEqual(expect.arrayContaining(['archive integrity', 'manifest']));
    expect(detailOf(report, 'manifest')).toBe('The SHA-256 of the manifest is not the stated one.');
  });
});

describe('a statement that is signed anew', () => {
  it("with another enrolled node's key is rejected by signature", async () => {
    const forged = await sample(alpha, 3, { signer: beta.key });
    const report = await verify(forged);
    expect(failures(report)).toEqual(['signature']);
  });

  it("and held against that node's record, by manifest, TPM identity and quote: it is of neither", async () => {
    const forged = await sample(alpha, 4, { signer: beta.key });
    const report = await verify(forged, { ...ofBeta.enrolment, node: 'beta' });
    expect(failures(report)).toEqual(expect.arrayContaining(['manifest', 'TPM identity', 'quote']));
    expect(detailOf(report, 'manifest')).toMatch(/of node alpha, the enrolment of node beta/);
  });

  it("with the node's own key around an older quote is rejected by quote", async () => {
    const forged = await sample(alpha, 5, {
      predicate: (predicate) => ({ ...predicate, quote: older.predicate.quote }),
    });
    const report = await verify(forged);
    expect(failures(report)).toContain('quote');
    expect(detailOf(report, 'signature')).not.toMatch(/not/);
  });

  it('around older certifications of the counters is rejected by sequence', async () => {
    const forged = await sample(alpha, 6, {
      predicate: (predicate) => ({ ...predicate, nv: older.predicate.nv }),
    });
    expect(failures(await verify(forged))).toContain('sequence');
  });
});

describe("another archive's statement", () => {
  it('of the same node and key is rejected by archive integrity, manifest and quote', async () => {
    const report = await verify({ archive: newer.archive, sigstoreBundle: older.sigstoreBundle });
    expect(failures(report)).toEqual(expect.arrayContaining(['archive integrity', 'manifest', 'quote']));
    expect(detailOf(report, 'archive integrity')).toMatch(/the statement is about/);
  });

  it('of another node is rejected by signature too', async () => {
    const report = await verify({ archive: newer.archive, sigstoreBundle: ofBeta.sigstoreBundle });
    expect(failures(report)).toEqual(expect.arrayContaining(['archive integrity', 'signature']));
  });
});
