// What a TPM says about itself: maker, firmware, lockout, clock, handles, banks (TPM 2.0 Library, Part 2, section 6.13;
// Part 3, sections 29 and 30).
import { noSessions } from './commands.ts';
import type { Connection } from './connection.ts';
import { readBanks } from './pcr.ts';
import { wireOf } from './structs.ts';
import { Reader } from './wire.ts';

export interface TpmProperties {
  /** TCG vendor ID, trimmed: `IBM`, `INTC`, `IFX`. */
  readonly manufacturer: string;
  /** Major and minor, in decimal. */
  readonly firmware: string;
  readonly vendor: string;
  /** True for swtpm, mssim, and any TPM that calls itself a software one. */
  readonly simulator: boolean;
  readonly lockout: {
    readonly counter: number;
    readonly max: number;
    /** Seconds until one failed try is forgiven. */
    readonly interval: number;
    /** Seconds after a failed lockout authorization. */
    readonly recovery: number;
    readonly inLockout: boolean;
  };
  /** True where an authorization other than the empty one has been set; this program uses the empty ones. */
  readonly authorizationSet: {
    readonly owner: boolean;
    readonly endorsement: boolean;
    readonly lockout: boolean;
  };
  /** False where the firmware, or its owner, has switched the hierarchy off until the next reset. */
  readonly hierarchyEnabled: { readonly owner: boolean; readonly endorsement: boolean };
  readonly resetCount: number;
  readonly restartCount: number;
  /** Milliseconds the TPM has been powered, over its life. */
  readonly clock: bigint;
  /** False when a later clock value may already have been reported. */
  readonly safe: boolean;
}

const capability = { handles: 1, pcrs: 5, properties: 6 } as const;
/** TPM_PT. */
const property = {
  manufacturer: 0x105,
  vendorStrings: [0x106, 0x107, 0x108, 0x109],
  firmware: 0x10b,
  permanent: 0x200,
  startupClear: 0x201,
  lockoutCounter: 0x20e,
  maxAuthFail: 0x20f,
  lockoutInterval: 0x210,
  lockoutRecovery: 0x211,
} as const;
const fixedGroup = 0x100;
const variableGroup = 0x200;
/** TPMA_PERMANENT. */
const permanentBit = {
  ownerAuth: 1,
  endorsementAuth: 1 << 1,
  lockoutAuth: 1 << 2,
  inLockout: 1 << 9,
} as const;
/** TPMA_STARTUP_CLEAR. */
const startupBit = { ownerEnabled: 1 << 1, endorsementEnabled: 1 << 2 } as const;
const mostPerAnswer = 254;

export async function readProperties(connection: Connection, tcti: string): Promise<TpmProperties> {
  const values = new Map([
    ...(await propertyGroup(connection, fixedGroup)),
    ...(await propertyGroup(connection, variableGroup)),
  ]);
  const value = (id: number): number => values.get(id) ?? 0;
  const vendor = property.vendorStrings
    .map((id) => characters(value(id)))
    .join('')
    .trim();
  const firmware = value(property.firmware);
  const permanent = (bit: number): boolean => (value(property.permanent) & bit) !== 0;
  return {
    manufacturer: characters(value(property.manufacturer)).trim(),
    firmware: `${firmware >>> 16}.${firmware & 0xffff}`,
    vendor,
    simulator: /\b(swtpm|mssim):/.test(`${tcti}:`) || /^SW\b/.test(vendor),
    lockout: {
      counter: value(property.lockoutCounter),
      max: value(property.maxAuthFail),
      interval: value(property.lockoutInterval),
      recovery: value(property.lockoutRecovery),
      inLockout: permanent(permanentBit.inLockout),
    },
    authorizationSet: {
      owner: permanent(permanentBit.ownerAuth),
      endorsement: permanent(permanentBit.endorsementAuth),
      lockout: permanent(permanentBit.lockoutAuth),
    },
    hierarchyEnabled: {
      owner: (value(property.startupClear) & startupBit.ownerEnabled) !== 0,
      endorsement: (value(property.startupClear) & startupBit.endorsementEnabled) !== 0,
    },
    ...(await readClock(connection)),
  };
}

export async function handlesFrom(
  connection: Connection,
  first: number,
  kinds: readonly number[] = [first >>> 24],
): Promise<number[]> {
  const handles: number[] = [];
  for (let next = first; ; next = (handles.at(-1) ?? first) + 1) {
    const { more, reader } = await ask(connection, capability.handles, next);
    const answer = Array.from({ length: reader.u32() }, () => reader.u32());
    handles.push(...answer.filter((handle) => kinds.includes(handle >>> 24)));
    if (!more || answer.length === 0) return handles;
  }
}

export async function pcrBanks(connection: Connection): Promise<string[]> {
  const { reader } = await ask(connection, capability.pcrs, 0);
  return readBanks(reader)
    .filter(({ pcrs }) => pcrs.length > 0)
    .map(({ bank }) => bank);
}

async function propertyGroup(connection: Connection, group: number): Promise<[number, number][]> {
  const { reader } = await ask(connection, capability.properties, group);
  return Array.from({ length: reader.u32() }, () => [reader.u32(), reader.u32()]);
}

/** One GetCapability; the reader stands behind the capability's number. */
function ask(connection: Connection, kind: number, from: number): Promise<{ more: boolean; reader: Reader }> {
  return connection.execute(
    'GetCapability',
    [...noSessions, kind, from, mostPerAnswer],
    ([more = 0n, data = 0n]) => {
      const reader = new Reader(wireOf(connection, 'TPMS_CAPABILITY_DATA', data));
      reader.u32();
      return { more: (more & 0xffn) !== 0n, reader };
    },
  );
}

function readClock(
  connection: Connection,
): Promise<Pick<TpmProperties, 'clock' | 'resetCount' | 'restartCount' | 'safe'>> {
  return connection.execute('ReadClock', [...noSessions], ([time = 0n]) => {
    const reader = new Reader(wireOf(connection, 'TPMS_TIME_INFO', time));
    reader.u64(); // since the last start
    return {
      clock: reader.u64(),
      resetCount: reader.u32(),
      restartCount: reader.u32(),
      safe: reader.u8() === 1,
    };
  });
}

/** Four ASCII characters in a number; padding left out. */
function characters(value: number): string {
  return String.fromCharCode(
    value >>> 24,
    (value >>> 16) & 0xff,
    (value >>> 8) & 0xff,
    value & 0xff,
  ).replaceAll('\0', '');
}
