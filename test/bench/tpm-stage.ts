// The TPM stage of a zeroize by itself: from links gone to the cap PCR extended and the armed counter raised, on a connection that was
// opened beforehand, against the commands of tpm2-tools that do the same to the same TPM.
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { counterDefinition } from '../../src/keys/indices.ts';
import { marshalNvIncrement, marshalPcrExtend } from '../../src/tpm/raw.ts';
import { hexOf, type OpenBenchTpm, tpmPrograms, withOpenTpm } from './bench-tpm.ts';
import { type Benchmark, inTurn, judge, type Load, type Progress, words } from './benchmark.ts';
import { zeroizeOnce } from './one-zeroize.ts';

const name = 'zeroize-tpm';
const target = { atMost: 0.5 } as const;
const capPcr = 14;
const armedIndex = 0x01500010;
const digest = new Uint8Array(32).fill(0xca);
const timeoutMilliseconds = 5000;

export const tpmStage: Benchmark = {
  name,
  target: words(target),
  needs: { programs: [...tpmPrograms, 'tpm2_pcrextend', 'tpm2_nvincrement'] },
  run: (progress) => measureTpmStage({ blocks: 10, runs: 10 }, progress),
};

export const measureTpmStage = (load: Load, progress: Progress): Promise<BenchResult> =>
  withOpenTpm((bench) => measureOn(bench, load, progress));

async function measureOn(
  { tpm, tcti, path, script }: OpenBenchTpm,
  load: Load,
  progress: Progress,
): Promise<BenchResult> {
  await tpm.nvDefine(armedIndex, counterDefinition);
  const commands = [marshalPcrExtend(capPcr, digest), marshalNvIncrement(armedIndex)].map((command) => ({
    level: 'lock' as const,
    command,
  }));
  const ours = async (runs: number): Promise<number[]> => {
    const milliseconds: number[] = [];
    for (let run = 0; run < runs; run++) {
      const stages = await zeroizeOnce(path('.'), {
        tpm: { channel: { tcti }, commands, timeoutMilliseconds },
      });
      milliseconds.push(stages.tpm.micros / 1000);
    }
    return milliseconds;
  };
  const measured = await inTurn(
    load,
    progress,
    ours,
    script(
      `tpm2_pcrextend ${capPcr}:sha256=${Buffer.from(digest).toString('hex')}\ntpm2_nvincrement -C o ${hexOf(armedIndex)}`,
    ),
  );
  return judge({
    name,
    value: measured.ours,
    unit: 'ms',
    reference: { name: 'tpm2_pcrextend and tpm2_nvincrement, two processes', value: measured.reference },
    target,
    note: '(the stage alone, on an open connection)',
  });
}
