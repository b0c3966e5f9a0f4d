// Every byte of a `.sigstore.json`, changed once, through the function by which `verify` reads and appraises it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { parseEvidenceJson } from '../../src/appliance/verify.ts';
import { verifySigstoreBundle } from '../../src/attestation/sigstore-verify.ts';
import { makeSample } from './sample.ts';

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
