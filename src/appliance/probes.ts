// What a node looks at from time to time: its own threads, the clock, the virtual machine, noise, links, MACsec, the TPM.
import { type EntropyStatus, noiseHasFailed } from '../entropy/status.ts';
import { requireChild } from '../host/child.ts';
import { bootMilliseconds } from '../host/time.ts';
import { Uevents } from '../host/uevents.ts';
import { referenceOf, setBack } from '../interlock/detectors/clock.ts';
import { tracedThreads } from '../interlock/detectors/debugger.ts';
import { integrityFailures, macsecInterfaces, rise } from '../interlock/detectors/macsec.ts';
import { announcesGeneration, generationIn } from '../interlock/detectors/snapshot.ts';
import { defaultSysfs } from '../interlock/watched.ts';
import { openTpm } from '../tpm/context.ts';
import type { Config } from './config.ts';
import { entropyEvents } from './entropy-events.ts';
import type { Probe, Seen } from './lookout.ts';
import type { TpmStanding } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';

export interface ProbedNode {
  readonly config: Config;
  readonly record: NodeRecord;
  /** Of before the first unseal; null without a TPM. */
  readonly tpmAtStart: TpmStanding | null;
  readonly entropy: () => EntropyStatus | undefined;
  readonly linkChanges: () => Promise<number>;
  /** A zeroize removes this interface, by its index, as well. */
  readonly takeAlong: (index: number) => void;
}

/** Also what they hold open. */
export function probesOf(
  node: ProbedNode,
  onEvent: (...event: ReturnType<typeof entropyEvents>[number]) => void,
): Disposable & { readonly probes: Probe[] } {
  const { config, record, tpmAtStart, entropy, linkChanges, takeAlong } = node;
  const often = config.interlock.look_milliseconds;
  const uevents = new Uevents();
  const probes: Probe[] = [
    { name: 'threads', everyMilliseconds: often, look: () => ({ 'debugger-attached': tracedThreads() }) },
    { name: 'clock', everyMilliseconds: often, look: clockProbe() },
    {
      name: 'generation',
      everyMilliseconds: often,
      look: generationProbe(config.interlock.generation_file, uevents),
    },
    {
      name: 'noise',
      everyMilliseconds: often,
      look: noiseProbe(entropy, onEvent),
    },
    { name: 'MACsec', everyMilliseconds: 2 * often, look: macsecProbe(takeAlong) },
  ];
  if (config.links.length > 0) {
    const look = async () => ({ 'wireguard-changed': await linkChanges() });
    probes.push({ name: 'links', everyMilliseconds: 2 * often, look });
  }
  if (record.tpm !== null && tpmAtStart !== null) {
    const look = tpmProbe(config.tpm.tcti, record.tpm, tpmAtStart);
    probes.push({ name: 'TPM', everyMilliseconds: 10 * often, look });
  }
  return { probes, [Symbol.dispose]: () => uevents[Symbol.dispose]() };
}

function noiseProbe(
  entropy: ProbedNode['entropy'],
  onEvent: (...event: ReturnType<typeof entropyEvents>[number]) => void,
): Probe['look'] {
  let before: EntropyStatus | undefined;
  return () => {
    const now = entropy();
    if (now === undefined) return {};
    for (const event of entropyEvents(before, now)) onEvent(...event);
    before = now;
    return { 'entropy-failed': noiseHasFailed(now) ? 1 : 0 };
  };
}

function clockProbe(): Probe['look'] {
  const now = () => ({ real: Date.now(), boot: bootMilliseconds() });
  let reference = referenceOf(now());
  return () => {
    const seen = setBack(reference, now());
    reference = seen.reference;
    return { 'clock-set-back': seen.seconds };
  };
}

/** Once restored, restored for good: the value stays. */
function generationProbe(path: string, uevents: Uevents): Probe['look'] {
  const first = path === '' ? '' : generationIn(path);
  let restored = false;
  return () => {
    for (const event of uevents.take()) restored ||= announcesGeneration(event);
    restored ||= path !== '' && generationIn(path) !== first;
    return { 'snapshot-restored': restored ? 1 : 0 };
  };
}

/**
 * Frames that failed since the last look, of all MACsec interfaces of this network namespace. Each of them is told of once, for the
 * kernel holds its keys.
 */
export function macsecProbe(
  found: (index: number) => void,
  sysfs = defaultSysfs,
  ask: () => Promise<string> = async () =>
    (await requireChild('ip', ['-json', '-statistics', 'macsec', 'show'])).stdout.toString(),
): () => Promise<Seen> {
  const known = new Set<number>();
  let before: number | undefined;
  return async () => {
    const there = macsecInterfaces(sysfs);
    for (const index of there.filter((one) => !known.has(one))) {
      known.add(index); // First: one that cannot be taken along is told once, and its counters are looked at all the same.
      found(index);
    }
    if (there.length === 0) return {};
    const now = integrityFailures(JSON.parse(await ask()));
    const more = before === undefined ? 0 : rise(before, now);
    before = now;
    return { 'macsec-integrity': more };
  };
}

/** Against what the TPM said before it unsealed anything. A TPM that is silent says nothing: that is told, and the stages need it anyway. */
function tpmProbe(tcti: string, anchors: NonNullable<NodeRecord['tpm']>, first: TpmStanding): Probe['look'] {
  return async () => {
    await using tpm = await openTpm({ tcti });
    const { handle, name } = anchors.srk;
    const there = (await tpm.persistentHandles()).includes(handle);
    const present = there ? Buffer.from((await tpm.readPublic(handle)).name).toString('hex') : 'none';
    const { lockout, resetCount } = await tpm.properties();
    return {
      'tpm-changed': present === name ? 0 : 1,
      'tpm-reset': Math.abs(resetCount - first.resetCount),
      'tpm-authorization': Math.max(0, lockout.counter - first.failures),
    };
  };
}
