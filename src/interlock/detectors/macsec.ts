// Integrity failures of a MACsec link (IEEE 802.1AE, 10.7.9), from `ip -json -statistics macsec show`. There are no MACsec links
// yet: this is what their telemetry will be held against.

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

/** How many more there are. A counter that went back is one of an interface that was made anew: all of it counts. */
export const rise = (before: number, now: number): number => (now >= before ? now - before : now);
