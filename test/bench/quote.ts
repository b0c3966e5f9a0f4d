// A quote of the boot PCRs and the cap PCR with their values, by the key of a node that runs, against `tpm2_quote` on the same TPM.
import { randomBytes } from 'node:crypto';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { type BenchNode, withNode } from './bench-node.ts';
import { hexOf, tpmPrograms } from './bench-tpm.ts';
import { type Benchmark, inTurn, judge, type Load, type Progress, repeated, words } from './benchmark.ts';

const name = 'quote';
const target = { atMost: 0.5 } as const;
/** As `NodeKeys.quote` has them. */
const pcrList = '0,1,2,3,4,5,6,7,14';

export const quoting: Benchmark = {
  name,
  target: words(target),
  needs: { programs: [...tpmPrograms, 'tpm2_quote'] },
  run: (progress) => measureQuote({ blocks: 8, runs: 8 }, progress),
};

export const measureQuote = (load: Load, progress: Progress): Promise<BenchResult> =>
  withNode((node) => measureOn(node, load, progress));

async function measureOn(
  { keys, anchors, script }: BenchNode,
  load: Load,
  progress: Progress,
): Promise<BenchResult> {
  const nonce = randomBytes(32);
  const { ours, reference } = await inTurn(
    load,
    progress,
    repeated(() => keys.quote(nonce)),
    script(
      `tpm2_quote -c ${hexOf(anchors.ak.handle)} -l sha256:${pcrList} -q ${nonce.toString('hex')} -m quote -s signature -o pcrs`,
    ),
  );
  return judge({
    name,
    value: ours,
    unit: 'ms',
    reference: { name: 'tpm2_quote, a whole process', value: reference },
    target,
    note: '(ours on an open connection)',
  });
}
