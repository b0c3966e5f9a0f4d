// Every byte of a `.sigstore.json`, changed once, through the function by which `verify` reads and appraises it; and every length of it.
// That of a countersigned bundle: test/attestation/sigstore-forgery.test.ts.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parseEvidenceJson } from '../../src/appliance/verify.ts';
import { verifySigstoreBundle } from '../../src/attestation/sigstore-verify.ts';
import { sigstoreName } from '../../src/forensics/format.ts';
import { verifyBundle } from '../../src/forensics/verify.ts';
import { defaultVerifyPolicy } from '../../src/forensics/verify-policy.ts';
import { esoteric } from '../lab/node.ts';
import { appraisers, makeSample } from './sample.ts';

it('a signature file with any byte changed is rejected', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-statement-bytes-'));
  try {
    const sample = await makeSample(directory);
    const text = Buffer.from(`${JSON.stringify(sample.sigstoreBundle)}\n`);
    const appraise = (bytes: Buffer) =>
      verifySigstoreBundle({
        bundle: parseEvidenceJson(bytes.toString('utf8')),
        archiveSha256: sample.packed.sha256,
        trustedRoot: null,
        publicKeyPem: sample.publicKeyPem,
        identity: null,
        standIns: [],
      }).claims.signature.result;
    expect(appraise(text)).toBe('proven');
    const passed: string[] = [];
    for (let at = 0; at < text.length; at += 1) {
      const changed = Buffer.from(text);
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 7));
      if (appraise(changed) !== 'failed')
        passed.push(`${at}: ${changed.subarray(Math.max(0, at - 20), at + 5)}`);
    }
    // The newline at the end is the one byte that says nothing: another white space may stand for it.
    expect(passed.filter((line) => !line.startsWith(`${text.length - 1}:`))).toEqual([]);
  } finally {
    rmSync(directory, { recursive: true });
  }
}, 120_000);

it('a signature file that is cut off, wherever, is rejected in one sentence', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-statement-bytes-'));
  try {
    const { path, archive, enrolment, sigstoreBundle } = await makeSample(directory);
    const text = JSON.stringify(sigstoreBundle);
    const sentence = /^The signed statement \(\.sigstore\.json\) is not JSON: [^\n]+\.$/;
    for (let length = 0; length < text.length; length += 1)
      expect(parseEvidenceJson(text.slice(0, length)), `${length} bytes`).toMatchObject({
        message: expect.stringMatching(sentence),
      });
    const { verdict, claims } = await verifyBundle(
      {
        archive,
        enrolment,
        sigstoreBundle: parseEvidenceJson(text.slice(0, -1)),
        trustedRoot: null,
        policy: defaultVerifyPolicy,
        allowBypassed: true,
      },
      appraisers,
    );
    expect(verdict).toBe('rejected');
    expect(claims.filter(({ result }) => result === 'failed')).toMatchObject([
      { claim: 'signature', detail: expect.stringMatching(sentence) },
    ]);
    for (const length of [0, 1, text.length >> 1, text.length - 1]) {
      writeFileSync(sigstoreName(path), text.slice(0, length));
      const { status, stdout, stderr } = await esoteric(['verify', path]);
      expect([status, stderr], `${length} bytes`).toEqual([3, '']);
      expect(stdout.toString()).toMatch(/signature +FAILED +The signed statement .* is not JSON/);
      expect(stdout.toString()).not.toMatch(/\n\s+at /);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
}, 120_000);
