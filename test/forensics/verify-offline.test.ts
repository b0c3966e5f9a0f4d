// `verify` in a network namespace without any interface: it says there what it says elsewhere.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { countersign } from '../../src/attestation/countersign.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import { sigstoreName } from '../../src/forensics/format.ts';
import { runChild } from '../../src/host/child.ts';
import { startSigstore } from '../lab/sigstore.ts';
import { caseKey, makeSample, subject } from './sample.ts';

const missing = spawnSync('unshare', ['--net', 'true']).status === 0 ? undefined : 'needs root';
const main = resolve(import.meta.dirname, '../../src/cli/main.ts');
const node = [process.execPath, '--disable-warning=ExperimentalWarning'];

describe.skipIf(missing !== undefined)(`without network${missing ? ` (skipped: ${missing})` : ''}`, () => {
  const scratch = mkdtempSync(join(tmpdir(), 'ea-verify-offline-'));
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  it('a countersigned bundle is verified as with one, and by the root that the program brings too', async () => {
    await using services = await startSigstore();
    const sample = await makeSample(scratch);
    const signed = await countersign({
      bundle: sample.sigstoreBundle,
      publicKeyPem: sample.publicKeyPem,
      proofOfPossession: sample.proofOfPossession,
      services,
      identityToken: services.identityToken(subject),
      timeoutMilliseconds: 5000,
    });
    const file = (name: string, content: string | Uint8Array): string => {
      writeFileSync(join(scratch, name), content);
      return join(scratch, name);
    };
    writeFileSync(sigstoreName(sample.path), JSON.stringify(signed));
    const given = [
      ...['verify', sample.path, '--json', '--identity', subject, '--issuer', services.issuer],
      ...['--enrolment', file('alpha.json', JSON.stringify(sample.enrolment))],
      ...['--case-key', file('case.key', caseKey)],
    ];
    const ownRoot = ['--trusted-root', file('root.json', JSON.stringify(services.trustedRoot))];
    const run = async (words: string[]) => {
      const { status, stdout, stderr } = await runChild(words[0] ?? '', words.slice(1), {
        timeoutMilliseconds: 30_000,
      });
      return { status, stdout: stdout.toString(), stderr };
    };
    const offline = (...words: string[]) => run(['unshare', '--net', ...node, ...words]);
    const interfaces = await offline('-p', 'JSON.stringify(os.networkInterfaces())');
    expect(interfaces.stdout).toBe('{}\n');

    for (const root of [ownRoot, []]) {
      const there = await offline(main, ...given, ...root);
      expect(there).toEqual(await run([...node, main, ...given, ...root]));
      const { claims } = JSON.parse(there.stdout) as VerifyReport;
      const of = (name: string) => claims.find(({ claim }) => claim === name)?.result;
      expect(of('signature')).toBe('proven');
      expect(of('signer identity')).toBe(root.length === 0 ? 'failed' : 'proven');
      expect(of('transparency')).toBe(root.length === 0 ? 'failed' : 'proven');
    }
  }, 120_000);
});
