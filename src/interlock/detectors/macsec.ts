// Integrity failures of MACsec (IEEE 802.1AE, 10.7.9), from `ip -json -statistics macsec show`. The node makes no MACsec links yet; it
// looks at those that others have made in its network namespace, and a zeroize takes them along, for the kernel holds their keys.
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

/** The indices of the MACsec interfaces of this network namespace, as sysfs shows them: asking `ip` takes a process. */
export function macsecInterfaces(sysfs: string): number[] {
  return readdirSync(sysfs).flatMap((name) => {
    try {
      const about = readFileSync(`${sysfs}/${name}/uevent`, 'latin1');
      const [, index] = /^IFINDEX=(\d+)$/m.exec(about) ?? [];
      return index !== undefined && /^DEVTYPE=macsec$/m.test(about) ? [Number(index)] : [];
    } catch {
      return []; // It has just gone, or is no interface.
    }
  });
}

/** How many more there are. A counter that went back is one of an interface that was made anew: all of it counts. */
export const rise = (before: number, now: number): number => (now >= before ? now - before : now);
