// A synthetic firmware event log: a stand-in for measured boot where a simulated TPM has no firmware in front of it.
// Crypto-agile form (TCG PC Client Platform Firmware Profile 1.06, section 10). Proves nothing about any machine; says so inside.
import { createHash } from 'node:crypto';

export interface SyntheticEventLog {
  /** What firmware would have left in `binary_bios_measurements`. */
  readonly log: Uint8Array;
  /** What firmware would have extended, in order. */
  readonly extends: { readonly pcr: number; readonly sha256: Uint8Array; readonly sha1: Uint8Array }[];
}

interface Measurement {
  readonly pcr: number;
  readonly type: number;
  readonly data: Uint8Array;
  /** What is hashed, where it is not the event's data. */
  readonly measured?: Uint8Array;
}

const eventType = {
  noAction: 0x00000003,
  separator: 0x00000004,
  crtmVersion: 0x00000008,
  variableDriverConfig: 0x80000001,
  variableBoot: 0x80000002,
  bootServicesApplication: 0x80000003,
  action: 0x80000007,
  firmwareBlob: 0x80000008,
} as const;
const globalVariable = '61dfe48bca93d211aa0d00e098032b8c'; // EFI_GLOBAL_VARIABLE, as stored
const imageSecurityDatabase = 'cbb219d73a3d9645a3bcdad00e67656f'; // EFI_IMAGE_SECURITY_DATABASE_GUID, as stored

/** The same log for the same firmware, so that PCR values survive a restart of the simulator. */
export function syntheticEventLog(firmware = 'firmware volume'): SyntheticEventLog {
  const measurements = boot(firmware);
  return {
    log: Buffer.concat([specIdEvent(), ...measurements.map(event2)]),
    extends: measurements.map((one) => ({
      pcr: one.pcr,
      sha256: digest('sha256', one),
      sha1: digest('sha1', one),
    })),
  };
}

function boot(name: string): Measurement[] {
  const firmware = Buffer.from(`SYNTHETIC ${name}`);
  const loader = Buffer.from('SYNTHETIC boot loader');
  return [
    { pcr: 0, type: eventType.crtmVersion, data: utf16('SYNTHETIC, not a real boot\0') },
    { pcr: 0, type: eventType.firmwareBlob, data: firmwareBlob(firmware.length), measured: firmware },
    secureBootVariable(globalVariable, 'SecureBoot', Uint8Array.of(1)),
    secureBootVariable(globalVariable, 'PK', Buffer.from('SYNTHETIC platform key')),
    secureBootVariable(globalVariable, 'KEK', Buffer.from('SYNTHETIC key exchange key')),
    secureBootVariable(imageSecurityDatabase, 'db', Buffer.from('SYNTHETIC allowed signatures')),
    secureBootVariable(imageSecurityDatabase, 'dbx', Buffer.from('SYNTHETIC forbidden signatures')),
    bootVariable('BootOrder', Uint8Array.of(0, 0)),
    bootVariable('Boot0000', Buffer.from('SYNTHETIC load option')),
    { pcr: 4, type: eventType.action, data: Buffer.from('Calling EFI Application from Boot Option') },
    ...Array.from({ length: 8 }, (_, pcr) => ({ pcr, type: eventType.separator, data: new Uint8Array(4) })),
    { pcr: 4, type: eventType.bootServicesApplication, data: imageLoad(loader.length), measured: loader },
    { pcr: 5, type: eventType.action, data: Buffer.from('Exit Boot Services Invocation') },
    { pcr: 5, type: eventType.action, data: Buffer.from('Exit Boot Services Returned with Success') },
  ];
}

function secureBootVariable(guid: string, name: string, value: Uint8Array): Measurement {
  return { pcr: 7, type: eventType.variableDriverConfig, data: variable(guid, name, value) };
}

function bootVariable(name: string, value: Uint8Array): Measurement {
  return { pcr: 1, type: eventType.variableBoot, data: variable(globalVariable, name, value) };
}

/** UEFI_VARIABLE_DATA. */
function variable(guid: string, name: string, value: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(guid, 'hex'), u64(name.length), u64(value.length), utf16(name), value]);
}

/** UEFI_PLATFORM_FIRMWARE_BLOB. */
function firmwareBlob(length: number): Uint8Array {
  return Buffer.concat([u64(0xff000000), u64(length)]);
}

/** UEFI_IMAGE_LOAD_EVENT with an empty device path. */
function imageLoad(length: number): Uint8Array {
  const endOfPath = Uint8Array.of(0x7f, 0xff, 4, 0);
  return Buffer.concat([u64(0x100000), u64(length), u64(0), u64(endOfPath.length), endOfPath]);
}

/** TCG_PCR_EVENT (SHA-1 form) around TCG_EfiSpecIDEvent: version 2.0 errata 105, 64-bit UINTN, two algorithms. */
function specIdEvent(): Uint8Array {
  const vendor = Buffer.from('SYNTHETIC');
  const data = Buffer.concat([
    Buffer.from('Spec ID Event03\0'),
    u32(0),
    Uint8Array.of(0, 2, 105, 2),
    u32(2),
    ...[u16(0x0004), u16(20)],
    ...[u16(0x000b), u16(32)],
    Uint8Array.of(vendor.length),
    vendor,
  ]);
  return Buffer.concat([u32(0), u32(eventType.noAction), new Uint8Array(20), u32(data.length), data]);
}

/** TCG_PCR_EVENT2. */
function event2(one: Measurement): Uint8Array {
  return Buffer.concat([
    ...[u32(one.pcr), u32(one.type), u32(2)],
    ...[u16(0x0004), digest('sha1', one)],
    ...[u16(0x000b), digest('sha256', one)],
    ...[u32(one.data.length), one.data],
  ]);
}

function digest(algorithm: 'sha1' | 'sha256', one: Measurement): Uint8Array {
  return createHash(algorithm)
    .update(one.measured ?? one.data)
    .digest();
}

function utf16(text: string): Uint8Array {
  return Buffer.from(text, 'utf16le');
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >> 8);
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
