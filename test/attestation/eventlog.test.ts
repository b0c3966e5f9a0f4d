// Firmware event logs: real machines' logs against their known PCRs, a synthetic one against a real simulator, and hostile bytes.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type EventLog, eventLogLimits, parseEventLog, replay } from '../../src/attestation/eventlog.ts';
import { requireChild } from '../../src/host/child.ts';
import { Failure } from '../../src/host/failure.ts';
import { syntheticEventLog } from '../lab/eventlog.ts';
import { makeRealEvidence } from './real-evidence.ts';

const vectors = join(import.meta.dirname, '../../../shared/vectors/tcg-eventlogs');
const present = existsSync(join(vectors, 'expected-pcrs.json'));
type Pcrs = Record<string, Record<string, string>>;
const expectedPcrs: Record<string, Pcrs> = present
  ? JSON.parse(readFileSync(join(vectors, 'expected-pcrs.json'), 'utf8'))
  : {};

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

/** An event of the SHA-1 form. */
const legacyEvent = (pcr: number, type: number, digest: number, data: Uint8Array = new Uint8Array()) =>
  Buffer.concat([u32(pcr), u32(type), Buffer.alloc(20, digest), u32(data.length), data]);

const specId = (algorithms: readonly (readonly [number, number])[], tail: Uint8Array = Uint8Array.of(0)) => {
  const pairs = algorithms.map(([id, size]) => Buffer.from([id & 0xff, id >> 8, size & 0xff, size >> 8]));
  const head = [Buffer.from('Spec ID Event03\0'), Buffer.alloc(8), u32(algorithms.length)];
  return legacyEvent(0, 3, 0, Buffer.concat([...head, ...pairs, tail]));
};

const agileEvent = (
  pcr: number,
  type: number,
  digests: readonly (readonly [number, Uint8Array])[],
  data = '',
) =>
  Buffer.concat([
    ...[u32(pcr), u32(type), u32(digests.length)],
    ...digests.flatMap(([id, digest]) => [Buffer.from([id & 0xff, id >> 8]), digest]),
    ...[u32(data.length), Buffer.from(data, 'latin1')],
  ]);

const sha256Digest = (fill: number) => [0x000b, Buffer.alloc(32, fill)] as const;
const locality = (value: number) =>
  agileEvent(0, 3, [sha256Digest(0)], `StartupLocality\0${String.fromCharCode(value)}`);
const agileLog = (...events: Uint8Array[]) => Buffer.concat([specId([[0x000b, 32]]), ...events]);

const refusal = (work: () => unknown): string => {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof Failure && thrown.code === 'event-log-invalid') return thrown.message;
    throw thrown;
  }
  return 'accepted';
};

describe.skipIf(!present)(`event logs of real machines (skipped when ${vectors} is absent)`, () => {
  for (const [file, expected] of Object.entries(expectedPcrs)) {
    it(`${file} replays to the PCRs its machine had`, () => {
      const replayed = replay(parseEventLog(readFileSync(join(vectors, file))));
      for (const [bank, pcrs] of Object.entries(expected))
        expect([bank, replayed[bank]]).toEqual([bank, pcrs]);
    });

    it(`${file} replays to other PCRs when one bit of any digest is flipped`, () => {
      const log = parseEventLog(readFileSync(join(vectors, file)));
      let flips = 0;
      for (const { digests, type, pcr } of log.events) {
        if (type === 3) continue;
        for (const [bank, digest] of Object.entries(digests)) {
          const known = expected[bank]?.[pcr];
          if (known === undefined) continue;
          const bit = 1 << (flips % 8);
          const at = flips % digest.length;
          digest[at] = (digest[at] ?? 0) ^ bit;
          expect(replayPcr(log, bank, pcr)).not.toBe(known);
          digest[at] = (digest[at] ?? 0) ^ bit;
          flips += 1;
        }
      }
      expect(flips).toBeGreaterThan(25);
    });
  }

  it('are refused or read without a crash after any mutation', () => {
    const logs = Object.keys(expectedPcrs).map((file) => readFileSync(join(vectors, file)));
    fc.assert(
      fc.property(mutationsOf(logs), (bytes) => void refusal(() => replay(parseEventLog(bytes)))),
      { numRuns: 150 },
    );
  });
});

