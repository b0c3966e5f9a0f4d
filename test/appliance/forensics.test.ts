// A bundle after it was made, in the hands of an examiner and of an auditor: opened, browsed, audited; in clear and encrypted.
import { spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import { parseStatement } from '../../src/attestation/statement.ts';
import { sigstoreName } from '../../src/forensics/format.ts';
import { importerMissing } from '../../src/journal/import.ts';
import { JournalWriter } from '../../src/journal/write.ts';
import { type Journald, journaldMissing, startJournald } from '../lab/journald.ts';
import { esoteric, esotericJson, esotericWords, type LabNode } from '../lab/node.ts';
import { SmallDisk } from '../lab/small-disk.ts';
import { labNode, refusalOf, Scratch, until } from './scene.ts';

const missing = journaldMissing();
describe.skipIf(missing !== undefined)(`a bundle at hand${missing ? ` (skipped: ${missing})` : ''}`, () => {
  const namespace = `ea-open-${randomBytes(4).toString('hex')}`;
  const scratch = new Scratch();
  const caseKey = scratch.at('case.key');
  const ageKey = scratch.at('age.key');
  let journald: Journald;
  let node: LabNode;
  let made: BundleMade;
  let journals: string;
  let recipient: string;
  beforeAll(async () => {
    writeFileSync(caseKey, randomBytes(32));
    const identity = await generateX25519Identity();
    recipient = await identityToRecipient(identity);
    writeFileSync(ageKey, `# a test\n${identity}\n`);
    journald = await startJournald(namespace);
    using writer = new JournalWriter({ namespace });
    for (const message of ['peer 10.9.8.7 is up', 'two\nlines of 10.9.8.7', 'quiet']) {
      writer.send({
        MESSAGE: message,
        SYSLOG_IDENTIFIER: 'ea-open',
        PRIORITY: message === 'quiet' ? '3' : '6',
      });
    }
    await journald.flush();
    journals = join(
      '/run/log/journal',
      readdirSync('/run/log/journal').find((name) => name.endsWith(namespace)) ?? '',
    );
    node = await labNode(scratch, 'examined', { configuration: `[forensics]\ncase_key = "${caseKey}"\n` });
    await node.ask(['provision']);
    const about = ['--case', 'case-7', '--examiner', 'E. Xaminer'];
    made = await node.ask<BundleMade>(['collect-forensics', '--namespace', namespace, ...about]);
  });
  afterAll(async () => {
    await node?.[Symbol.asyncDispose]();
    await journald?.stop();
    scratch[Symbol.dispose]();
  });

  const leftovers = () => readdirSync(tmpdir()).filter((name) => name.startsWith('esoteric-bundle-'));
  const open = async (...args: string[]) => {
    const before = leftovers();
    const { status, stdout, stderr } = await esoteric(['forensics', 'open', made.archive, ...args]);
    expect(leftovers()).toEqual(before);
    return { status, stderr, lines: stdout.toString().trimEnd().split('\n') };
  };

  it('is verified first, then told in a few lines without colour', async () => {
    const { status, lines } = await open();
    expect(status).toBe(0);
    expect(lines[0]).toMatch(/^Not all is proven: .*signature/);
    expect(lines.join('\n')).toMatch(/ {2}case +case-7\n {2}examiner +E\. Xaminer\n/);
    expect(lines.join('\n')).not.toContain('\u001b');
  });

  it('has its custody log and its journal in one timeline', async () => {
    const { lines } = await open('--timeline');
    const events = lines.slice(1);
    expect(events.map((line) => line.slice(0, 27))).toEqual(events.map((line) => line.slice(0, 27)).sort());
    const at = (text: string) => events.findIndex((line) => line.includes(text));
    expect(at('ea-open')).toBeGreaterThan(-1);
    expect(at('custody: provisioned')).toBeGreaterThan(at('quiet'));
    expect(events[at('two')]).toMatch(/: two lines of ‹ip:[0-9a-f]{8}›$/);
  });

  it('has of its timeline what is asked for', async () => {
    const { timeline } = await esotericJson<{ timeline: { time: string; source: string; text: string }[] }>([
      ...['forensics', 'open', made.archive, '--timeline'],
    ]);
    const quiet = timeline.find(({ text }) => text === 'quiet');
    const since = (await open('--timeline', '--since', quiet?.time ?? '')).lines.slice(1);
    expect(since).toHaveLength(timeline.filter(({ time }) => time >= (quiet?.time ?? '')).length);
    expect(since.some((line) => line.endsWith('quiet'))).toBe(true);
    const both = ['--timeline', '--until', quiet?.time ?? '', '--grep', '^peer|^quiet$|^custody$'];
    const narrow = (await open(...both)).lines.slice(1);
    expect(narrow.at(0)).toContain('peer ‹ip:');
    expect(narrow.at(-1)).toMatch(/: quiet$/);
    expect(narrow.some((line) => line.includes('two lines'))).toBe(false);
    for (const [wrong, told] of [
      [['--timeline', '--since', '2026-11-20T16:30'], 'is no time of a timeline'],
      [['--timeline', '--grep', '('], '--grep: Invalid regular expression'],
      [['--until', '2026-11-20'], 'are for --timeline'],
    ] as const)
      expect(await open(...wrong)).toMatchObject({ status: 2, stderr: expect.stringContaining(told) });
  });

  it('is held against what its examiner brings, as by verify', async () => {
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(scratch.at('enrollers.pem'), publicKey.export({ type: 'spki', format: 'pem' }));
    mkdirSync(scratch.at('cas'));
    const { dsseEnvelope } = JSON.parse(readFileSync(made.sigstore, 'utf8')) as {
      dsseEnvelope: { payload: string };
    };
    const { predicate } = parseStatement(Buffer.from(dsseEnvelope.payload, 'base64'));
    const { sequence, hash } = predicate.custodyHead;
    const given = [
      ...['--enrolment', join(node.stateDirectory, 'enrolment.json'), '--known-head', `${sequence}:${hash}`],
      ...['--enrolled-by', scratch.at('enrollers.pem')],
      ...['--identity', 'https://nodes.example/examined', '--issuer', 'https://issuer.example'],
    ];
    const { verification } = await esotericJson<{
      verification: { claims: { claim: string; result: string }[] };
    }>(['forensics', 'open', made.archive, ...given]);
    const verified = await esotericJson<{ claims: unknown[] }>(['verify', made.archive, ...given], {
      accept: [3],
    });
    expect(verification.claims).toEqual(verified.claims);
    expect(verification.claims).toContainEqual(
      expect.objectContaining({ claim: 'custody rollback', result: 'proven' }),
    );
    for (const [wrong, told] of [
      [['--ek-ca', scratch.at('cas')], 'cas'],
      [['--issuer', 'https://issuer.example'], 'belong together'],
    ] as const)
      expect(await open(...wrong)).toMatchObject({ status: 2, stderr: expect.stringContaining(told) });
  });

  it('shows what was replaced, and its members', async () => {
    const redactions = (await open('--redactions')).lines.join('\n');
    expect(redactions).toMatch(
      /journal\/entries\.export +ipv4-address +2 +redaction\/journal\/entries\.export\.jsonl/,
    );
    expect((await open('--files')).lines.join('\n')).toMatch(/custody\/custody\.jsonl +\d+ +[0-9a-f]{64} /);
  });

  it('is one JSON document on demand', async () => {
    const { manifest, verification, timeline } = await esotericJson<{
      manifest: { case: string; examiner: string; files: { path: string; canaries?: number }[] };
      verification: { verdict: string; claims: unknown[] };
      timeline: { source: string }[];
    }>(['forensics', 'open', made.archive, '--timeline']);
    expect(manifest).toMatchObject({ case: 'case-7', examiner: 'E. Xaminer' });
    expect(verification).toMatchObject({ verdict: 'incomplete' });
    expect(timeline.map(({ source }) => source)).toContain('custody');
    const planted = manifest.files.filter(({ canaries }) => (canaries ?? 0) > 0).map(({ path }) => path);
    expect(planted).toEqual(
      expect.arrayContaining(['journal/entries.export', 'host/processes.jsonl', 'host/mounts.txt']),
    );
  });

  it.skipIf(importerMissing() !== undefined)('has a journal that journalctl reads', async () => {
    const { lines } = await open('--journal', '--', '--output=cat', '-p', 'err', 'SYSLOG_IDENTIFIER=ea-open');
    expect(lines.slice(1)).toEqual(['quiet']);
    const { status, stderr } = await open('--journal', '--', '--no-such-option');
    expect([status, stderr]).toEqual([1, expect.stringContaining('no-such-option')]);
  });

  it('is left in a directory that is named, once', async () => {
    const directory = scratch.at('case-7');
    expect((await open('--directory', directory)).lines.at(-1)).toContain(directory);
    expect(existsSync(join(directory, 'journal/entries.export'))).toBe(true);
    expect(await open('--directory', directory)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('is not empty'),
    });
  });

  it('is not opened when it is not the stated archive', async () => {
    mkdirSync(scratch.at('altered'));
    const altered = scratch.at('altered', 'a.tar.gz');
    const bytes = readFileSync(made.archive);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(altered, bytes);
    copyFileSync(made.sigstore, sigstoreName(altered));
    const { status, stderr } = await esoteric(['forensics', 'open', altered]);
    expect([status, stderr]).toEqual([3, expect.stringContaining('is not opened')]);
  });

  describe('its audit', () => {
    const audit = (args: string[], accept?: number[]) =>
      esotericJson<{
        ok: boolean;
        members: { path: string; redactions: number; problems: string[] }[];
        notAudited: string[];
      }>(['forensics', 'audit', made.archive, ...args], accept === undefined ? {} : { accept });

    it('holds against the journal that it was made from', async () => {
      const report = await audit(['--case-key', caseKey, '--original', journals]);
      expect(report).toMatchObject({ ok: true, members: [{ path: 'journal/entries.export', problems: [] }] });
      expect(report.members[0]?.redactions).toBeGreaterThanOrEqual(2);
      expect(report.notAudited).toContain('host/processes.jsonl');
    });

    it('does not hold against another original', async () => {
      const original = scratch.at('mounts.txt');
      writeFileSync(original, 'another\n');
      const args = ['--case-key', caseKey, '--original', original, '--member', 'host/mounts.txt'];
      expect(await audit(args, [3])).toMatchObject({ ok: false, members: [{ path: 'host/mounts.txt' }] });
    });

    it('refuses another key, or a file that is none', async () => {
      const other = scratch.at('other.key');
      writeFileSync(other, randomBytes(32));
      const refusal = async (key: string) => {
        const { status, stderr } = await esoteric([
          'forensics',
          'audit',
          made.archive,
          '--case-key',
          key,
          '--original',
          journals,
        ]);
        return [status, stderr];
      };
      expect(await refusal(other)).toEqual([3, expect.stringContaining('not the key under which')]);
      expect(await refusal(ageKey)).toEqual([2, expect.stringContaining('expected 32')]);
    });

    it('is under a key of its own where the case brings one', async () => {
      const own = scratch.at('of-this-case.key');
      writeFileSync(own, randomBytes(32));
      const collect = ['collect-forensics', '--namespace', namespace, '--case-key', own];
      const { archive } = await node.ask<BundleMade>(collect);
      const detailUnder = async (key: string) => {
        const words = ['verify', archive, '--case-key', key];
        const report = await esotericJson<{ claims: { claim: string; detail: string }[] }>(words, {
          accept: [3],
        });
        return report.claims.find(({ claim }) => claim === 'redaction')?.detail;
      };
      expect(await detailUnder(own)).toMatch(/^All \d+ redactions in \d+ files are recorded/);
      expect(await detailUnder(caseKey)).not.toMatch(/^All/);
      rmSync(own);
      expect((await refusalOf([...collect, ...node.arguments])).code).toBe('case-key-unreadable');
    });

    it('is part of what verify proves with the key', async () => {
      const report = await esotericJson<{ claims: { claim: string; detail: string }[] }>(
        ['verify', made.archive, '--case-key', caseKey],
        { accept: [3] },
      );
      const { detail } = report.claims.find(({ claim }) => claim === 'redaction') ?? {};
      expect(detail).toMatch(/^All \d+ redactions in \d+ files are recorded/);
    });
  });

  describe('encrypted', () => {
    const bundles = () => readdirSync(join(node.stateDirectory, 'bundles'));
    const collect = ['collect-forensics', '--namespace', namespace, '--recipient'];
    let secret: BundleMade;
    beforeAll(async () => {
      secret = await node.ask<BundleMade>([...collect, recipient]);
    });

    it('leaves nothing in clear, and names the digest of the archive in it', async () => {
      expect(secret).toMatchObject({ archive: expect.stringMatching(/\.tar\.gz\.age$/), recipients: 1 });
      expect(bundles().filter((name) => name.startsWith('.'))).toEqual([]);
      const stem = secret.archive.slice(secret.archive.lastIndexOf('/') + 1, -'.age'.length);
      expect(
        bundles()
          .filter((name) => name.startsWith(stem))
          .sort(),
      ).toEqual([`${stem}.age`, `${stem}.sigstore.json`]);
      expect(readFileSync(secret.sigstore, 'utf8')).not.toContain('.age');
    });

    it('is verified with an identity; without, says what cannot be proven and why', async () => {
      const verify = async (...args: string[]) => {
        const { claims } = await esotericJson<{
          claims: { claim: string; result: string; detail: string }[];
        }>(['verify', secret.archive, ...args], { accept: [3] });
        return Object.fromEntries(claims.map(({ claim, result, detail }) => [claim, `${result}: ${detail}`]));
      };
      const opened = await verify('--age-identity', ageKey);
      expect(opened.manifest).toMatch(/^not-proven: All \d+ files are as the manifest lists them/);
      const closed = await verify();
      for (const claim of ['archive integrity', 'manifest', 'custody chain', 'redaction']) {
        expect(closed[claim]).toMatch(/^not-proven: .*--age-identity/);
      }
      expect(closed.signature).toMatch(
        /^not-proven: Nobody signed this bundle: TPM or Sigstore were bypassed/,
      );
    });

    it('is opened with an identity, and not without', async () => {
      const { status, stdout } = await esoteric([
        'forensics',
        'open',
        secret.archive,
        '--age-identity',
        ageKey,
      ]);
      expect([status, stdout.toString()]).toEqual([0, expect.stringMatching(/members +\d+/)]);
      const without = await esoteric(['forensics', 'open', secret.archive]);
      expect([without.status, without.stderr]).toEqual([3, expect.stringContaining('--age-identity')]);
    });

    it.each([
      ['--upload', 's3://bucket/x?retian=7y', '"retian" is not a known parameter'],
      ['--upload', 'http://bucket/x', 'http:// is not supported'],
      ['--output', '/dev/null/evidence', 'Nothing can be left in /dev/null/evidence'],
      ['--output', '/proc/new/evidence', 'Nothing can be left in /proc/new/evidence'],
    ])('is refused before anything is collected for %s %s', async (option, value, why) => {
      const before = bundles();
      const words = [...collect, recipient, option, value, ...node.arguments];
      const { status, stderr } = await esoteric(words);
      expect([status, stderr]).toEqual([2, expect.stringContaining(why)]);
      expect(bundles()).toEqual(before);
    });

    it('is kept, and said to be, where its copy cannot be made', async () => {
      await using disk = await SmallDisk.create(scratch.at('too small'), 16 << 10);
      const words = [...collect, recipient, '--output', disk.path, ...node.arguments];
      const { status, stderr } = await esoteric(words);
      const [, archive = ''] = /^kept {3}It lies in the state directory: (\S+\.age) and /m.exec(stderr) ?? [];
      expect([status, stderr]).toEqual([1, expect.stringContaining('The bundle is made, but not copied')]);
      expect([existsSync(archive), readdirSync(disk.path)]).toEqual([true, []]);
    });

    it('is refused before anything is collected for what is no recipient', async () => {
      const before = bundles();
      const { status, stderr } = await esoteric([...collect, 'age1nonsense', ...node.arguments]);
      expect([status, stderr]).toEqual([2, expect.stringContaining('is no age recipient')]);
      expect(bundles()).toEqual(before);
    });

    const inClear = () => bundles().filter((name) => name.startsWith('.encrypting-'));
    const endedAmid = async (signal: NodeJS.Signals) => {
      const [program = '', ...words] = esotericWords([...collect, recipient, ...node.arguments]);
      const child = spawn(program, words, { stdio: 'ignore' });
      await until('a directory to collect in', () => (inClear().length > 0 ? true : undefined));
      child.kill(signal);
      return (await once(child, 'exit'))[1];
    };

    it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
      'leaves nothing in clear where its making is ended by %s',
      async (signal) => {
        expect(await endedAmid(signal)).toBe(signal);
        expect(inClear()).toEqual([]);
      },
    );

    it('leaves nothing in clear where its making was killed, from the next start on', async () => {
      await endedAmid('SIGKILL');
      expect(inClear()).toHaveLength(1);
      await node.ask<BundleMade>([...collect, recipient]);
      expect(bundles().filter((name) => name.startsWith('.'))).toEqual([]);
    });
  });
});
