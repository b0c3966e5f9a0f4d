// Unsealing a key as a whole process, Node's start included, against the commands of tpm2-tools that do the same one after another:
// load, a policy session salted to the storage root key with parameter encryption, PolicyPCR, unseal, flush.
import { join, resolve } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { hexOf, type OpenBenchTpm, srkHandle, tpmPrograms, withOpenTpm } from './bench-tpm.ts';
import { type Benchmark, inTurn, judge, type Load, type Progress, words } from './benchmark.ts';
import { pcrList, sealToPcrs } from './pcr-sealed.ts';

const name = 'unseal-process';
const target = { atMost: 1 } as const;

/** As `scripts/esoteric-appliance` has it. */
const compileCache = resolve(import.meta.dirname, '../../node_modules/.cache/esoteric-appliance');

export const unsealingProcess: Benchmark = {
  name,
  target: words(target),
  needs: { programs: [...tpmPrograms, 'tpm2_unseal'] },
  run: (progress) => measureUnsealProcess({ blocks: 6, runs: 4 }, progress),
};

export const measureUnsealProcess = (load: Load, progress: Progress): Promise<BenchResult> =>
  withOpenTpm((bench) => measureOn(bench, load, progress));

async function measureOn(bench: OpenBenchTpm, load: Load, progress: Progress): Promise<BenchResult> {
  const { publicPath, privatePath } = await sealToPcrs(bench);
  const program = join(import.meta.dirname, 'unseal-once.ts');
  const root = hexOf(srkHandle);
  const { ours, reference } = await inTurn(
    load,
    progress,
    bench.script(
      `NODE_COMPILE_CACHE=${compileCache} ${process.execPath} --disable-warning=ExperimentalWarning ${program} ${bench.tcti} ${publicPath} ${privatePath}`,
    ),
    bench.script(`
      tpm2_load -C ${root} -u ${publicPath} -r ${privatePath} -c key
      tpm2_startauthsession --policy-session -c ${root} -S session
      tpm2_policypcr -S session -l sha256:${pcrList}
      tpm2_unseal -c key -p session:session
      tpm2_flushcontext session
      tpm2_flushcontext -t`),
  );
  return judge({
    name,
    value: ours,
    unit: 'ms',
    reference: { name: 'tpm2_load to tpm2_flushcontext, 6 processes', value: reference },
    target,
    note: '(ours a whole process)',
  });
}
