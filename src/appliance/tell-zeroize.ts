// The events of a zeroize, told once its stages have run.
import type { Cause, ZeroizeLevel } from '../interlock/causes.ts';
import type { ZeroizeOutcome } from '../interlock/outcome.ts';
import type { Announcer } from './announce.ts';

/** Causes that are a lost interface. */
const losses: readonly Cause[] = [
  'link-flap',
  'interface-down',
  'operstate-lost',
  'interface-removed',
  'interface-moved',
  'interface-renamed',
  'interface-address-changed',
  'window-exceeded',
  'window-expired-down',
];

export function tellZeroize(announcer: Announcer, outcome: ZeroizeOutcome): void {
  const { cause, interface: name, level, also, stages } = outcome;
  const where = name === null ? '' : ` on ${name}`;
  if (losses.includes(cause))
    announcer.event('LINK_FLAP_UNPLANNED', `Unplanned: ${cause}${where}.`, { interface: name, cause });
  announcer.event('ZEROIZE', `Zeroized (${level}): ${cause}${where}.`, {
    cause,
    interface: name,
    level,
    also,
    stages,
  });
  const { micros } = stages.memory;
  announcer.event('BUFFER_PURGE', `Pool and generator were wiped in ${micros} us.`, { micros });
  tellTpm(announcer, outcome);
}

/** Of a node that was zeroized before. */
export function tellDeepened(announcer: Announcer, from: ZeroizeLevel, outcome: ZeroizeOutcome): void {
  const { level, stages } = outcome;
  announcer.event('ZEROIZE_DEEPENED', `The zeroize was taken from ${from} to ${level}.`, {
    from,
    level,
    stages,
  });
  tellTpm(announcer, outcome);
}

function tellTpm(announcer: Announcer, { stages }: ZeroizeOutcome): void {
  const { result, micros: took } = stages.tpm;
  if (result === 'done') announcer.event('TPM_LOCKED', `The TPM is locked, in ${took} us.`, { micros: took });
  else if (result.startsWith('failed'))
    announcer.event('TPM_LOCK_FAILED', `The TPM stage of the zeroize ${result}.`, { result });
}
