// Unsealing a key against a C program on ESYS that sends the same commands to the same TPM (unseal.c), both within a process.
import { join } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { requireChild } from '../../src/host/child.ts';
import { hexOf, type OpenBenchTpm, srkHandle, tpmPrograms, withOpenTpm } from './bench-tpm.ts';
import {
  type Benchmark,
  inTurn,
  judge,
  type Load,
  type Progress,
  repeated,
  type Side,
  words,
} from './benchmark.ts';
import { pcrList, type SealedFiles, sealToPcrs, unsealByPcrs } from './pcr-sealed.ts';

const name = 'unseal-c';
const target = { atMost: 1.5 } as const;
const libraries = ['-ltss2-esys', '-ltss2-mu', '-ltss2-tctildr'];

export const unsealingInC: Benchmark = {
  name,
  target: words(target),
  needs: { programs: [...tpmPrograms, 'gcc'], files: ['/usr/include/tss2/tss2_esys.h'] },
  run: (progress) => measureUnsealInC({ blocks: 10, runs: 20 }, progress),
};

export const measureUnsealInC = (load: Load, progress: Progress): Promise<BenchResult> =>
  withOpenTpm((bench) => measureOn(bench, load, progress));

async function measureOn(bench: OpenBenchTpm, load: Load, progress: Progress): Promise<BenchResult> {
  const sealed = await sealToPcrs(bench);
  const { ours, reference } = await inTurn(
    load,
    progress,
    repeated(() => unsealByPcrs(bench, sealed.blob)),
    await inC(bench, sealed),
  );
  return judge({
    name,
    value: ours,
    unit: 'ms',
    reference: { name: 'C on ESYS, within a process', value: reference },
    target,
    note: '(ours on an open connection)',
  });
}

/** The program measures each run itself, after one that warms it up. */
async function inC({ tcti, path }: OpenBenchTpm, { publicPath, privatePath }: SealedFiles): Promise<Side> {
  const program = path('unseal');
  await requireChild('gcc', ['-O2', '-o', program, join(import.meta.dirname, 'unseal.c'), ...libraries]);
  return async (runs) => {
    const words = [tcti, hexOf(srkHandle), publicPath, privatePath, pcrList, String(runs)];
    const { stdout } = await requireChild(program, words);
    return stdout
      .toString('latin1')
      .trim()
      .split('\n')
      .map((micros) => Number(micros) / 1000);
  };
}
