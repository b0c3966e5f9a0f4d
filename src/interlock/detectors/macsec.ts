// Integrity failures of MACsec (IEEE 802.1AE, 10.7.9), from `ip -json -statistics macsec show`. The node makes no MACsec links yet; it
// looks at those that others have made in its network namespace.
import { readdirSync, readFileSync } from 'node:fs';

/** Received frames that failed: a wrong tag, no association, replayed. Frames without a tag at all are in here too. */
const bad = /^(InPkts(NotValid|BadTag|NoSCI|NotUsingSA|Invalid|Late)|InPktsNoTag)$/;

/** All counters of failed frames below `value`, added up. */
export function integrityFailures(value: unknown): number {
  if (Array.isArray(value)) return value.reduce((sum: number, each) => sum + integrityFailures(each), 0);
  if (typeof value !== 'object' || value === null) return 0;
  return Object.entries(value).reduce((sum, [name, each]) => {
    if (typeof each !== 'number') return sum + integrityFailures(each);
    return bad.test(name) ? sum + each : sum;
  }, 0);
}

/** Whether there is a MACsec interface, as sysfs shows interfaces: asking `ip` takes a process. */
export function hasMacsec(sysfs: string): boolean {
  return readdirSync(sysfs).some((name) => {
    try {
      return /^DEVTYPE=macsec$/m.test(readFileSync(`${sysfs}/${name}/uevent`, 'latin1'));
    } catch {
      return false; // It has just gone, or is no interface.
    }
  });
}

/** How many more there are. A counter that went back is one of an interface that was made anew: all of it counts. */
export const rise = (before: number, now: number): number => (now >= before ? now - before : now);
