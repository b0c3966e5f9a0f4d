import { describe, expect, it } from 'vitest';
import { Board, watchedLimit, word } from '../../src/interlock/board.ts';

describe('the board', () => {
  it('is the same for each thread that views its memory', () => {
    const mine = new Board();
    const theirs = new Board(mine.memory);
    mine.watch(1, {
      index: 7,
      name: 'x',
      admin: true,
      operstate: 6,
      carrier: true,
      upCount: 3,
      downCount: 0xffff_ffff,
      address: '',
    });
    expect([...theirs.watched(1)].map((value) => value >>> 0)).toEqual([7, 1, 3, 0xffff_ffff]);
    expect(theirs.words[word.watchedCount]).toBe(2);
    mine.moments[0] = 1.5;
    expect(theirs.moments[0]).toBe(1.5);
    expect(Math.abs(mine.now() - theirs.now())).toBeLessThan(1);
  });

  it('has the same time in two threads to within a millisecond', async () => {
    const { Worker } = await import('node:worker_threads');
    const board = new Board();
    const { promise, resolve } = Promise.withResolvers<number>();
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      import(workerData.module).then(({ Board }) => parentPort.postMessage(new Board(workerData.memory).now()));`;
    const worker = new Worker(source, {
      eval: true,
      workerData: {
        memory: board.memory,
        module: new URL('../../src/interlock/board.ts', import.meta.url).href,
      },
    });
    const before = board.now();
    worker.once('message', resolve);
    const theirs = await promise;
    expect(theirs).toBeGreaterThan(before - 1);
    expect(theirs).toBeLessThan(board.now() + 1);
  });

  it.each([0, 2 ** 31 - 500, 2 ** 32 - 500, 2 ** 40])('tells how long ago a time was after %i ms', (age) => {
    const young = new Board();
    const origin = new Float64Array(young.memory, young.memory.byteLength - 8, 1);
    origin[0] = (origin[0] ?? 0) - age;
    const board = new Board(young.memory);
    expect(board.now()).toBeGreaterThanOrEqual(age);
    Atomics.store(board.words, word.mainBeat, board.now());
    expect(board.since(word.mainBeat)).toBeLessThan(100);
    Atomics.store(board.words, word.windowUntil, board.now() + 60_000);
    expect(board.since(word.windowUntil)).toBeGreaterThan(-60_001);
    expect(board.since(word.windowUntil)).toBeLessThan(-59_000);
    Atomics.store(board.words, word.mainBeat, board.now() - 5000);
    expect(board.since(word.mainBeat)).toBeGreaterThanOrEqual(4999);
  });

  it('gives kernel actions back as they were added', () => {
    const board = new Board();
    const message = Uint8Array.from({ length: 32 }, (_, n) => n + 1);
    board.addAction({ message });
    board.addAction({ pidfd: 9 });
    expect(new Board(board.memory).actions()).toEqual([{ message }, { pidfd: 9 }]);
  });

  it('refuses an action too many or too long: better no link than one that stays', () => {
    const board = new Board();
    expect(() => board.addAction({ message: new Uint8Array(57) })).toThrow(RangeError);
    for (let n = 0; n < 16; n += 1) board.addAction({ pidfd: n });
    expect(() => board.addAction({ pidfd: 16 })).toThrow('16 kernel actions');
    expect(board.actions()).toHaveLength(16);
  });

  it('keeps the words of the last interface apart from the first action', () => {
    const board = new Board();
    board.watch(watchedLimit - 1, {
      index: -1,
      name: '',
      admin: true,
      operstate: 6,
      carrier: true,
      upCount: -1,
      downCount: -1,
      address: '',
    });
    expect(board.actions()).toEqual([]);
    board.addAction({ pidfd: 1 });
    expect([...board.watched(watchedLimit - 1)]).toEqual([-1, 1, -1, -1]);
  });
});
