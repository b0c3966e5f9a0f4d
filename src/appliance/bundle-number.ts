// The number of a bundle, and that the custody log tells what becomes of each: a number of which it is silent reads as a bundle that
// somebody took away.
import { join } from 'node:path';
import type { Severity } from '../alerts/alert.ts';
import { findAside } from '../custody/aside.ts';
import type { CustodyLog } from '../custody/log.ts';
import { bundleBegun, numbersSkipped } from '../forensics/format.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { reasonOf } from '../host/failure.ts';
import type { NodeKeys } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

interface Numbered {
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly custody: CustodyLog;
  readonly keys: NodeKeys | null;
  readonly tpmTrouble?: unknown;
}

/**
 * Uses up the next number, and tells that its bundle is begun: what fails from here on is a number given up.
 * @throws Failure `custody-unwritable`.
 */
export async function beginBundle(
  node: Numbered,
  about: { readonly reason: string; readonly severity: Severity },
): Promise<number> {
  const sequence = await nextSequence(node);
  node.custody.append(bundleBegun, { sequence, ...about });
  return sequence;
}

/**
 * The TPM's counter, or a file where there is no TPM or it does not answer. A counter that has missed bundles is brought after; where it
 * is not, the custody log tells, else the bundle would contradict its own TPM.
 */
async function nextSequence({ keys, layout, custody, record, tpmTrouble }: Numbered): Promise<number> {
  const path = join(layout.directory, 'sequence');
  const last = Number(readIfPresent(path) ?? 0);
  let next = last + 1;
  const uncounted = (why: string) => custody.append('sequence-uncounted', { sequence: next, why });
  if (keys !== null) {
    try {
      const counted = await keys.nextSequence(next);
      if (counted < next) uncounted(`the counter of the TPM stands at ${counted}`);
      next = Math.max(next, counted);
    } catch (error) {
      uncounted(reasonOf(error));
    }
  } else if (record.tpm !== null) {
    uncounted(tpmTrouble === undefined ? 'the TPM is bypassed' : reasonOf(tpmTrouble));
  }
  // Counted by the TPM or in the file, and then a kill came before it was begun. The counter of a new TPM may begin anywhere.
  const from = last > 0 && !(await isTold(layout, last)) ? last : last + 1;
  if (last > 0 && from < next) custody.append(numbersSkipped, { from, to: next - 1 });
  writeDurably(path, `${next}\n`);
  return next;
}

/** Whether the custody log tells what became of a number. Of a log that is broken nobody knows, and nothing is explained away. */
async function isTold({ custody }: StateLayout, number: number): Promise<boolean> {
  const { records, problem } = await findAside(custody, { events: [bundleBegun, numbersSkipped] });
  return (
    problem !== undefined ||
    records.some(({ event, detail }) =>
      event === bundleBegun
        ? detail.sequence === number
        : Number(detail.from) <= number && number <= Number(detail.to),
    )
  );
}
