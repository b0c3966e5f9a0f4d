// Entries out to a real journald, and what happens where there is none.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requireChild } from '../../src/host/child.ts';
import { encodeEntry, JournalWriter, journalSocketPath } from '../../src/journal/write.ts';
import { type Journald, journaldMissing, startJournald } from '../lab/journald.ts';

describe('the native wire form', () => {
  it('puts a value without line breaks on one line', () => {
    expect(Buffer.from(encodeEntry({ MESSAGE: 'a=b', PRIORITY: '5' })).toString()).toBe(
      'MESSAGE=a=b\nPRIORITY=5\n',
    );
  });
  it('gives a value with line breaks its length in bytes, 64 bits little endian', () => {
    const expected = Buffer.concat([
      Buffer.from('MESSAGE\n'),
      Buffer.from([5, 0, 0, 0, 0, 0, 0, 0]),
      Buffer.from('ü\nz\n\n'),
    ]);
    expect(encodeEntry({ MESSAGE: 'ü\nz\n' })).toEqual(expected);
  });
  it('leaves out names that journald reserves or refuses, so that no value can smuggle a field in', () => {
    const entry = encodeEntry({
      _PID: '1',
      lower: 'x',
      'A=B': 'x',
      'A\nPRIORITY': '0',
      ['X'.repeat(65)]: 'x',
    });
    expect(entry).toHaveLength(0);
  });
});

describe('where there is no journald', () => {
  it('says so with false and never throws', () => {
    using writer = new JournalWriter({ socketPath: '/nonexistent/journal/socket' });
    expect(writer.send({ MESSAGE: 'lost' })).toBe(false);
  });
  it('takes a socket path that is too long for the kernel as absent', () => {
    using writer = new JournalWriter({ socketPath: `/${'x'.repeat(200)}` });
    expect(writer.send({ MESSAGE: 'lost' })).toBe(false);
  });
  it('refuses a namespace that would leave /run/systemd', () => {
    expect(() => new JournalWriter({ namespace: '../../etc' })).toThrow(
      expect.objectContaining({ code: 'journal-namespace-invalid' }),
    );
    expect(journalSocketPath()).toBe('/run/systemd/journal/socket');
  });
});

const missing = journaldMissing();
describe.skipIf(missing !== undefined)(`a real journald${missing ? ` (skipped: ${missing})` : ''}`, () => {
  const namespace = `ea-write-${randomBytes(4).toString('hex')}`;
  let journald: Journald;
  beforeAll(async () => {
    journald = await startJournald(namespace);
  });
  afterAll(() => journald.stop());

  const read = async (mark: string) => {
    await journald.flush();
    const query = [`--namespace=${namespace}`, '--all', '--output=json', `MARK=${mark}`];
    return JSON.parse((await requireChild('journalctl', query)).stdout.toString()) as Record<string, string>;
  };

  it('stores structured fields, line breaks included', async () => {
    using writer = new JournalWriter({ namespace });
    expect(writer.socketPath).toBe(journald.socketPath);
    const sent = { MESSAGE: 'carrier lost\non eth0', PRIORITY: '2', SYSLOG_IDENTIFIER: 'ea', MARK: 'lines' };
    expect(writer.send(sent)).toBe(true);
    expect(await read('lines')).toMatchObject(sent);
  });

  it('cuts a message that no datagram can carry, and says how long it was', async () => {
    using writer = new JournalWriter({ namespace });
    expect(writer.send({ MESSAGE: 'ä'.repeat(1 << 20), MARK: 'long' })).toBe(true);
    const { MESSAGE } = await read('long');
    expect(MESSAGE).toMatch(/^ä{70000,} … \(cut, 2097152 bytes in all\)$/);
  });

  it('returns false when the other fields alone are too large', () => {
    using writer = new JournalWriter({ namespace });
    expect(writer.send({ MESSAGE: 'm', MARK: 'x'.repeat(1 << 20) })).toBe(false);
  });

  it('returns false after it was disposed of, and for an entry without a field', () => {
    const writer = new JournalWriter({ namespace });
    expect(writer.send({})).toBe(false);
    writer[Symbol.dispose]();
    writer[Symbol.dispose]();
    expect(writer.send({ MESSAGE: 'late' })).toBe(false);
  });

  it('finds a journald that came after it', async () => {
    const late = `${namespace}-late`;
    using writer = new JournalWriter({ namespace: late });
    expect(writer.send({ MESSAGE: 'early' })).toBe(false);
    const second = await startJournald(late);
    try {
      expect(writer.send({ MESSAGE: 'in time' })).toBe(true);
    } finally {
      await second.stop();
    }
  });

  it('refuses to start a second journald on the same namespace', async () => {
    await expect(startJournald(namespace)).rejects.toMatchObject({ code: 'journald-busy' });
  });
});
