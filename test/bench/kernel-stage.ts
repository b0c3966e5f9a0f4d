// The kernel stage of a zeroize by itself: from memory wiped to a link's interface gone, against a C program that sends the same message
// and waits for the same answer (kernel-stage.c). Interfaces are veths, which every kernel here has; how long the kernel takes to
// delete one is most of it.
import { join } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { requireChild, runChild } from '../../src/host/child.ts';
import { type Benchmark, inTurn, judge, type Load, type Progress, type Side, words } from './benchmark.ts';
import { Dialogue } from './dialogue.ts';
import type { StageOrder } from './one-zeroize.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'zeroize-kernel';
const target = { atMost: 1.5 } as const;

export const kernelStage: Benchmark = {
  name,
  target: words(target),
  needs: { root: true, programs: ['gcc', 'ip', 'setpriv'] },
  run: (progress) => measureKernelStage({ blocks: 10, runs: 10 }, progress),
};

export async function measureKernelStage(load: Load, progress: Progress): Promise<BenchResult> {
  using scratch = scratchDirectory();
  const program = join(scratch.path, 'kernel-stage');
  await requireChild('gcc', ['-O2', '-o', program, join(import.meta.dirname, 'kernel-stage.c')]);
  const namespace = `ea-bench-stage-${process.pid}`;
  await requireChild('ip', ['netns', 'add', namespace]);
  try {
    const words = [process.execPath, '--disable-warning=ExperimentalWarning'];
    const runner = join(import.meta.dirname, 'one-zeroize.ts');
    await using zeroize = new Dialogue<StageOrder>(namespace, [...words, runner, scratch.path]);
    await using inC = new Dialogue<StageOrder>(namespace, [program]);
    const { ours, reference } = await inTurn(
      load,
      progress,
      deletions(namespace, zeroize),
      deletions(namespace, inC),
    );
    return judge({
      name,
      value: ours,
      unit: 'us',
      reference: { name: 'C, rtnetlink: one veth deleted', value: reference },
      target,
      note: '(the stage alone, its mark on disk included)',
    });
  } finally {
    await runChild('ip', ['netns', 'delete', namespace]);
  }
}

function deletions(namespace: string, side: Dialogue<StageOrder>): Side {
  return async (runs) => {
    const micros: number[] = [];
    for (let run = 0; run < runs; run++) {
      await requireChild('ip', ['-n', namespace, 'link', 'add', 'stage0', 'type', 'veth', 'peer', 'stage1']);
      micros.push(Number(await side.ask('delete stage0')));
    }
    return micros;
  };
}
