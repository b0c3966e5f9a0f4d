// Unsealing a key against `tpm2_unseal` on the same TPM, a swtpm. Ours is the operation alone on a connection that is open, as in a
// node that runs: load, session, policy, unseal into the arena. swtpm serves one client, so ours closes while the other runs.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { requireChild } from '../../src/host/child.ts';
import { createSealedKey, type SealedKey, unsealKey } from '../../src/keys/sealed.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { storageRootKey } from '../../src/tpm/templates.ts';
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
  mkdirSync(join(scratch.path, 'keys'));
  const swtpm = await startSwtpm(join(scratch.path, 'tpm'));
  try {
    using arena = SecretArena.allocate({ allowSwappable: true });
    const key = await sealOne(swtpm.tcti, arena, scratch.path);
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

/** Seals a key; a copy of it is persisted, so that the reference needs no loading. */
async function sealOne(tcti: string, arena: SecretArena, directory: string): Promise<SealedKey> {
  await using tpm = await openTpm({ tcti });
  await using srk = await tpm.createPrimary('owner', storageRootKey);
  await tpm.persist(srk, 'owner', handles.root);
  const key = await createSealedKey({ tpm, srk, pcrs }, arena, directory, 'bench', 'wireguard');
  await using object = await tpm.load(srk, {
    public: Buffer.from(key.public, 'base64'),
    private: Buffer.from(key.private, 'base64'),
  });
  await tpm.persist(object, 'owner', handles.sealed);
  return key;
}

/** Milliseconds of the operation; opening the connection does not count. */
async function unsealOurs(tcti: string, arena: SecretArena, key: SealedKey): Promise<number> {
  await using tpm = await openTpm({ tcti });
  await using srk = await tpm.at(handles.root);
  return await timed(async () => {
    using _secret = await unsealKey({ tpm, srk, pcrs }, arena, key);
  });
}

async function unsealTheirs(tcti: string): Promise<void> {
  const context = `0x${handles.sealed.toString(16)}`;
  await requireChild('tpm2_unseal', ['-T', tcti, '-c', context, '-p', `pcr:sha256:${pcrs.join(',')}`]);
}
