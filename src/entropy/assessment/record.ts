// What an assessment of a source on this machine found, and the credit that follows: never more than the least of the assessment, the
// restart test and the policy (SP 800-90B section 3.1.4.2, 3.1.5).
import { createHash } from 'node:crypto';
import { cpus, release } from 'node:os';
import { readIfPresent } from '../../host/durable.ts';
import type { SourceCredit } from '../credit.ts';
import type { RestartResult } from './restart.ts';

export interface AssessmentRecord {
  readonly format: 1;
  readonly source: string;
  /** RFC 3339. */
  readonly made: string;
  /** `machineNow` of where it was made. */
  readonly machine: string;
  readonly kernel: string;
  /** `full`: by `probe`, of a million samples and a thousand restarts of a thousand. `brief`: of fewer, as at the start of a pool. */
  readonly kind: 'full' | 'brief';
  readonly samples: number;
  /** Bits of min-entropy per sample, the least of all estimators. */
  readonly minEntropy: number;
  readonly estimates: Readonly<Record<string, number>>;
  readonly restart: RestartResult;
}

/** Names this machine as far as timing depends on it: its identity, processor and number of cores. */
export function machineNow(): string {
  const identity = readIfPresent('/etc/machine-id') ?? '';
  const cores = cpus();
  return createHash('sha256')
    .update(`${identity}\n${cores[0]?.model ?? ''}\n${cores.length}`)
    .digest('hex')
    .slice(0, 16);
}

export const kernelNow = (): string => release();

/** Bits counted for one sample: 0 without an assessment. */
export function creditInUse(policy: SourceCredit, record: AssessmentRecord | undefined): number {
  if (record === undefined || !record.restart.passed) return 0;
  return Math.min(policy.credit, record.minEntropy, record.restart.minEntropy);
}

/** A source that is worth next to nothing is still tested, with cutoffs for this. */
const leastExpected = 0.02;

/** Bits of min-entropy per sample that the health tests expect: what was assessed, where that is less than the policy assumes. */
export function expectedEntropy(policy: SourceCredit, record: AssessmentRecord | undefined): number {
  if (record === undefined) return policy.expected;
  return Math.max(leastExpected, Math.min(policy.expected, record.minEntropy));
}
