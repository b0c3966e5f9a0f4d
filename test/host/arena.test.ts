import { randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SecretArena, type SecretBuffer } from '../../src/host/arena.ts';
import { runChild } from '../../src/host/child.ts';
import { viewMemory } from '../../src/host/libc.ts';

const lockedKilobytes = (): number =>
  Number(/^VmLck:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);

/** The VmFlags (proc(5), smaps) of the mapping that holds `address`. */
function flagsAt(address: bigint): string[] {
  let flags: string[] = [];
  let inside = false;
  for (const line of readFileSync('/proc/self/smaps', 'utf8').split('\n')) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
    if (from !== undefined && to !== undefined)
      inside = BigInt(`0x${from}`) <= address && address < BigInt(`0x${to}`);
    else if (inside && line.startsWith('VmFlags:')) flags = line.slice(8).trim().split(' ');
  }
  return flags;
}

const everyByteOf = ({ region }: SecretArena): Uint8Array => viewMemory(region.address, region.byteLength);

describe('the secret arena', () => {
  it('is locked, left out of core dumps and wiped in forked children', () => {
    const before = lockedKilobytes();
    using arena = SecretArena.allocate({ byteLength: 300_000 });
    expect(arena.locked).toBe(true);
    expect(arena.region.byteLength).toBe(303_104);
    expect(lockedKilobytes() - before).toBe(296);
    expect(flagsAt(arena.region.address)).toEqual(expect.arrayContaining(['lo', 'dd', 'wf']));
    expect(arena.region.address % 4096n).toBe(0n);
  });

  it('is unlocked again and zero when it is disposed of, and a late access finds zeros', () => {
    const before = lockedKilobytes();
    const arena = SecretArena.allocate();
    const secret = arena.take(32, 'late');
    randomFillSync(secret.bytes);
    const bytes = everyByteOf(arena);
    arena[Symbol.dispose]();
    expect(lockedKilobytes()).toBe(before);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    expect(() => secret.bytes).toThrow(expect.objectContaining({ code: 'zeroized' }));
  });

  it('is refused where memory cannot be locked, and allowed only when that is accepted', async () => {
    const tell = `
      const { SecretArena } = await import(${JSON.stringify(new URL('../../src/host/arena.ts', import.meta.url).href)});
      process.setgroups([65534]); process.setgid(65534); process.setuid(65534);
      try { SecretArena.allocate(); console.log('locked'); } catch (error) { console.log(JSON.stringify(error)); }
      using arena = SecretArena.allocate({ allowSwappable: true });
      arena.take(32, 'x').bytes.fill(1);
      console.log(arena.locked);`;
    const { stdout, stderr } = await runChild('prlimit', [
      '--memlock=0',
      process.execPath,
      '--input-type=module',
      '--eval',
      tell,
    ]);
    const [refusal = '', locked] = stdout.toString().trim().split('\n');
    expect(JSON.parse(refusal), stderr).toMatchObject({
      code: 'memory-unlockable',
      kept: 'No secret has been unsealed.',
      remedy: expect.stringContaining('LimitMEMLOCK'),
    });
    expect(locked).toBe('false');
  });

  it('is wiped for every thread by any thread, in one go', async () => {
    using arena = SecretArena.allocate();
    using secret = arena.take(64, 'shared');
    randomFillSync(secret.bytes);
    const source = `
      const { workerData } = require('node:worker_threads');
      import(workerData.module).then(({ SecretArena }) => SecretArena.attach(workerData.region).wipe());`;
    const worker = new Worker(source, {
      eval: true,
      workerData: {
        region: arena.region,
        module: new URL('../../src/host/arena.ts', import.meta.url).href,
      },
    });
    await new Promise((resolve) => worker.once('exit', resolve));
    expect(arena.zeroized).toBe(true);
    expect(everyByteOf(arena).every((byte) => byte === 0)).toBe(true);
    for (const use of [() => secret.bytes, () => arena.take(1, 'new'), () => arena.carve(1, 'new')]) {
      expect(use).toThrow(expect.objectContaining({ code: 'zeroized', status: 4 }));
    }
  });

  it('lets another thread allocate in a region carved for it, and nowhere else', () => {
    using arena = SecretArena.allocate({ byteLength: 8192 });
    const region = arena.carve(1024, 'for a thread');
    using part = SecretArena.attach(region);
    const inner = part.take(1024, 'all of it');
    expect(inner.address).toBe(region.address);
    expect(() => part.take(1, 'more')).toThrow(expect.objectContaining({ code: 'arena-full' }));
    inner.bytes.fill(7);
    part[Symbol.dispose](); // What it views is not its own.
    expect(inner.bytes.every((byte) => byte === 7)).toBe(true);
    part.wipe();
    expect(arena.zeroized).toBe(true);
  });

  it('gives zeroed slices, and wipes each one that comes back', () => {
    using arena = SecretArena.allocate({ byteLength: 4096 });
    const first = arena.take(4096, 'whole');
    expect(() => arena.take(1, 'more')).toThrow(expect.objectContaining({ code: 'arena-full' }));
    first.bytes.fill(0xff);
    first[Symbol.dispose]();
    expect(everyByteOf(arena).every((byte) => byte === 0)).toBe(true);
    using again = arena.take(4096, 'whole');
    expect(again.address).toBe(first.address);
    first[Symbol.dispose]();
    expect(() => arena.take(1, 'more')).toThrow(expect.objectContaining({ code: 'arena-full' }));
  });

  it('never overlaps two slices, loses no byte, and is whole again when all came back', () => {
    const step = fc.oneof(
      fc.record({ take: fc.integer({ min: 1, max: 3000 }) }),
      fc.record({ give: fc.nat(20) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        using arena = SecretArena.allocate({ byteLength: 16_384, allowSwappable: true });
        const held: { readonly slice: SecretBuffer; readonly mark: number }[] = [];
        let mark = 0;
        for (const action of steps) {
          if ('take' in action) {
            try {
              const slice = arena.take(action.take, 'slice');
              expect(slice.byteLength).toBe(action.take);
              expect(slice.address % 64n).toBe(0n);
              expect(slice.bytes.every((byte) => byte === 0)).toBe(true);
              mark = (mark % 255) + 1;
              slice.bytes.fill(mark);
              held.push({ slice, mark });
            } catch (error) {
              expect(error).toMatchObject({ code: 'arena-full' });
            }
          } else {
            held.splice(action.give % (held.length || 1), 1).forEach(({ slice }) => {
              slice[Symbol.dispose]();
            });
          }
          for (const { slice, mark: own } of held)
            expect(slice.bytes.every((byte) => byte === own)).toBe(true);
        }
        for (const { slice } of held) slice[Symbol.dispose]();
        using whole = arena.take(16_384, 'whole');
        expect(whole.bytes.every((byte) => byte === 0)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });
});

describe('a secret', () => {
  it('has no text form', () => {
    using arena = SecretArena.allocate();
    using secret = arena.take(16, 'password');
    secret.bytes.set(Buffer.from('correct horse ba'));
    const forms = [
      String(secret),
      `${secret}`,
      JSON.stringify({ secret }),
      inspect(secret, { depth: 9, showHidden: true }),
      inspect(secret, { customInspect: false, showHidden: true, depth: 9 }),
      inspect({ arena }, { depth: 9, showHidden: true }),
      inspect(structuredClone(secret), { showHidden: true }),
      inspect({ ...secret }, { showHidden: true }),
      Object.entries(secret).join(),
    ];
    for (const form of forms) {
      expect(form).not.toMatch(/horse|636f72|Y29ycm|99,\s*111|63 6f 72/);
    }
    expect(String(secret)).toBe('[SecretBuffer password, 16 bytes]');
    expect(JSON.stringify([secret])).toBe('["[SecretBuffer password, 16 bytes]"]');
  });

  it('is refused once it has been disposed of', () => {
    using arena = SecretArena.allocate();
    const secret = arena.take(16, 'gone');
    secret[Symbol.dispose]();
    secret[Symbol.dispose]();
    expect(() => secret.bytes).toThrow('The secret "gone" has been disposed of.');
  });
});
