import { execFileSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SpooledJob } from '../../src/alerts/job.ts';
import { dropJob, takeJobs } from '../../src/alerts/spool.ts';
import { Failure } from '../../src/host/failure.ts';
import { sampleAlert } from './sample.ts';

const job = (key = 'alpha-000012'): SpooledJob => ({ kind: 'alert', alert: sampleAlert({ key }) });
const isRoot = process.geteuid?.() === 0;

let spool: string;
beforeEach(() => {
  spool = mkdtempSync(join(tmpdir(), 'ea-spool-'));
});
afterEach(() => rmSync(spool, { recursive: true }));

describe('the spool', () => {
  it('gives jobs in the order they were dropped, and forgets each only when it is done', () => {
    const bundle: SpooledJob = {
      kind: 'bundle',
      key: 'alpha-000003',
      payload: { files: ['/a'], upload: 's3://b' },
    };
    dropJob(spool, job('z-1'), () => 5);
    dropJob(spool, bundle, () => 5);
    dropJob(spool, job('a-1'), () => 6);
    const taken = takeJobs(spool);
    expect(taken.map((each) => each.job)).toEqual([job('z-1'), bundle, job('a-1')]);
    taken[0]?.done();
    taken[0]?.done();
    expect(takeJobs(spool).map((each) => each.job)).toEqual([bundle, job('a-1')]);
  });

  it('leaves no half-written file, and clears those of a process that was killed long ago', () => {
    dropJob(spool, job());
    expect(readdirSync(spool)).toHaveLength(1);
    const old = join(spool, '.000-alert-x.json.new');
    const fresh = join(spool, '.001-alert-x.json.new');
    writeFileSync(old, '{');
    writeFileSync(fresh, '{');
    utimesSync(old, 1, 1);
    expect(takeJobs(spool)).toHaveLength(1);
    expect([existsSync(old), existsSync(fresh)]).toEqual([false, true]);
  });

  it.skipIf(!isRoot)(
    `hands a job of root to the owner of the directory${isRoot ? '' : ' (skipped: needs root)'}`,
    () => {
      chownSync(spool, 65534, 65534);
      dropJob(spool, job());
      const stat = statSync(join(spool, readdirSync(spool)[0] ?? ''));
      expect([stat.uid, stat.gid, stat.mode & 0o777]).toEqual([65534, 65534, 0o640]);
    },
  );

  it('moves what is no job aside, says why, and goes on', () => {
    dropJob(spool, job());
    writeFileSync(join(spool, '0-torn.json'), '{"kind":"alert"');
    writeFileSync(join(spool, '1-strange.json'), JSON.stringify({ kind: 'alert', alert: { key: '../x' } }));
    writeFileSync(join(spool, '2-huge.json'), '');
    truncateSync(join(spool, '2-huge.json'), 2 << 20);
    symlinkSync('/etc/passwd', join(spool, '3-link.json'));
    mkdirSync(join(spool, '4-directory.json'));
    const told: Record<string, string> = {};
    expect(
      takeJobs(spool, (file, reason) => {
        told[file] = reason;
      }),
    ).toHaveLength(1);
    expect(told['1-strange.json']).toContain('alert.key');
    expect(told['2-huge.json']).toContain('larger');
    expect(Object.keys(told)).toHaveLength(5);
    expect(readdirSync(join(spool, 'rejected')).sort()).toEqual(Object.keys(told).sort());
    expect(readFileSync(join(spool, 'rejected', '0-torn.json'), 'utf8')).toBe('{"kind":"alert"');
    expect(takeJobs(spool)).toHaveLength(1);
  });

  it('waits for nothing and follows nothing: a FIFO under the name of a job is moved aside', () => {
    execFileSync('mkfifo', [join(spool, '0-fifo.json')]);
    const told: string[] = [];
    expect(takeJobs(spool, (_, reason) => told.push(reason))).toEqual([]);
    expect(told).toEqual(['It is not a regular file.']);
    expect(readdirSync(join(spool, 'rejected'))).toEqual(['0-fifo.json']);
  });

  it('takes nothing for a job but jobs, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
        writeFileSync(join(spool, 'x.json'), text);
        expect(takeJobs(spool)).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  it('refuses to drop a job that could not be taken', () => {
    const malformed = [
      job('../../etc/passwd'),
      { kind: 'alert', alert: sampleAlert({ time: 'yesterday' }) },
      { kind: 'bundle', key: 'k', payload: 'x'.repeat(2 << 20) },
    ] as SpooledJob[];
    for (const each of malformed) {
      expect(() => dropJob(spool, each)).toThrow(expect.objectContaining({ code: 'job-malformed' }));
    }
    expect(readdirSync(spool)).toEqual([]);
  });

  it('says what to do when the directory is missing', () => {
    const absent = join(spool, 'absent');
    expect(() => dropJob(absent, job())).toThrow(Failure);
    expect(() => takeJobs(absent)).toThrow(Failure);
  });
});
