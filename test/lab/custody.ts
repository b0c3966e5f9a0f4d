// The custody log as tests look at it.
import { existsSync, readFileSync } from 'node:fs';
import { anchorsOf, StandingWalk } from '../../src/custody/anchor.ts';
import { type ChainCheck, hashOf } from '../../src/custody/chain.ts';
import { segmentsOf } from '../../src/custody/segments.ts';

/** The bytes of all its files, one after the other. */
export const wholeLog = (path: string): Buffer =>
  Buffer.concat(
    [...segmentsOf(path), path].filter((file) => existsSync(file)).map((file) => readFileSync(file)),
  );

/** How many of the extensions that a log asks for an index has had; undefined where it holds something that the log does not explain. */
export function anchoredSoFar(chain: ChainCheck, held: Uint8Array): number | undefined {
  const walk = new StandingWalk(held);
  for (const record of chain.records) walk.note(record, hashOf(chain, record.sequence) ?? '');
  const { followed } = walk.standing;
  if (followed === undefined || followed === null) return followed === null ? 0 : undefined;
  return anchorsOf(chain).findIndex(({ sequence }) => sequence === followed.sequence) + 1;
}
