// The newest entries of a journal that is too large, from a real journald.
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseExport } from '../../src/journal/export.ts';
import { readNewest } from '../../src/journal/newest.ts';
import { JournalWriter } from '../../src/journal/write.ts';
import { type Journald, journaldMissing, startJournald } from '../lab/journald.ts';

const missing = journaldMissing();
describe.skipIf(missing !== undefined)(
  `the newest of a journal${missing ? ` (skipped: ${missing})` : ''}`,
  () => {
    const namespace = `ea-newest-${randomBytes(4).toString('hex')}`;
    const entries = 1500;
    let journald: Journald;
    beforeAll(async () => {
      journald = await startJournald(namespace);
      using writer = new JournalWriter({ namespace });
      for (let at = 0; at < entries; ) {
        if (writer.send({ MESSAGE: `number ${at}`, SYSLOG_IDENTIFIER: 'newest' })) at += 1;
        else await delay(1); // journald takes a few datagrams at a time.
      }
      await journald.flush();
    });
    afterAll(() => journald?.stop());

    async function taken(
      most: number,
      room?: number,
    ): Promise<{ numbers: number[]; said: string | undefined }> {
      const chunks: Uint8Array[] = [];
      const reading = readNewest({ namespace }, most, room);
      let step = await reading.next();
      for (; !step.done; step = await reading.next()) chunks.push(Buffer.from(step.value));
      const messages = parseExport(Buffer.concat(chunks)).map((entry) =>
        Buffer.from(entry.find(({ name }) => name === 'MESSAGE')?.value ?? []).toString(),
      );
      const numbers = messages.flatMap((message) => /^number (\d+)$/.exec(message)?.[1] ?? []).map(Number);
      return { numbers, said: step.value };
    }

    it('is all of it where that is small enough', async () => {
      const { numbers, said } = await taken(1 << 30);
      expect(numbers).toEqual(Array.from({ length: entries }, (_, at) => at));
      expect(said).toBeUndefined();
    });

    it.each([
      ['its limit', 400_000, undefined, /would be more than 400000 bytes/],
      ['the room on the disk', 1 << 30, 800_000, /the disk is nearly full/],
    ])('is its end where all would be more than %s', async (_, most, room, why) => {
      const { numbers, said } = await taken(most, room);
      expect(numbers.at(-1)).toBe(entries - 1);
      expect(numbers.length).toBeGreaterThan(100);
      expect(numbers.length).toBeLessThan(entries);
      expect(said).toMatch(why);
    });

    it('is what fits of it where that is little', async () => {
      const { numbers } = await taken(1 << 30, 40_000);
      expect(numbers.at(-1)).toBe(entries - 1);
      expect(numbers.length).toBeGreaterThan(5);
      expect(numbers.length).toBeLessThan(100);
    });
  },
);
