// Unsealing a key against `tpm2_unseal` on the same TPM, a swtpm. Ours is the operation alone on a connection that is open, as in a
// node that runs; the reference is a whole process, with a session of its own that is neither salted nor encrypted, and need not load.
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { hexOf, type OpenBenchTpm, spareHandle, tpmPrograms, withOpenTpm } from './bench-tpm.ts';
import { type Benchmark, inTurn, judge, type Load, type Progress, repeated, words } from './benchmark.ts';
import { pcrList, sealToPcrs, unsealByPcrs } from './pcr-sealed.ts';

const name = 'unseal';
const target = { atMost: 0.5 } as const;

export const unsealing: Benchmark = {
  name,
  target: words(target),
  needs: { programs: [...tpmPrograms, 'tpm2_unseal'] },
  run: (progress) => measureUnseal({ blocks: 10, runs: 8 }, progress),
};

export const measureUnseal = (load: Load, progress: Progress): Promise<BenchResult> =>
  withOpenTpm((bench) => measureOn(bench, load, progress));

async function measureOn(bench: OpenBenchTpm, load: Load, progress: Progress): Promise<BenchResult> {
  const { tpm, srk, script } = bench;
  const { blob } = await sealToPcrs(bench);
  {
    await using object = await tpm.load(srk, blob);
    await tpm.persist(object, 'owner', spareHandle);
  }
  const { ours, reference } = await inTurn(
    load,
    progress,
    repeated(() => unsealByPcrs(bench, blob)),
    script(`tpm2_unseal -c ${hexOf(spareHandle)} -p pcr:sha256:${pcrList}`),
  );
  return judge({
    name,
    value: ours,
    unit: 'ms',
    reference: { name: 'tpm2_unseal, a whole process with its session', value: reference },
    target,
    note: '(ours on an open connection)',
  });
}
