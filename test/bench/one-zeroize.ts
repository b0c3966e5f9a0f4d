// One zeroize as a node does it, for the stages after memory: a fresh interlock with a fresh arena, which watches no cable, and the
// red button. As a program inside a namespace: for each line `delete NAME` one whose kernel stage takes that interface away; it
// answers with the microseconds of that stage alone.
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SecretArena } from '../../src/host/arena.ts';
import { linkDeletion, listInterfaces } from '../../src/host/netlink.ts';
import { causes } from '../../src/interlock/causes.ts';
import { Interlock } from '../../src/interlock/interlock.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';
import type { StagePlan } from '../../src/interlock/stages.ts';

export type StageOrder = `delete ${string}`;

/** `link`: the name of an interface that the kernel stage removes. */
export async function zeroizeOnce(
  directory: string,
  { tpm = null, link }: { readonly tpm?: StagePlan['tpm']; readonly link?: string },
): Promise<ZeroizeOutcome['stages']> {
  using arena = SecretArena.allocate({ byteLength: 1 << 16 });
  await using interlock = await Interlock.start({
    arena,
    interfaces: ['CPU'],
    plan: {
      levels: causes.map(() => (tpm === null ? 'purge' : 'lock')),
      tpm,
      disk: { statePath: join(directory, 'lifecycle'), blobs: [] },
    },
    pollMilliseconds: 1,
    heartbeatMilliseconds: 5000,
    plannedFlapsPerHour: 3,
    onZeroized: () => {},
    onEvent: () => {},
  });
  if (link !== undefined) {
    const index = listInterfaces().find(({ name }) => name === link)?.index;
    if (index === undefined) throw new Error(`There is no interface ${link}.`);
    interlock.addKernelAction({ message: linkDeletion(index) });
  }
  const { stages } = await interlock.zeroize('operator');
  if (stages.kernel.failures > 0 || stages.tpm.result.startsWith('failed'))
    throw new Error(`A stage of the zeroize failed: ${JSON.stringify(stages)}`);
  return stages;
}

if (import.meta.main) {
  const [directory = ''] = process.argv.slice(2);
  for await (const line of createInterface({ input: process.stdin })) {
    const { kernel } = await zeroizeOnce(directory, { link: line.split(' ')[1] ?? '' });
    process.stdout.write(`${kernel.micros}\n`);
  }
}
