// A signature by the bundle signing key of a node that runs, which loads it each time, against `tpm2_sign` on the same TPM, for which
// it is loaded beforehand.
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { type BenchNode, withNode } from './bench-node.ts';
import { hexOf, spareHandle, tpmPrograms } from './bench-tpm.ts';
import { type Benchmark, inTurn, judge, type Load, type Progress, repeated, words } from './benchmark.ts';

const name = 'sign';
const target = { atMost: 0.5 } as const;

export const signing: Benchmark = {
  name,
  target: words(target),
  needs: { programs: [...tpmPrograms, 'tpm2_sign'] },
  run: (progress) => measureSign({ blocks: 8, runs: 8 }, progress),
};

export const measureSign = (load: Load, progress: Progress): Promise<BenchResult> =>
  withNode((node) => measureOn(node, load, progress));

async function measureOn(node: BenchNode, load: Load, progress: Progress): Promise<BenchResult> {
  const message = randomBytes(1024);
  writeFileSync(node.path('digest'), createHash('sha256').update(message).digest());
  await persistSigningKey(node);
  const { ours, reference } = await inTurn(
    load,
    progress,
    repeated(() => node.keys.sign(message)),
    node.script(`tpm2_sign -c ${hexOf(spareHandle)} -g sha256 -d -f plain -o signature digest`),
  );
  return judge({
    name,
    value: ours,
    unit: 'ms',
    reference: { name: 'tpm2_sign, a whole process, key loaded beforehand', value: reference },
    target,
    note: '(ours on an open connection)',
  });
}

async function persistSigningKey({ tcti, anchors }: BenchNode): Promise<void> {
  await using tpm = await openTpm({ tcti });
  await using srk = await tpm.at(anchors.srk.handle);
  await using key = await tpm.load(srk, {
    public: Buffer.from(anchors.signingKey.public, 'base64'),
    private: Buffer.from(anchors.signingKey.private, 'base64'),
  });
  await tpm.persist(key, 'owner', spareHandle);
}
