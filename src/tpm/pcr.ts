// Platform configuration registers: read, extend, and which banks there are (TPM 2.0 Library, Part 3, section 22).
import { emptyAuth, noSessions } from './commands.ts';
import type { Connection } from './connection.ts';
import { algorithm } from './registry.ts';
import { TpmError } from './responses.ts';
import { type PcrBank, pcrSelectionStructure, structure, wireOf } from './structs.ts';
import { hashAlgorithms } from './structures.ts';
import { Reader, Writer } from './wire.ts';

/** Digests to extend with, by bank. A bank that is left out stays as it is. */
export type PcrDigests = { readonly [bank in PcrBank]?: Uint8Array };

/**
 * A TPM answers with as many as fit, at most eight at a time: asked again until all are there.
 * @throws TpmError `tpm-no-pcr` where the bank, or one of the PCRs, does not exist.
 */
export async function pcrRead(
  connection: Connection,
  bank: PcrBank,
  pcrs: readonly number[],
): Promise<Map<number, Uint8Array>> {
  const values = new Map<number, Uint8Array>();
  for (;;) {
    const missing = pcrs.filter((pcr) => !values.has(pcr));
    if (missing.length === 0) return new Map([...values].sort(([a], [b]) => a - b));
    const read = await readSome(connection, bank, missing);
    if (read.length === 0) throw absent(bank, missing);
    for (const [pcr, value] of read) values.set(pcr, value);
  }
}

const absent = (bank: PcrBank, pcrs: readonly number[]): TpmError =>
  new TpmError('tpm-no-pcr', `The TPM has no ${bank} value of PCR ${pcrs.join(', ')}.`, 0, 'appliance', {
    remedy: `Switch the ${bank} bank on in the firmware setup (or \`tpm2_pcrallocate ${bank}:all\`), then reboot.`,
  });

function readSome(
  connection: Connection,
  bank: PcrBank,
  pcrs: readonly number[],
): Promise<[number, Uint8Array][]> {
  return connection.execute(
    'PCR_Read',
    [...noSessions, pcrSelectionStructure(connection, bank, pcrs)],
    ([, selection = 0n, digests = 0n]) => {
      const selected = selectedPcrs(wireOf(connection, 'TPML_PCR_SELECTION', selection));
      const reader = new Reader(wireOf(connection, 'TPML_DIGEST', digests));
      const count = Math.min(reader.u32(), selected.length);
      return selected.slice(0, count).map((pcr) => [pcr, reader.sized().slice()]);
    },
  );
}

/** Numbers in the first bank of a TPML_PCR_SELECTION. */
function selectedPcrs(wire: Uint8Array): number[] {
  return readBanks(new Reader(wire)).flatMap(({ pcrs }) => pcrs);
}

export async function pcrExtend(connection: Connection, pcr: number, digests: PcrDigests): Promise<void> {
  const entries = Object.entries(digests) as [PcrBank, Uint8Array][];
  const list = new Writer().u32(entries.length);
  for (const [bank, digest] of entries) {
    const size = hashAlgorithms.get(algorithm[bank])?.size;
    if (digest.byteLength !== size)
      throw new RangeError(`A ${bank} digest has ${size} bytes, not ${digest.byteLength}.`);
    list.u16(algorithm[bank]).bytes(digest);
  }
  await connection.execute('PCR_Extend', [
    pcr,
    ...emptyAuth,
    structure(connection, 'TPML_DIGEST_VALUES', list.done()),
  ]);
}

/** Names of the banks that have any PCR, from the wire bytes of TPM_CAP_PCRS. */
export function readBanks(reader: Reader): { bank: string; pcrs: number[] }[] {
  return Array.from({ length: reader.u32() }, () => {
    const id = reader.u16();
    const bitmap = reader.bytes(reader.u8());
    const pcrs = Array.from({ length: bitmap.byteLength * 8 }, (_, pcr) => pcr).filter(
      (pcr) => ((bitmap[pcr >> 3] ?? 0) >> (pcr & 7)) & 1,
    );
    return { bank: hashAlgorithms.get(id)?.name ?? `0x${id.toString(16)}`, pcrs };
  });
}
