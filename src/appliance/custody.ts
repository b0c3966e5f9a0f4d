// The custody log as an operator reads it.
import { existsSync, readFileSync } from 'node:fs';
import { type ChainCheck, type CustodyRecord, checkChain } from '../custody/chain.ts';
import { unprovisioned } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { stateLayout } from './node-record.ts';

/** The whole log and what its chain says. @throws Failure `unprovisioned` where there is none. */
export function readCustody(
  config: Config,
): Omit<ChainCheck, 'records'> & { readonly records: CustodyRecord[] } {
  const { custody, directory } = stateLayout(config.node.state_dir);
  if (!existsSync(custody)) throw unprovisioned(directory);
  const { records, ...check } = checkChain(readFileSync(custody));
  return { ...check, records: [...records] };
}
