// Firmware event logs and their replay: the crypto-agile form and the older SHA-1 form
// (TCG PC Client Platform Firmware Profile 1.06, section 10). Pure. A replay proves digests, never the types or data of events.
import { createHash } from 'node:crypto';
import { Failure } from '../host/failure.ts';
import { hashAlgorithms } from '../tpm/structures.ts';

export interface EventLog {
  /** Names of the digest algorithms the log carries: `sha1`, `sha256`, … or `alg-0012` for one not known here. */
  readonly banks: string[];
  readonly events: FirmwareEvent[];
}

export interface FirmwareEvent {
  /** 0 to 23; an event that extends nothing may say 4294967295. */
  readonly pcr: number;
  readonly type: number;
  /** The name in the specification, else `0x…`. */
  readonly typeName: string;
  /** By bank: what was extended. */
  readonly digests: Readonly<Record<string, Uint8Array>>;
  readonly data: Uint8Array;
}

/** Beyond these a log is refused. The largest real ones have a few hundred events in 100 kB. */
export const eventLogLimits = { bytes: 16 << 20, events: 65_536, dataBytes: 4 << 20, banks: 8 } as const;

const noAction = 0x00000003;
const noPcr = 0xffffffff;
const specIdCryptoAgile = 'Spec ID Event03';
const startupLocality = 'StartupLocality';

const typeNames = new Map<number, string>([
  [0x00000000, 'EV_PREBOOT_CERT'],
  [0x00000001, 'EV_POST_CODE'],
  [0x00000002, 'EV_UNUSED'],
  [noAction, 'EV_NO_ACTION'],
  [0x00000004, 'EV_SEPARATOR'],
  [0x00000005, 'EV_ACTION'],
  [0x00000006, 'EV_EVENT_TAG'],
  [0x00000007, 'EV_S_CRTM_CONTENTS'],
  [0x00000008, 'EV_S_CRTM_VERSION'],
  [0x00000009, 'EV_CPU_MICROCODE'],
  [0x0000000a, 'EV_PLATFORM_CONFIG_FLAGS'],
  [0x0000000b, 'EV_TABLE_OF_DEVICES'],
  [0x0000000c, 'EV_COMPACT_HASH'],
  [0x0000000d, 'EV_IPL'],
  [0x0000000e, 'EV_IPL_PARTITION_DATA'],
  [0x0000000f, 'EV_NONHOST_CODE'],
  [0x00000010, 'EV_NONHOST_CONFIG'],
  [0x00000011, 'EV_NONHOST_INFO'],
  [0x00000012, 'EV_OMIT_BOOT_DEVICE_EVENTS'],
  [0x80000001, 'EV_EFI_VARIABLE_DRIVER_CONFIG'],
  [0x80000002, 'EV_EFI_VARIABLE_BOOT'],
  [0x80000003, 'EV_EFI_BOOT_SERVICES_APPLICATION'],
  [0x80000004, 'EV_EFI_BOOT_SERVICES_DRIVER'],
  [0x80000005, 'EV_EFI_RUNTIME_SERVICES_DRIVER'],
  [0x80000006, 'EV_EFI_GPT_EVENT'],
  [0x80000007, 'EV_EFI_ACTION'],
  [0x80000008, 'EV_EFI_PLATFORM_FIRMWARE_BLOB'],
  [0x80000009, 'EV_EFI_HANDOFF_TABLES'],
  [0x8000000a, 'EV_EFI_PLATFORM_FIRMWARE_BLOB2'],
  [0x8000000b, 'EV_EFI_HANDOFF_TABLES2'],
  [0x8000000c, 'EV_EFI_VARIABLE_BOOT2'],
  [0x80000010, 'EV_EFI_HCRTM_EVENT'],
  [0x800000e0, 'EV_EFI_VARIABLE_AUTHORITY'],
  [0x800000e1, 'EV_EFI_SPDM_FIRMWARE_BLOB'],
  [0x800000e2, 'EV_EFI_SPDM_FIRMWARE_CONFIG'],
  [0x800000e3, 'EV_EFI_SPDM_DEVICE_POLICY'],
  [0x800000e4, 'EV_EFI_SPDM_DEVICE_AUTHORITY'],
]);

