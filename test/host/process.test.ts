import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { requireChild } from '../../src/host/child.ts';
import { Failure, reasonOf, zeroizedFailure } from '../../src/host/failure.ts';
import { close, errnoName } from '../../src/host/libc.ts';
import { holdLock } from '../../src/host/lock.ts';
import { endProcess, openProcess } from '../../src/host/pidfd.ts';
import { findUser } from '../../src/host/privileges.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-process-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const source = (name: string): string =>
  JSON.stringify(new URL(`../../src/host/${name}.ts`, import.meta.url).href);

/** Runs a module's text in a process of its own and returns what it printed. */
async function told(program: string): Promise<string> {
  const { stdout } = await requireChild(process.execPath, ['--input-type=module', '--eval', program]);
  return stdout.toString().trim();
}

describe('a lock', () => {
  it('has one holder, whose process is named to the second', () => {
    const path = join(directory, 'one.lock');
    {
      using _held = holdLock(path, 'The state directory');
      expect(() => holdLock(path, 'The state directory')).toThrow(
        expect.objectContaining({
          code: 'state-in-use',
          message: `The state directory is in use by process ${process.pid}.`,
          kept: 'Nothing was touched.',
        }),
      );
    }
    using _again = holdLock(path, 'The state directory');
    expect(readFileSync(path, 'utf8')).toBe(`${process.pid}\n`);
  });

  it('says so when its holder has not written its number yet', () => {
    const path = join(directory, 'unnamed.lock');
    using _held = holdLock(path, 'It');
    writeFileSync(path, '');
    expect(() => holdLock(path, 'It')).toThrow('It is in use by process unknown.');
  });

  it('is held against another process, and free again as soon as that is killed', async () => {
    const path = join(directory, 'killed.lock');
    const program = `
      const { holdLock } = await import(${source('lock')});
      globalThis.held = holdLock(${JSON.stringify(path)}, 'It');
      process.stdout.write('held');
      setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    expect(() => holdLock(path, 'It')).toThrow(`It is in use by process ${holder.pid}.`);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    using _mine = holdLock(path, 'It');
  });
});

describe('a process held by descriptor', () => {
  it('is ended at once, and ending it again is no failure', async () => {
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    const pidfd = openProcess(child.pid ?? 0);
    expect(endProcess(pidfd)).toBe(true);
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(endProcess(pidfd)).toBe(true);
    close(pidfd);
  });

  it('is a failure when there is no such process, and when the descriptor is none', () => {
    expect(() => openProcess(0x3fff_ffff)).toThrow(expect.objectContaining({ code: 'process-gone' }));
    expect(endProcess(1_000_000)).toBe(false);
  });
});

describe('this process', () => {
  it('makes no core dumps and cannot be read by others of its user, once hardened', async () => {
    const [before, failed, limits = '', after] = (
      await told(`
        import { readFileSync } from 'node:fs';
        const { hardenProcess } = await import(${source('hardening')});
        const { prctl } = await import(${source('libc')});
        const PR_GET_DUMPABLE = 3;
        console.log(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
        console.log(JSON.stringify(hardenProcess()));
        console.log(/^Max core file size.*$/m.exec(readFileSync('/proc/self/limits', 'utf8'))[0]);
        console.log(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));`)
    ).split('\n');
    expect([before, after]).toEqual(['1', '0']);
    expect(failed).toBe('[]');
    expect(limits.split(/\s{2,}/).slice(1, 3)).toEqual(['0', '0']);
  });

  it('gives up root for good: user, groups, and set-user-id programs', async () => {
    const [ids, privileges, again] = (
      await told(`
        import { readFileSync } from 'node:fs';
        const { becomeUser, findUser } = await import(${source('privileges')});
        becomeUser(findUser('nobody'));
        becomeUser(findUser('nobody'));
        console.log([process.getuid(), process.geteuid(), process.getgid(), ...process.getgroups()].join());
        console.log(/^NoNewPrivs:.*$/m.exec(readFileSync('/proc/self/status', 'utf8'))[0]);
        try { process.setuid(0); console.log('root again'); } catch (error) { console.log(error.code); }`)
    ).split('\n');
    const { uid, gid } = findUser('nobody');
    expect(ids).toBe([uid, uid, gid, gid].join());
    expect(privileges).toMatch(/1$/);
    expect(again).toBe('EPERM');
  });

  it('names a user that this machine does not have as wrong usage', () => {
    expect(() => findUser('ea-nobody-here')).toThrow(
      expect.objectContaining({ code: 'user-unknown', status: 2 }),
    );
    expect(findUser('root')).toEqual({ name: 'root', uid: 0, gid: 0, home: '/root' });
  });
});

describe('a failure', () => {
  it('says what happened, what is kept and what to do, and nothing else, as JSON', () => {
    const cause = new Error('inner');
    const full = new Failure('code', 'Sentence.', { kept: 'Kept.', remedy: 'Do.', cause, status: 2 });
    expect(JSON.parse(JSON.stringify(full))).toEqual({
      code: 'code',
      message: 'Sentence.',
      kept: 'Kept.',
      remedy: 'Do.',
    });
    expect(full).toMatchObject({ status: 2, cause });
    expect(JSON.parse(JSON.stringify(new Failure('c', 'S.')))).toEqual({ code: 'c', message: 'S.' });
    expect(new Failure('c', 'S.')).toMatchObject({ status: 1, kept: undefined });
    expect(zeroizedFailure('Output')).toMatchObject({ status: 4, code: 'zeroized' });
    expect(reasonOf(cause)).toBe('inner');
    expect(reasonOf('thrown text')).toBe('thrown text');
  });

  it('names error numbers as errno(3) does', () => {
    expect(errnoName(2)).toBe('ENOENT');
    expect(errnoName(4242)).toBe('errno 4242');
  });
});