/** Only one PCR of one bank, since the whole log is replayed for each of many flips. */
function replayPcr(log: EventLog, bank: string, pcr: number): string | undefined {
  const events = log.events.filter((event) => event.pcr === pcr || event.type === 3);
  return replay({ banks: [bank], events })[bank]?.[pcr];
}

function mutationsOf(seeds: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 });
  return fc.tuple(fc.constantFrom(...seeds), edits, fc.nat()).map(([seed, changes, cut]) => {
    const copy = new Uint8Array(seed);
    for (const [at, value] of changes) copy[at % copy.length] = value;
    return cut % 3 === 0 ? copy.subarray(0, cut % copy.length) : copy;
  });
}

describe('the synthetic event log', () => {
  it('replays to what a TPM holds after its extends', async () => {
    const { pcrValues } = await makeRealEvidence();
    const { '14': afterBoot, ...firmware } = pcrValues;
    expect(afterBoot).toMatch(/^[0-9a-f]{64}$/);
    expect(replay(parseEventLog(syntheticEventLog().log)).sha256).toEqual(firmware);
  }, 20_000);

  it('reads the same in tpm2_eventlog, and says that it is synthetic', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'ea-eventlog-'));
    try {
      const { log } = syntheticEventLog();
      writeFileSync(join(directory, 'log'), log);
      const shown = (await requireChild('tpm2_eventlog', [join(directory, 'log')])).stdout.toString();
      const pcrs = replay(parseEventLog(log));
      const values = Object.values(pcrs).flatMap((bank) => Object.values(bank));
      expect(values).toHaveLength(16);
      for (const value of values) expect(shown).toContain(`0x${value}`);
      expect(shown.match(/EventNum/g)).toHaveLength(parseEventLog(log).events.length);
      expect(Buffer.from(log).includes(Buffer.from('SYNTHETIC', 'utf16le'))).toBe(true);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('has the events of a boot, a separator in each firmware PCR, and is the same every time', () => {
    const { events, banks } = parseEventLog(syntheticEventLog().log);
    expect(banks).toEqual(['sha1', 'sha256']);
    const separators = events.filter(({ typeName }) => typeName === 'EV_SEPARATOR');
    expect(separators.map(({ pcr }) => pcr)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const kinds = new Set(events.map(({ typeName }) => typeName));
    expect(kinds).toContain('EV_S_CRTM_VERSION');
    expect(kinds).toContain('EV_EFI_PLATFORM_FIRMWARE_BLOB');
    expect(kinds).toContain('EV_EFI_VARIABLE_DRIVER_CONFIG');
    expect(kinds).toContain('EV_EFI_BOOT_SERVICES_APPLICATION');
    expect(syntheticEventLog()).toEqual(syntheticEventLog());
  });
});

describe('a log of the SHA-1 form', () => {
  it('replays its one bank and skips what was not extended', () => {
    const log = Buffer.concat([legacyEvent(4, 5, 1), legacyEvent(4, 3, 2), legacyEvent(4, 0xd, 3)]);
    const parsed = parseEventLog(log);
    expect(parsed.banks).toEqual(['sha1']);
    expect(parsed.events.map(({ typeName }) => typeName)).toEqual(['EV_ACTION', 'EV_NO_ACTION', 'EV_IPL']);
    expect(replay(parsed)).toEqual({ sha1: { '4': '396c7c928ea8f72599c91313d7ff5bac3e419704' } });
  });

  it('is what an older specification id announces', () => {
    const older = legacyEvent(0, 3, 0, Buffer.from('Spec ID Event02\0'));
    expect(parseEventLog(Buffer.concat([older, legacyEvent(0, 8, 1)])).banks).toEqual(['sha1']);
  });
});

describe('the locality of TPM2_Startup', () => {
  const event = agileEvent(0, 8, [sha256Digest(1)]);
  const pcr0 = (...events: Uint8Array[]) => replay(parseEventLog(agileLog(...events))).sha256?.[0];

  it('is where PCR 0 begins, and no other PCR', () => {
    expect(pcr0(locality(3), event)).not.toBe(pcr0(event));
    expect(pcr0(locality(3), event)).not.toBe(pcr0(locality(4), event));
    expect(pcr0(locality(0), event)).toBe(pcr0(event));
    const other = agileEvent(1, 8, [sha256Digest(1)]);
    expect(replay(parseEventLog(agileLog(locality(3), other))).sha256?.[1]).toBe(pcr0(event));
  });

  it('is refused when told late, twice, or as something else', () => {
    expect(refusal(() => pcr0(event, locality(3)))).toContain('after PCR 0 was extended');
    expect(refusal(() => pcr0(locality(3), locality(0), event))).toContain('more than once');
    expect(refusal(() => pcr0(locality(2), event))).toContain('none of 0, 3 and 4');
    const longer = agileEvent(0, 3, [sha256Digest(0)], 'StartupLocality\0\x03\x00');
    expect(refusal(() => pcr0(longer, event))).toContain('none of 0, 3 and 4');
  });
});

describe('a malformed log', () => {
  const sha1 = [0x0004, Buffer.alloc(20)] as const;
  const unknownType = agileLog(agileEvent(1, 0x12345, [sha256Digest(1)]));
  const event = agileEvent(0, 8, [sha256Digest(1)]);

  it('is refused, with the reason', () => {
    const parse = (bytes: Uint8Array) => refusal(() => parseEventLog(bytes));
    expect(parse(new Uint8Array())).toContain('empty');
    expect(parse(agileLog(event).subarray(0, -1))).toContain('ends early');
    expect(parse(Buffer.concat([agileLog(event), Buffer.alloc(3)]))).toContain('ends early');
    expect(parse(agileLog(agileEvent(24, 8, [sha256Digest(1)])))).toContain('PCR 24');
    expect(parse(agileLog(agileEvent(0xffffffff, 8, [sha256Digest(1)])))).toContain('PCR 4294967295');
    expect(parse(agileLog(agileEvent(0, 8, [])))).toContain('0 digests where 1');
    expect(parse(agileLog(agileEvent(0, 8, [sha1])))).toContain('undeclared algorithm 0x0004');
    const two = [
      [0x0004, 20],
      [0x000b, 32],
    ] as const;
    const twice = Buffer.concat([specId(two), agileEvent(0, 8, [sha256Digest(1), sha256Digest(2)])]);
    expect(parse(twice)).toContain('two sha256 digests');
    expect(parse(specId([]))).toContain('0 digest algorithms');
    expect(parse(specId([[0x000b, 20]]))).toContain('digests of 20 bytes');
    expect(parse(specId([[0x0012, 65]]))).toContain('digests of 65 bytes');
    expect(parse(specId([[0x000b, 32] as const, [0x000b, 32] as const]))).toContain('twice');
    expect(parse(specId([[0x000b, 32]], Uint8Array.of(0, 0)))).toContain('trailing');
  });

  it('is refused before its claimed sizes cost anything', () => {
    const claims = Buffer.concat([u32(0), u32(8), Buffer.alloc(20), u32(0xfffffff0)]);
    expect(refusal(() => parseEventLog(claims))).toContain('4294967280 bytes of data');
    expect(refusal(() => parseEventLog(new Uint8Array(eventLogLimits.bytes + 1)))).toContain(
      '16777217 bytes',
    );
    const flood = Buffer.alloc(32 * (eventLogLimits.events + 1));
    expect(refusal(() => parseEventLog(flood))).toContain('more than 65536 events');
    expect(
      refusal(() => parseEventLog(specId(Array.from({ length: 9 }, (_, id) => [id + 1, 32] as const)))),
    ).toContain('9 digest algorithms');
  });

  it('never crashes the reader, whatever the bytes', () => {
    const bytes = fc.oneof(fc.uint8Array({ maxLength: 400 }), mutationsOf([syntheticEventLog().log]));
    fc.assert(
      fc.property(bytes, (log) => void refusal(() => replay(parseEventLog(log)))),
      { numRuns: 1000 },
    );
  });

  it('keeps what it does not know: event types by number, banks by algorithm', () => {
    expect(parseEventLog(unknownType).events[1]?.typeName).toBe('0x00012345');
    const nowhere = agileLog(agileEvent(0xffffffff, 3, [sha256Digest(0)]));
    expect(parseEventLog(nowhere).events[1]?.pcr).toBe(0xffffffff);
    const sm3 = Buffer.concat([specId([[0x0012, 32]]), agileEvent(0, 8, [[0x0012, Buffer.alloc(32)]])]);
    expect(parseEventLog(sm3).banks).toEqual(['alg-0012']);
    expect(replay(parseEventLog(sm3))).toEqual({});
  });
});
