import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { hitsIn, memoryHits, needlesOf } from './memory-search.ts';

describe('the search for secrets in memory', () => {
  // FIPS 197, appendix A.3: the last round key of this AES-256 key.
  const key = Buffer.from('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4', 'hex');

  it('knows the schedule of a key as the standard gives it', () => {
    const last = Buffer.from('fe4890d1e6188d0b046df344706c631e', 'hex');
    expect(hitsIn(last, needlesOf('key', key)).get('key as an AES-256 schedule')).toBe(3);
    const short = Buffer.from('2b7e151628aed2a6abf7158809cf4f3c', 'hex');
    const end = Buffer.from('d014f9a8c9ee2589e13f0cc8b6630ca6', 'hex');
    expect(hitsIn(end, needlesOf('key', short)).get('key as an AES-128 schedule')).toBe(3);
  });

  it('finds each form in the memory of another process, and nothing where there is nothing', async () => {
    const secret = randomBytes(32);
    const needles = needlesOf('planted', secret);
    // In the other process the forms are made from a seed that is no form itself.
    const program = `
      const { createHash } = require('node:crypto');
      let input = '';
      process.stdin.on('data', (chunk) => (input += chunk)).on('end', () => {
        globalThis.kept = JSON.parse(input).map((text) => Buffer.from(Buffer.from(text, 'base64').map((byte) => byte ^ 0x55)));
        input = '';
        console.log('planted');
        setInterval(() => globalThis.kept.length, 1000);
      });`;
    const hidden = needles.map(({ bytes }) =>
      Buffer.from(bytes.map((byte) => byte ^ 0x55)).toString('base64'),
    );
    const child = spawn(process.execPath, ['--eval', program], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      child.stdin.end(JSON.stringify(hidden));
      await once(child.stdout, 'data');
      const hits = memoryHits(child.pid ?? 0, needles);
      expect([...hits.keys()].toSorted()).toEqual([...new Set(needles.map(({ form }) => form))].toSorted());
      const other = createHash('sha256').update(secret).digest();
      expect(memoryHits(child.pid ?? 0, needlesOf('other', other))).toEqual(new Map());
    } finally {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
  });
});
