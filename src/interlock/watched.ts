// Which interfaces of this network namespace are watched: those named, all physical ones for `any`, none for `CPU`.
import { readFileSync } from 'node:fs';
import { Failure } from '../host/failure.ts';
import { type Interface, listInterfaces } from '../host/netlink.ts';
import { watchedLimit } from './board.ts';

/**
 * The interfaces that the names stand for, each once.
 * @throws Failure `interface-missing`, `interfaces-too-many`.
 */
export function watchedInterfaces(names: readonly string[], sysfs = defaultSysfs): Interface[] {
  const present = listInterfaces();
  const named = names.flatMap((name) => {
    if (/^CPU(\[\d+\]|\d+)?$/.test(name)) return [];
    if (name === 'any') return present.filter((link) => isPhysical(link.name, sysfs));
    const found = present.find((link) => link.name === name);
    if (found === undefined) throw missing(name, present);
    return [found];
  });
  const chosen = [...new Set(named)];
  if (chosen.length > watchedLimit) {
    throw new Failure(
      'interfaces-too-many',
      `${chosen.length} interfaces are to be watched; ${watchedLimit} can be.`,
    );
  }
  return chosen;
}

/** Where the kernel shows interfaces and what is behind them. */
export const defaultSysfs = '/sys/class/net';

/** An interface with a device behind it, as sysfs shows it. */
export function isPhysical(name: string, sysfs: string): boolean {
  try {
    readFileSync(`${sysfs}/${name}/device/uevent`);
    return true;
  } catch {
    return false;
  }
}

function missing(name: string, present: readonly Interface[]): Failure {
  return new Failure('interface-missing', `There is no interface "${name}" here.`, {
    kept: 'No key has been unsealed.',
    remedy: `Name one of: ${present.map((link) => link.name).join(', ')} (node.interfaces, or -I).`,
  });
}