interface Bank {
  readonly id: number;
  readonly name: string;
  readonly size: number;
}

/**
 * Parses a log as firmware wrote it (`binary_bios_measurements`). Views into `bytes` are returned, not copies.
 * @throws Failure `event-log-invalid` on anything malformed or beyond `eventLogLimits`.
 */
export function parseEventLog(bytes: Uint8Array): EventLog {
  if (bytes.byteLength > eventLogLimits.bytes) throw invalid(`it has ${bytes.byteLength} bytes`);
  if (bytes.byteLength === 0) throw invalid('it is empty');
  const reader = new LogReader(bytes);
  const first = readLegacyEvent(reader);
  const declared = readSpecId(first);
  const banks = declared ?? [sha1Bank];
  const events = [first];
  while (reader.remaining > 0) {
    if (events.length >= eventLogLimits.events)
      throw invalid(`it has more than ${eventLogLimits.events} events`);
    events.push(declared === null ? readLegacyEvent(reader) : readAgileEvent(reader, declared));
  }
  return { banks: banks.map(({ name }) => name), events };
}

/**
 * The PCR values that a TPM has after these events and no others, as lower-case hex by bank and PCR. PCRs without an
 * event are absent; so are banks whose hash is not known here.
 * @throws Failure `event-log-invalid` when the log contradicts itself about the locality of TPM2_Startup.
 */
export function replay(log: EventLog): Record<string, Record<string, string>> {
  const measured = log.events.filter(({ type }) => type !== noAction);
  const locality = readStartupLocality(log.events);
  const known = [...hashAlgorithms.values()].filter(({ name }) => log.banks.includes(name));
  return Object.fromEntries(
    known.map(({ name, size }) => {
      const values = new Map<number, Uint8Array>();
      for (const { pcr, digests } of measured) {
        const before = values.get(pcr) ?? initialValue(size, pcr === 0 ? locality : 0);
        const digest = digests[name] ?? new Uint8Array();
        values.set(pcr, createHash(name).update(before).update(digest).digest());
      }
      return [name, Object.fromEntries([...values].map(([pcr, value]) => [String(pcr), hex(value)]))];
    }),
  );
}

/** PCR 0 starts at the locality that TPM2_Startup came from; all other PCRs of the log at zero. */
function initialValue(size: number, locality: number): Uint8Array {
  const value = new Uint8Array(size);
  value[size - 1] = locality;
  return value;
}

function readStartupLocality(events: readonly FirmwareEvent[]): number {
  const firstMeasured = events.findIndex(({ pcr, type }) => pcr === 0 && type !== noAction);
  const told = events
    .map((event, index) => ({ event, index }))
    .filter(({ event }) => event.type === noAction && signatureOf(event.data) === startupLocality);
  const [only] = told;
  if (only === undefined) return 0;
  if (told.length > 1) throw invalid('it tells the start-up locality more than once');
  if (firstMeasured >= 0 && only.index > firstMeasured) {
    throw invalid('it tells the start-up locality after PCR 0 was extended');
  }
  const locality = only.event.data[16];
  if (only.event.data.length !== 17 || (locality !== 0 && locality !== 3 && locality !== 4)) {
    throw invalid('its start-up locality is none of 0, 3 and 4');
  }
  return locality;
}

const sha1Bank: Bank = { id: 0x0004, name: 'sha1', size: 20 };

/** TCG_PCClientPCREvent, the SHA-1 form; also the first event of every crypto-agile log. */
function readLegacyEvent(reader: LogReader): FirmwareEvent {
  const pcr = reader.u32();
  const type = reader.u32();
  const sha1 = reader.bytes(sha1Bank.size);
  return checked(pcr, type, { sha1 }, readData(reader));
}

