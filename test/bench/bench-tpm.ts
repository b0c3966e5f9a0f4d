// The TPM of the benchmarks: a swtpm of their own with a storage root key, and tpm2-tools that work on it. swtpm takes one command
// after another from whoever connects, so a connection of ours that is open keeps nobody out.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SecretArena } from '../../src/host/arena.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import type { TpmObject } from '../../src/tpm/object.ts';
import { storageRootKey } from '../../src/tpm/templates.ts';
import { startSwtpm } from '../lab/swtpm.ts';
import type { Side } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';
import { timeScript } from './stopwatch.ts';

export const srkHandle = 0x81000001;
/** For what a reference needs persisted, so that it can do without loading. */
export const spareHandle = 0x81000002;
export const hexOf = (handle: number): string => `0x${handle.toString(16).padStart(8, '0')}`;

/** Programs that every benchmark on a TPM needs. */
export const tpmPrograms = ['swtpm', 'setpriv', 'bash'] as const;

export interface BenchTpm {
  readonly tcti: string;
  readonly arena: SecretArena;
  /** Of a file in the scratch directory, where scripts run. */
  path(name: string): string;
  /** Runs of a bash script, each timed from the start of its first program to the end of its last; then `between`, not timed. */
  script(text: string, between?: string): Side;
}

export interface OpenBenchTpm extends BenchTpm {
  readonly tpm: Tpm;
  readonly srk: TpmObject;
}

export async function withBareTpm<T>(work: (bench: BenchTpm) => Promise<T>): Promise<T> {
  using scratch = scratchDirectory();
  const path = (name: string): string => join(scratch.path, name);
  const { tcti, stop } = await startSwtpm(path('tpm'));
  try {
    using arena = SecretArena.allocate({ allowSwappable: true });
    let scripts = 0;
    return await work({
      tcti,
      arena,
      path,
      script: (text, between) => {
        const file = path(`script-${scripts++}.sh`);
        const after = between === undefined ? '' : `between() {\n${between}\n}\n`;
        writeFileSync(file, `work() {\n${text}\n}\n${after}`);
        return (runs) => timeScript(file, runs, { cwd: scratch.path, env: { TPM2TOOLS_TCTI: tcti } });
      },
    });
  } finally {
    await stop();
  }
}

/** As `withBareTpm`, opened, and with a storage root key at `srkHandle`. */
export function withOpenTpm<T>(work: (bench: OpenBenchTpm) => Promise<T>): Promise<T> {
  return withBareTpm(async (bench) => {
    await using tpm = await openTpm({ tcti: bench.tcti });
    {
      await using primary = await tpm.createPrimary('owner', storageRootKey);
      await tpm.persist(primary, 'owner', srkHandle);
    }
    await using srk = await tpm.at(srkHandle);
    return await work({ ...bench, tpm, srk });
  });
}
