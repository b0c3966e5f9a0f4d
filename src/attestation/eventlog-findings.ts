// What a replay cannot show of a firmware event log. The TPM extends digests: an event's type is in none of them, and its data is
// only where the digest happens to be its hash. Whoever hands the log over may relabel a measurement so that a reader skips it, and
// extend another in its place (TCG PC Client Platform Firmware Profile 1.06, section 10.4). Pure; nothing here is decided by types.
import { createHash } from 'node:crypto';
import { hashAlgorithms } from '../tpm/structures.ts';
import type { EventLog, FirmwareEvent } from './eventlog.ts';

export interface LogFindings {
  /** Events that were extended into a PCR. */
  readonly measured: number;
  /** Of these, events whose data is proven as soon as the digest is, because it hashes to it. */
  readonly dataBound: number;
  /** Sentences about what does not agree with itself; empty in most logs. */
  readonly findings: readonly string[];
}

const noAction = 0x00000003;
const separator = 0x00000004;
/** Types whose digest is the hash of their data, by the profile's table of events. */
const hashesItsData: ReadonlySet<number> = new Set([
  separator,
  0x00000005, // EV_ACTION
  0x00000008, // EV_S_CRTM_VERSION
  0x80000001, // EV_EFI_VARIABLE_DRIVER_CONFIG
  0x80000006, // EV_EFI_GPT_EVENT
  0x80000007, // EV_EFI_ACTION
  0x8000000c, // EV_EFI_VARIABLE_BOOT2
  0x800000e0, // EV_EFI_VARIABLE_AUTHORITY
]);
/** What firmware hashes as it hands over: zeros, or ones. Recognised by digest, which nobody can relabel. */
const separatorData = [Uint8Array.of(0, 0, 0, 0), Uint8Array.of(0xff, 0xff, 0xff, 0xff)];
/** Nothing is measured into these after the hand-over; 1, 4, 5 and 7 get boot loaders, partitions and their signers. */
const closedPcrs = [0, 2, 3, 6];

export function findingsOf(log: EventLog): LogFindings {
  const measured = log.events.filter(({ type }) => type !== noAction);
  const unbound = measured.filter((event) => hashesItsData.has(event.type) && !isBound(event));
  return {
    measured: measured.length,
    dataBound: measured.filter(isBound).length,
    findings: [
      ...skippedDigests(log.events),
      ...byType(unbound).map(
        ([typeName, events]) =>
          `${events} of type ${typeName}: the data does not hash to the digest, as by that type it should. The firmware departs from the profile, or type or data was changed.`,
      ),
      ...[0, 1, 2, 3, 4, 5, 6, 7].flatMap((pcr) =>
        handOver(
          pcr,
          measured.filter((event) => event.pcr === pcr),
        ),
      ),
    ],
  };
}

/** A replay leaves EV_NO_ACTION out, so it must not carry a digest: one that does was something else before, or is a decoy. */
function skippedDigests(events: readonly FirmwareEvent[]): string[] {
  const carrying = events.filter(
    ({ type, digests }) =>
      type === noAction && Object.values(digests).some((digest) => digest.some((byte) => byte !== 0)),
  );
  return carrying.length === 0
    ? []
    : [`${carrying.length} of type EV_NO_ACTION carry a digest, which the replay left out.`];
}

function handOver(pcr: number, events: readonly FirmwareEvent[]): string[] {
  if (events.length === 0) return [];
  const named = events.filter(({ type }) => type === separator).length;
  const separators = events.filter(isSeparator);
  if (separators.length === 0) return [`PCR ${pcr} has no separator: who extended it, and when, stays open.`];
  const after = events.length - 1 - events.findIndex(isSeparator);
  return [
    ...(separators.length > 1 ? [`PCR ${pcr} has ${separators.length} separators instead of one.`] : []),
    ...(named !== separators.length
      ? [
          `PCR ${pcr} has ${separators.length} separators by digest and ${named} by type: a type may have been changed.`,
        ]
      : []),
    ...(after > 0 && closedPcrs.includes(pcr)
      ? [`PCR ${pcr} was extended ${after} times after the firmware had handed over.`]
      : []),
  ];
}

const isBound = ({ digests, data }: FirmwareEvent): boolean => hashesTo(digests, data);

const isSeparator = ({ digests }: FirmwareEvent): boolean =>
  separatorData.some((data) => hashesTo(digests, data));

/** In every bank that is known here, and in at least one. */
function hashesTo(digests: FirmwareEvent['digests'], data: Uint8Array): boolean {
  const known = [...hashAlgorithms.values()].filter(({ name }) => digests[name] !== undefined);
  return (
    known.length > 0 &&
    known.every(
      ({ name }) =>
        Buffer.compare(createHash(name).update(data).digest(), digests[name] ?? new Uint8Array()) === 0,
    )
  );
}

function byType(events: readonly FirmwareEvent[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const { typeName } of events) counts.set(typeName, (counts.get(typeName) ?? 0) + 1);
  return [...counts];
}