/** TCG_PCR_EVENT2: exactly one digest of every declared bank, in any order. */
function readAgileEvent(reader: LogReader, banks: readonly Bank[]): FirmwareEvent {
  const pcr = reader.u32();
  const type = reader.u32();
  const count = reader.u32();
  if (count !== banks.length)
    throw invalid(`an event has ${count} digests where ${banks.length} are declared`);
  const digests: Record<string, Uint8Array> = {};
  for (let index = 0; index < count; index += 1) {
    const id = reader.u16();
    const bank = banks.find((candidate) => candidate.id === id);
    if (bank === undefined) throw invalid(`an event has a digest of undeclared algorithm 0x${hex16(id)}`);
    if (digests[bank.name] !== undefined) throw invalid(`an event has two ${bank.name} digests`);
    digests[bank.name] = reader.bytes(bank.size);
  }
  return checked(pcr, type, digests, readData(reader));
}

function readData(reader: LogReader): Uint8Array {
  const size = reader.u32();
  if (size > eventLogLimits.dataBytes) throw invalid(`an event has ${size} bytes of data`);
  return reader.bytes(size);
}

function checked(
  pcr: number,
  type: number,
  digests: FirmwareEvent['digests'],
  data: Uint8Array,
): FirmwareEvent {
  if (pcr > 23 && !(type === noAction && pcr === noPcr)) throw invalid(`an event names PCR ${pcr}`);
  const typeName = typeNames.get(type) ?? `0x${type.toString(16).padStart(8, '0')}`;
  return { pcr, type, typeName, digests, data };
}

/** The banks declared by TCG_EfiSpecIDEvent, or null when the log is of the SHA-1 form. */
function readSpecId(first: FirmwareEvent): Bank[] | null {
  if (first.type !== noAction || signatureOf(first.data) !== specIdCryptoAgile) return null;
  const reader = new LogReader(first.data);
  reader.bytes(16); // signature
  reader.bytes(8); // platform class, version, errata, size of UINTN
  const count = reader.u32();
  if (count === 0 || count > eventLogLimits.banks) throw invalid(`it declares ${count} digest algorithms`);
  const banks = Array.from({ length: count }, () => readBank(reader));
  if (new Set(banks.map(({ id }) => id)).size !== count)
    throw invalid('it declares a digest algorithm twice');
  reader.bytes(reader.u8()); // vendor information
  if (reader.remaining > 0) throw invalid('its first event has trailing bytes');
  return banks;
}

function readBank(reader: LogReader): Bank {
  const id = reader.u16();
  const size = reader.u16();
  const known = hashAlgorithms.get(id);
  if (size === 0 || size > 64 || (known !== undefined && known.size !== size)) {
    throw invalid(`it declares algorithm 0x${hex16(id)} with digests of ${size} bytes`);
  }
  return { id, name: known?.name ?? `alg-${hex16(id)}`, size };
}

/** The NUL-terminated 16 bytes that EV_NO_ACTION events begin with. */
function signatureOf(data: Uint8Array): string {
  const head = Buffer.from(data.subarray(0, 16)).toString('latin1');
  return head.endsWith('\0') ? head.slice(0, -1) : head;
}

/** Event logs are little-endian, unlike everything else around a TPM. */
class LogReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get remaining(): number {
    return this.#bytes.byteLength - this.#offset;
  }
  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }
  u16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }
  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }
  bytes(length: number): Uint8Array {
    const start = this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }
  #advance(length: number): number {
    if (length > this.remaining) throw invalid(`it ends early, at byte ${this.#offset}`);
    const start = this.#offset;
    this.#offset += length;
    return start;
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function hex16(id: number): string {
  return id.toString(16).padStart(4, '0');
}

function invalid(why: string): Failure {
  return new Failure('event-log-invalid', `The firmware event log is not valid: ${why}.`, {
    remedy: 'Read it again from /sys/kernel/security/tpm0/binary_bios_measurements.',
  });
}
