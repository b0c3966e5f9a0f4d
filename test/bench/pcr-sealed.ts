// What the benchmarks named unseal-… open: 32 bytes sealed to PCRs, and how a node opens such a thing: load, policy session salted to
// the storage root key with parameter encryption, PolicyPCR, unseal into the arena.
import { randomFillSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { ObjectBlob } from '../../src/tpm/object.ts';
import { sealedData } from '../../src/tpm/templates.ts';
import { Writer } from '../../src/tpm/wire.ts';
import type { OpenBenchTpm } from './bench-tpm.ts';

const pcrs = [0, 7, 14] as const;
/** As tpm2-tools and the C program take them. */
export const pcrList = pcrs.join(',');

/** Besides, in two files, in the form of tpm2-tools. */
export interface SealedFiles {
  readonly blob: ObjectBlob;
  readonly publicPath: string;
  readonly privatePath: string;
}

export async function sealToPcrs({ tpm, srk, arena, path }: OpenBenchTpm): Promise<SealedFiles> {
  using secret = arena.take(32, 'secret');
  randomFillSync(secret.bytes);
  await using trial = await tpm.startPolicySession(srk, 'trial');
  await trial.policyPcr(pcrs);
  const blob = await tpm.create(srk, sealedData(await trial.digest()), secret);
  const [publicPath, privatePath] = [path('sealed.pub'), path('sealed.priv')];
  writeFileSync(publicPath, new Writer().sized(blob.public).done());
  writeFileSync(privatePath, blob.private);
  return { blob, publicPath, privatePath };
}

export async function unsealByPcrs(
  { tpm, srk, arena }: Pick<OpenBenchTpm, 'tpm' | 'srk' | 'arena'>,
  blob: ObjectBlob,
): Promise<void> {
  await using object = await tpm.load(srk, blob);
  await using session = await tpm.startPolicySession(srk, 'policy');
  await session.policyPcr(pcrs);
  using _secret = await tpm.unseal(object, session, arena, 'secret');
}
