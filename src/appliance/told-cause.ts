// What an observed cause that is only told says to people: what was seen, and where to look. Its value means another thing in each.
import { type Cause, isObserved, type ObservedCause } from '../interlock/causes.ts';

/** Pure. `value` as the probes have it (src/appliance/probes.ts). */
const words: Readonly<Record<ObservedCause, (value: string) => readonly [seen: string, look: string]>> = {
  prediction: (value) => [
    `a plug-in foresees an attack, with a confidence of ${value}`,
    'Which plug-in it was is in `esoteric-appliance custody show`.',
  ],
  'debugger-attached': (value) => [
    `${value} threads of the daemon are traced`,
    'Whoever traces it reads its keys. `grep TracerPid /proc/*/task/*/status` names the tracer.',
  ],
  'clock-set-back': (value) => [
    `the clock was set back by ${value} s`,
    'Find out who set it. Around that time, go by the order of the custody log and not by times.',
  ],
  'snapshot-restored': () => [
    'the virtual machine was restored from a snapshot, or copied',
    'Two machines may hold the same keys: find the other one, and rotate the keys.',
  ],
  'entropy-failed': () => [
    'no credited noise source is healthy, and the last seed is used up: random output refuses',
    'See `esoteric-appliance pool`.',
  ],
  'wireguard-changed': (value) => [
    `keys or peers of WireGuard links are not those that the node set (${value} differ)`,
    'Compare `wg show` with the configuration; a restart of the node sets them anew.',
  ],
  'macsec-integrity': (value) => [
    `${value} frames failed their integrity check on MACsec links`,
    'See `ip -statistics macsec show`: somebody may inject frames.',
  ],
  'tpm-authorization': (value) => [
    `the TPM has counted ${value} wrong authorizations since the node started`,
    'Somebody guesses, or a program is misconfigured. `esoteric-appliance status` shows how many are left until the TPM locks out.',
  ],
  'tpm-reset': () => [
    'the TPM was reset while the node ran',
    'Only its pins or a second power supply do that: look at the machine.',
  ],
  'tpm-changed': () => [
    'another storage root key answers',
    'It is not the TPM that this node was provisioned with: look at the machine.',
  ],
};

const rounded = (value: number): string => `${Number(value.toPrecision(3))}`;

export function wordsOf(cause: Cause, value: number): { readonly seen: string; readonly look: string } {
  const [seen, look] = isObserved(cause) ? words[cause](rounded(value)) : [`value ${value}`, ''];
  return { seen, look };
}
