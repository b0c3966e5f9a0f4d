// A firmware event log against every bank that was quoted, and what a replay leaves open: types, data, and who extended when.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PcrValues } from '../../src/attestation/appraisal.ts';
import { type EventLog, type FirmwareEvent, parseEventLog, replay } from '../../src/attestation/eventlog.ts';
import { appraiseEventLog, appraiseEventLogBanks } from '../../src/attestation/eventlog-appraisal.ts';
import { findingsOf } from '../../src/attestation/eventlog-findings.ts';
import { syntheticEventLog } from '../lab/eventlog.ts';

const vectors = join(import.meta.dirname, '../../../shared/vectors/tcg-eventlogs');
const present = existsSync(join(vectors, 'expected-pcrs.json'));
const expectedPcrs: Record<string, Record<string, PcrValues>> = present
  ? JSON.parse(readFileSync(join(vectors, 'expected-pcrs.json'), 'utf8'))
  : {};

const { log } = syntheticEventLog();
const quoted = replay(parseEventLog(log));
const zeros = (digits: number): PcrValues =>
  Object.fromEntries([0, 1, 2, 3, 4, 5, 6, 7].map((pcr) => [String(pcr), '0'.repeat(digits)]));

describe('a log and the banks of a quote', () => {
  it('is proven where every bank in both agrees', () => {
    const appraisal = appraiseEventLogBanks(log, quoted);
    expect(appraisal).toMatchObject({
      result: 'proven',
      banks: { sha1: { result: 'proven' }, sha256: { result: 'proven' } },
    });
    expect(appraisal.detail).toContain('In sha256, sha1:');
  });

  it('fails when one bank differs, though the other agrees', () => {
    for (const bank of ['sha1', 'sha256']) {
      const values = { ...quoted[bank], '4': 'ab'.repeat(bank === 'sha1' ? 20 : 32) };
      const { result, detail } = appraiseEventLogBanks(log, { ...quoted, [bank]: values });
      expect([result, detail]).toEqual(['failed', expect.stringContaining(`${bank}: `)]);
    }
  });

  it('is not enough with SHA-1 alone, in the log or in the quote', () => {
    const { sha1 = {}, sha256 = {} } = quoted;
    expect(appraiseEventLogBanks(log, { sha1 })).toMatchObject({
      result: 'failed',
      detail: 'No SHA-256 bank was quoted.',
    });
    const legacy = Buffer.concat(
      parseEventLog(log)
        .events.filter(({ type }) => type !== 3)
        .map(legacyEvent),
    );
    expect(replay(parseEventLog(legacy)).sha1).toEqual(sha1);
    expect(appraiseEventLogBanks(legacy, { sha1, sha256 })).toMatchObject({
      result: 'failed',
      detail: expect.stringContaining('no sha256 digests'),
    });
  });

  it('tells of a bank that the firmware left out, and proves nothing where somebody else filled it', () => {
    const left = appraiseEventLogBanks(log, { ...quoted, sha384: zeros(96) });
    expect(left).toMatchObject({
      result: 'proven',
      detail: expect.stringContaining('did not measure into sha384'),
    });
    const filled = { ...zeros(96), '7': 'ab'.repeat(48) };
    expect(appraiseEventLogBanks(log, { ...quoted, sha384: filled })).toMatchObject({
      result: 'not-proven',
      detail: expect.stringContaining('no digests of sha384, which were extended all the same'),
    });
  });

  it('is failed where it cannot be read, and never a crash', () => {
    expect(appraiseEventLogBanks(log.subarray(0, -1), quoted)).toMatchObject({ result: 'failed', banks: {} });
    const values = fc.dictionary(fc.string(), fc.dictionary(fc.string(), fc.string()));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), values, (bytes, pcrs) => {
        expect(appraiseEventLogBanks(bytes, pcrs).result).toBe('failed');
        expect(appraiseEventLogBanks(log, pcrs).result).not.toBe('proven');
      }),
      { numRuns: 200 },
    );
  });

  it.skipIf(!present)(
    `is proven for real machines in all their banks (skipped when ${vectors} is absent)`,
    () => {
      for (const [file, pcrs] of Object.entries(expectedPcrs)) {
        const bytes = readFileSync(join(vectors, file));
        const { result, banks } = appraiseEventLogBanks(bytes, pcrs);
        expect([file, result, Object.keys(banks).toSorted()]).toEqual([
          file,
          pcrs.sha256 === undefined ? 'failed' : 'proven',
          pcrs.sha256 === undefined ? [] : Object.keys(pcrs).toSorted(),
        ]);
        for (const bank of Object.keys(banks)) {
          const other = {
            ...pcrs,
            [bank]: { ...pcrs[bank], '2': 'ab'.repeat((pcrs[bank]?.['2'] ?? '').length / 2) },
          };
          expect([file, bank, appraiseEventLogBanks(bytes, other).result]).toEqual([file, bank, 'failed']);
        }
      }
    },
  );
});

