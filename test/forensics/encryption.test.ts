// Archives for age recipients: readable by whoever holds an identity, here and with age itself, and by nobody else.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterEach, beforeEach, describe, expect, it, type TestContext } from 'vitest';
import { decrypted, encrypted, isEncrypted, requireRecipients } from '../../src/forensics/encryption.ts';
import { bundleFormat, type Manifest, sha256, sigstoreName } from '../../src/forensics/format.ts';
import { packBundle } from '../../src/forensics/pack.ts';
import { removeAbandoned, WorkingDirectory } from '../../src/forensics/working-directory.ts';
import { runChild } from '../../src/host/child.ts';

let directory: string;
let identity: string;
let recipient: string;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ea-age-'));
  identity = await generateX25519Identity();
  recipient = await identityToRecipient(identity);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const at = (...names: string[]) => join(directory, ...names);
async function* pieces(bytes: Uint8Array, size = 65_536) {
  for (let from = 0; from < bytes.length; from += size) yield bytes.subarray(from, from + size);
}
async function all(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
const manifest: Manifest = {
  format: bundleFormat,
  node: 'alpha',
  sequence: 1,
  created: '2026-11-20T16:30:00Z',
  reason: 'a test',
  assurance: { tpm: 'bypassed', sigstore: 'bypassed', standIns: [], notes: [] },
  files: [
    {
      path: 'a.txt',
      size: 3_000_000,
      sha256: sha256('a'.repeat(3_000_000)),
      source: 'a test',
      redactions: [],
    },
  ],
  collectors: [],
  redaction: null,
};
async function pack(out: string, recipients: string[]) {
  mkdirSync(at('staging'), { recursive: true });
  writeFileSync(at('staging/a.txt'), 'a'.repeat(3_000_000));
  return await packBundle(at('staging'), manifest, out, recipients);
}

describe('an encrypted archive', () => {
  it('has the digest of the archive in it, which each of its recipients can read', async () => {
    const other = await generateX25519Identity();
    const clear = await pack(at('a.tar.gz'), []);
    const secret = await pack(at('b.tar.gz.age'), [recipient, await identityToRecipient(other)]);
    expect(secret.sha256).toBe(clear.sha256);
    const cipher = readFileSync(at('b.tar.gz.age'));
    expect([secret.size, secret.fileSha256]).toEqual([cipher.length, sha256(cipher)]);
    expect(clear.fileSha256).toBe(clear.sha256);
    expect(isEncrypted(at('b.tar.gz.age'))).toBe(true);
    expect(isEncrypted(at('a.tar.gz'))).toBe(false);
    for (const one of [identity, other]) {
      const plain = await all(decrypted(`# created by age-keygen\n${one}\n`, pieces(cipher)));
      expect(plain.equals(readFileSync(at('a.tar.gz')))).toBe(true);
    }
    expect(readdirSync(directory).sort()).toEqual(['a.tar.gz', 'b.tar.gz.age', 'staging']);
  });

  it('has the signature file of the archive in it', () => {
    expect(sigstoreName('x.tar.gz.age')).toBe('x.tar.gz.sigstore.json');
  });

  it('opens for no other identity, and not when a byte of it was changed or its end is missing', async () => {
    const cipher = await all(encrypted([recipient], pieces(Buffer.alloc(200_000, 7))));
    const refused = (text: string, bytes: Uint8Array) =>
      expect(all(decrypted(text, pieces(bytes)))).rejects.toMatchObject({
        code: 'archive-encrypted',
        status: 3,
      });
    await refused(await generateX25519Identity(), cipher);
    await refused(identity, cipher.subarray(0, -1));
    await refused(identity, cipher.subarray(0, 150_000));
    for (const place of [30, 150, 1000, cipher.length - 1]) {
      const changed = Buffer.from(cipher);
      changed[place] = (changed[place] ?? 0) ^ 1;
      await refused(identity, changed);
    }
  });

  it('is made and read at the pace of its reader, so that it need not fit into memory', async () => {
    const block = Buffer.alloc(1 << 18, 7);
    let given = 0;
    async function* large() {
      for (let n = 0; n < 64; n += 1) {
        given += block.length;
        yield block;
      }
    }
    let size = 0;
    let furthest = 0;
    for await (const chunk of decrypted(identity, encrypted([recipient], large()))) {
      size += chunk.length;
      furthest = Math.max(furthest, given - size);
    }
    expect(size).toBe(16 << 20);
    expect(furthest).toBeLessThan(4 << 20);
  });

  it('is not opened where its header asks for more work than any honest one', async () => {
    const madeFor = (count: number) =>
      all(encrypted(Array<string>(count).fill(recipient), pieces(Buffer.from('plain'))));
    const cipher = await madeFor(100);
    expect((await all(decrypted(identity, pieces(cipher)))).toString()).toBe('plain');
    const first = 'age-encryption.org/v1\n';
    const stanza = `-> X25519 ${'A'.repeat(43)}\n${'A'.repeat(43)}\n`;
    const flood = Buffer.concat([Buffer.from(first + stanza.repeat(10_000)), cipher.subarray(first.length)]);
    await expect(all(decrypted(identity, pieces(flood)))).rejects.toMatchObject({
      code: 'archive-encrypted',
      message: expect.stringContaining('its header is larger'),
    });
    await expect(madeFor(101)).rejects.toMatchObject({ code: 'recipient-invalid', status: 2 });
  });

  it('is refused, before anything else, for what is no recipient', async () => {
    const wrong = recipient.slice(0, -1) + (recipient.endsWith('q') ? 'p' : 'q');
    for (const text of ['age1', wrong, 'ssh-ed25519 AAAA']) {
      await expect(requireRecipients([recipient, text])).rejects.toMatchObject({
        code: 'recipient-invalid',
        status: 2,
      });
    }
  });

  it('wants identities that are some', async () => {
    for (const text of ['', '# nothing\n', 'AGE-SECRET-KEY-1QQQQ', recipient]) {
      await expect(all(decrypted(text, pieces(Buffer.from('x'))))).rejects.toMatchObject({
        code: 'identity-invalid',
        status: 2,
      });
    }
  });
});

describe('age itself', () => {
  const age = async (context: TestContext, args: string[]) => {
    const result = await runChild('age', args).catch(() => undefined);
    context.skip(result === undefined, 'age is not installed');
    expect(result?.stderr).toBe('');
  };

  it('reads what was encrypted here', async (context) => {
    writeFileSync(at('key'), `${identity}\n`, { mode: 0o600 });
    await pack(at('b.tar.gz.age'), [recipient]);
    await age(context, ['--decrypt', '-i', at('key'), '-o', at('b.tar.gz'), at('b.tar.gz.age')]);
    const { sha256: digest } = await pack(at('a.tar.gz'), []);
    expect(sha256(readFileSync(at('b.tar.gz')))).toBe(digest);
  });

  it('makes what is read here', async (context) => {
    writeFileSync(at('plain'), Buffer.alloc(200_000, 3));
    await age(context, ['-r', recipient, '-o', at('cipher'), at('plain')]);
    const plain = await all(decrypted(identity, pieces(readFileSync(at('cipher')))));
    expect(plain.equals(readFileSync(at('plain')))).toBe(true);
  });
});

describe('what lies in clear meanwhile', () => {
  it('goes however the making ends, and after a kill at the next start', () => {
    const making = () => {
      using working = new WorkingDirectory(directory, 3, true);
      writeFileSync(join(working.path, 'secret'), 'x');
      throw new Error('failed');
    };
    expect(making).toThrow('failed');
    expect(readdirSync(directory)).toEqual([]);
    const killed = new WorkingDirectory(directory, 4, true);
    writeFileSync(join(killed.path, 'secret'), 'x');
    writeFileSync(at('alpha-000004-20261120T163000Z.tar.gz.age.4711.new'), 'x');
    writeFileSync(at('alpha-000003-20261120T163000Z.tar.gz.age'), 'kept');
    removeAbandoned(directory);
    expect(readdirSync(directory)).toEqual(['alpha-000003-20261120T163000Z.tar.gz.age']);
  });

  it('has no name, so that nothing stays of it after a kill', async () => {
    const modules = ['working-directory', 'member-file'].map((name) =>
      JSON.stringify(join(import.meta.dirname, `../../src/forensics/${name}.ts`)),
    );
    const program = `
      const { WorkingDirectory } = await import(${modules[0]});
      const { MemberFile } = await import(${modules[1]});
      const working = new WorkingDirectory(${JSON.stringify(directory)}, 5, true);
      const member = new MemberFile(working, 'host/secret.txt');
      const plain = Buffer.from('a secret of the host');
      const { deflateRawSync, constants } = await import('node:zlib');
      const piece = { plain, deflated: deflateRawSync(plain, { finishFlush: constants.Z_SYNC_FLUSH }) };
      member.write(piece);
      member.keep(piece);
      member.finish({ source: 'a test', redactions: [] }, true);
      console.log('written');
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    const path = join(directory, '.encrypting-5/host/secret.txt.gz');
    expect(gunzipSync(readFileSync(path)).toString()).toBe('a secret of the host');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const left = readdirSync(directory, { recursive: true, withFileTypes: true });
    expect(left.filter((entry) => entry.isFile()).map(({ name }) => name)).toEqual([]);
    expect(existsSync(path)).toBe(false);
    removeAbandoned(directory);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('stays where a bundle fails for whoever has to find out why, the last of them, unless it was to be encrypted', () => {
    for (const [sequence, secret] of [
      [2, false],
      [3, false],
      [4, true],
    ] as const) {
      using working = new WorkingDirectory(directory, sequence, secret);
      writeFileSync(join(working.path, 'a'), 'x');
      working.keep();
    }
    removeAbandoned(directory);
    expect(readdirSync(directory)).toEqual(['.collecting-3']);
  });
});
