// Unsealing a key against `tpm2_unseal` on the same TPM, a swtpm. Ours is the operation alone on a connection that is open, as in a
// node that runs: load, session, policy, unseal into the arena. swtpm serves one client, so ours closes while the other runs.
import { randomFillSync } from 'node:crypto';
import { join } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { requireChild } from '../../src/host/child.ts';
import { openTpm } from '../../src/tpm/context.ts';
import type { ObjectBlob } from '../../src/tpm/object.ts';
import { sealedData, storageRootKey } from '../../src/tpm/templates.ts';
import { startSwtpm } from '../lab/swtpm.ts';
import { type Benchmark, judge, median, type Progress, timed, words } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';

const name = 'unseal';
const target = { atMost: 0.5 } as const;
const handles = { root: 0x81000001, sealed: 0x81000002 } as const;
const pcrs = [0, 7, 14] as const;

export const unsealing: Benchmark = {
  name,
  target: words(target),
  needs: { programs: ['swtpm', 'tpm2_unseal', 'setpriv'] },
  run: (progress) => measureUnseal(40, progress),
};

export async function measureUnseal(rounds: number, { signal }: Progress): Promise<BenchResult> {
  using scratch = scratchDirectory();
  const swtpm = await startSwtpm(join(scratch.path, 'tpm'));
  try {
    using arena = SecretArena.allocate({ allowSwappable: true });
    const key = await sealOne(swtpm.tcti, arena);
    const ours: number[] = [];
    const theirs: number[] = [];
    // The first round warms up and does not count.
    for (let round = 0; round <= rounds; round++) {
      const mine = await unsealOurs(swtpm.tcti, arena, key);
      const yours = await timed(() => unsealTheirs(swtpm.tcti));
      if (round === 0) continue;
      ours.push(mine);
      theirs.push(yours);
      signal.throwIfAborted();
    }
    return judge({
      name,
      value: median(ours),
      unit: 'ms',
      reference: { name: 'tpm2_unseal (whole process, key loaded beforehand)', value: median(theirs) },
      target,
      note: '(ours on an open connection)',
    });
  } finally {
    await swtpm.stop();
  }
}

/** Seals 32 bytes to PCRs; a copy is persisted, so that the reference needs no loading. */
async function sealOne(tcti: string, arena: SecretArena): Promise<ObjectBlob> {
  await using tpm = await openTpm({ tcti });
  await using srk = await tpm.createPrimary('owner', storageRootKey);
  await tpm.persist(srk, 'owner', handles.root);
  using secret = arena.take(32, 'secret');
  randomFillSync(secret.bytes);
  await using trial = await tpm.startPolicySession(srk, 'trial');
  await trial.policyPcr(pcrs);
  const blob = await tpm.create(srk, sealedData(await trial.digest()), secret);
  await using object = await tpm.load(srk, blob);
  await tpm.persist(object, 'owner', handles.sealed);
  return blob;
}

/** Milliseconds of the operation; opening the connection does not count. */
async function unsealOurs(tcti: string, arena: SecretArena, blob: ObjectBlob): Promise<number> {
  await using tpm = await openTpm({ tcti });
  await using srk = await tpm.at(handles.root);
  return await timed(async () => {
    await using object = await tpm.load(srk, blob);
    await using session = await tpm.startPolicySession(srk, 'policy');
    await session.policyPcr(pcrs);
    using _secret = await tpm.unseal(object, session, arena, 'secret');
  });
}

async function unsealTheirs(tcti: string): Promise<void> {
  const context = `0x${handles.sealed.toString(16)}`;
  await requireChild('tpm2_unseal', ['-T', tcti, '-c', context, '-p', `pcr:sha256:${pcrs.join(',')}`]);
}
