// What this process does to itself before it holds a secret: no core dumps, not dumpable, not traceable but by root.
import { prctl, setrlimit } from './libc.ts';

const PR_SET_DUMPABLE = 4;
const RLIMIT_CORE = 4;

/** Returns what could not be hardened, as sentences; empty when all held. */
export function hardenProcess(): string[] {
  const failed: string[] = [];
  if (setrlimit(RLIMIT_CORE, new BigUint64Array([0n, 0n])) !== 0)
    failed.push('core dumps could not be disabled');
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) !== 0) failed.push('the process could not be made undumpable');
  return failed;
}
