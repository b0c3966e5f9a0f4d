// What maintenance windows have left to be done: a tap may have gone in meanwhile, so the keys of the links are to be rotated, and both
// ends to be appraised again. It follows from the custody log, and from which keys the links have now; nothing else is kept.
import { createHash } from 'node:crypto';
import { type EnrolmentRecord, parseEnrolment } from '../attestation/enrolment.ts';
import type { CustodyRecord } from '../custody/chain.ts';
import { readIfPresent } from '../host/durable.ts';
import type { Config } from './config.ts';
import type { StateLayout } from './state-layout.ts';

export const wants = ['rotate', 'appraise'] as const;
export type Want = (typeof wants)[number];

export interface Asked {
  readonly what: Want;
  /** RFC 3339: the end of the first window after which it has not been done. */
  readonly since: string;
  /** Of the windows since. */
  readonly interfaces: readonly string[];
  /** In the imperative, with the commands. */
  readonly remedy: string;
}

/** Fingerprints (SHA-256 of the public half, the first 16 bytes in hex) by name of the key. */
export type LinkKeys = Readonly<Record<string, string>>;

/** In the place of a fingerprint that cannot be told. */
const unknown = 'unknown';

/** The keys that the links of this node have, from its enrolment record; none where it has no links. One that is not to be read there is `unknown`. */
export function linkKeysOf(config: Config, layout: StateLayout): LinkKeys {
  const enrolled = config.links.length === 0 ? [] : enrolledKeys(layout.enrolment);
  return Object.fromEntries(
    config.links.map(({ key }) => {
      const publicKey = enrolled.find(({ name }) => name === key)?.publicKey;
      return [key, publicKey === undefined ? unknown : fingerprintOf(publicKey)];
    }),
  );
}

function enrolledKeys(path: string): EnrolmentRecord['keys'] {
  try {
    return parseEnrolment(readIfPresent(path) ?? '').keys;
  } catch {
    return []; // Whatever is wrong with it, a window must come to its end.
  }
}

const fingerprintOf = (publicKey: string): string =>
  createHash('sha256').update(publicKey).digest('hex').slice(0, 32);

/** Events of the custody log that `askedOf` looks at. */
export const askingEvents: ReadonlySet<string> = new Set([
  'maintenance-ended',
  'maintenance-settled',
  'deprovisioned',
]);

/** What of a record is looked at. */
export type Asking = Pick<CustodyRecord, 'event' | 'time' | 'detail'>;

interface Ended {
  readonly time: string;
  readonly interfaces: readonly string[];
  /** Undefined in records of a time before it was noted: then any key counts as one that the links had. */
  readonly keys: LinkKeys | undefined;
}

/** Pure. `tpm`: whether the node has one; without it there is nothing that could be appraised. */
export function askedOf(
  records: Iterable<Asking>,
  { keys, tpm, enrolment }: { readonly keys: LinkKeys; readonly tpm: boolean; readonly enrolment: string },
): Asked[] {
  const open: Record<Want, Ended[]> = { rotate: [], appraise: [] };
  for (const { event, time, detail } of records) {
    for (const want of wants) {
      if (event === 'deprovisioned' || (event === 'maintenance-settled' && detail.what === want))
        open[want] = [];
      else if (event === 'maintenance-ended' && Array.isArray(detail.ask) && detail.ask.includes(want))
        open[want].push(endedOf(time, detail));
    }
  }
  // Fails closed: of a key that was unknown then, or is now, nobody can tell that it is another one.
  const had = ({ keys: then }: Ended, name: string): boolean =>
    then === undefined ||
    then[name] === keys[name] ||
    (name in then && [then[name], keys[name]].includes(unknown));
  const old = Object.keys(keys).filter((name) => open.rotate.some((ended) => had(ended, name)));
  const rotate = open.rotate.filter((ended) => old.some((name) => had(ended, name)));
  return [
    ...asked('rotate', rotate, rotation(old, tpm, enrolment)),
    ...asked('appraise', tpm ? open.appraise : [], appraisal),
  ];
}

function asked(what: Want, windows: readonly Ended[], remedy: string): Asked[] {
  const [first] = windows;
  if (first === undefined) return [];
  return [
    { what, since: first.time, interfaces: [...new Set(windows.flatMap((each) => each.interfaces))], remedy },
  ];
}

const rotation = (names: readonly string[], tpm: boolean, enrolment: string): string =>
  tpm
    ? `Stop the node, run \`esoteric-appliance provision ${names.map((name) => `--rotate ${name}`).join(' ')}\`, start it, and give ${enrolment} to its peers.`
    : `Restart the node: without a TPM its keys are new at each start. Give ${enrolment} to its peers.`;

const appraisal =
  'For each peer of these links run `esoteric-appliance attest appraise --enrolment PEER.json -- ssh root@PEER esoteric-appliance attest`, and have the peers do the same with this node; then `esoteric-appliance maintenance settle appraise --reason TEXT`.';

function endedOf(time: string, { interfaces, keys }: CustodyRecord['detail']): Ended {
  const known = typeof keys === 'object' && keys !== null;
  return {
    time,
    interfaces: Array.isArray(interfaces) ? interfaces.map(String) : [],
    keys: known ? (keys as LinkKeys) : undefined,
  };
}