/** The SHA-1 form of an event. */
function legacyEvent({ pcr, type, digests, data }: FirmwareEvent): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(pcr, 0);
  head.writeUInt32LE(type, 4);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(data.length);
  return Buffer.concat([head, digests.sha1 ?? new Uint8Array(20), size, data]);
}

describe('what a replay does not show', () => {
  const parsed = parseEventLog(log);
  const noAction = 3;
  const edited = (edit: (event: FirmwareEvent, index: number) => FirmwareEvent): EventLog => ({
    ...parsed,
    events: parsed.events.map(edit),
  });
  const event = (pcr: number, type: number, data: Uint8Array): FirmwareEvent => ({
    pcr,
    type,
    typeName: `0x${type}`,
    data,
    digests: {
      sha1: createHash('sha1').update(data).digest(),
      sha256: createHash('sha256').update(data).digest(),
    },
  });

  it('is nothing in a log that agrees with itself: only how much data its digests cover', () => {
    expect(findingsOf(parsed)).toEqual({ measured: 21, dataBound: 19, findings: [] });
  });

  it('are the types: with others the replay is the same, and what can be seen of that is told', () => {
    const variable = 0x80000001;
    const relabelled = edited((one) =>
      one.type === variable ? { ...one, type: 2, typeName: 'EV_UNUSED' } : one,
    );
    expect(replay(relabelled)).toEqual(replay(parsed));
    // The attack of the disclosure: relabel what was measured, and append one's own under the old label.
    const appended = {
      ...relabelled,
      events: [...relabelled.events, event(2, variable, Buffer.from('mine'))],
    };
    expect(findingsOf(appended).findings).toEqual([
      'PCR 2 was extended 1 times after the firmware had handed over.',
    ]);
    const separators = edited((one) => (one.type === 4 && one.pcr === 7 ? { ...one, type: 2 } : one));
    expect(replay(separators)).toEqual(replay(parsed));
    expect(findingsOf(separators).findings).toEqual([
      'PCR 7 has 1 separators by digest and 0 by type: a type may have been changed.',
    ]);
  });

  it('is told beside the proof: in the detail of a claim that replays, and of no other', () => {
    const pcrValues = quoted.sha256 ?? {};
    const relabelled = Buffer.from(log);
    const separatorOfPcr7 = Buffer.from([7, 0, 0, 0, 4, 0, 0, 0]);
    relabelled.writeUInt32LE(2, relabelled.indexOf(separatorOfPcr7) + 4);
    const { result, detail } = appraiseEventLog({ log: relabelled, pcrValues });
    expect(result).toBe('proven');
    expect(detail).toContain('PCR 7 has 1 separators by digest and 0 by type');
    expect(appraiseEventLog({ log, pcrValues }).detail).not.toContain('agree with itself');
    const other = { ...pcrValues, '7': 'ab'.repeat(32) };
    const failure = appraiseEventLog({ log: relabelled, pcrValues: other });
    expect(failure).toMatchObject({ result: 'failed' });
    expect(failure.detail).not.toContain('separators');
  });

  it('is data that its type says to be measured and that is not', () => {
    const lied = edited((one) =>
      one.type === 0x80000001 ? { ...one, data: Buffer.from('SecureBoot: on') } : one,
    );
    expect(replay(lied)).toEqual(replay(parsed));
    expect(findingsOf(lied)).toMatchObject({
      dataBound: 14,
      findings: [expect.stringMatching(/^5 of type EV_EFI_VARIABLE_DRIVER_CONFIG: the data does not hash/)],
    });
  });

  it('are digests under EV_NO_ACTION, which no TPM has extended', () => {
    const decoy = { ...event(7, noAction, Buffer.from('Secure Boot')), typeName: 'EV_NO_ACTION' };
    const hidden = { ...parsed, events: [...parsed.events, decoy] };
    expect(replay(hidden)).toEqual(replay(parsed));
    expect(findingsOf(hidden).findings).toEqual([
      '1 of type EV_NO_ACTION carry a digest, which the replay left out.',
    ]);
  });

  it('is who extended, where the separator is missing or there are two', () => {
    const without = edited((one) => one);
    const events = without.events.filter(({ type, pcr }) => type !== 4 || pcr !== 3);
    expect(findingsOf({ ...parsed, events }).findings).toEqual([]);
    const more = [...parsed.events, event(3, 4, new Uint8Array(4))];
    expect(findingsOf({ ...parsed, events: more }).findings).toEqual([
      'PCR 3 has 2 separators instead of one.',
      'PCR 3 was extended 1 times after the firmware had handed over.',
    ]);
    const none = parsed.events.filter(({ type, pcr }) => type !== 4 || pcr !== 0);
    expect(findingsOf({ ...parsed, events: none }).findings).toEqual([
      'PCR 0 has no separator: who extended it, and when, stays open.',
    ]);
  });
});
