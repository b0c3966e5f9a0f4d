// How long bundles are kept on the node: within the limits of `[forensics]`, and never so that one goes silently. What was delivered
// goes first, then what matters least, then what is oldest.
import { readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Severity, severities } from '../alerts/alert.ts';
import { toGiveUp, type Waiting, type WhyGivenUp } from '../alerts/limits.ts';
import { bundleGivenUp, bundleMade, sigstoreName } from '../forensics/format.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { Config } from './config.ts';
import { bundleDelivered, type Recording } from './receipts.ts';

const day = 86_400_000;
/** Of a bundle that was made before its severity was recorded, or by hand. */
const ordinary: Severity = 'notice';

interface KeptBundle extends Waiting {
  readonly name: string;
  readonly sequence: number;
  readonly sha256: unknown;
  /** Recorded so, although its files are still there: they could not be removed, or the node was killed before. */
  readonly givenUp: boolean;
}

export interface GoneBundle extends Pick<KeptBundle, 'name' | 'copied'> {
  readonly why: WhyGivenUp;
}

/** What lay there when nothing had to go, although limits are exceeded: a last large one, or old security events. */
export class Settled {
  #state: string | undefined;

  /** The same files, none of which has grown too old since, by the same custody log. */
  is(state: string): boolean {
    return state === this.#state;
  }

  remember(state: string): void {
    this.#state = state;
  }
}

/**
 * Removes what goes beyond the limits, each recorded first, once, and told. @returns what was removed.
 * @throws Failure `bundle-unremovable`, when all others are removed.
 */
export async function limitBundles(
  recording: Recording & { readonly config: Config },
  now = Date.now(),
  settled = new Settled(),
): Promise<GoneBundle[]> {
  const { config, layout, custody } = recording;
  const { keep_bytes: bytes, keep_days: days } = config.forensics;
  const files = filesIn(layout.bundles);
  const total = files.reduce((sum, file) => sum + file.bytes, 0);
  const limits = { bytes, ageMilliseconds: days * day };
  // The log is read only where something may have to go.
  const old = files.map(({ at }) => now - at > limits.ageMilliseconds);
  if (total <= limits.bytes && !old.includes(true)) return [];
  const state = JSON.stringify([files, old, custody.head().sequence]);
  if (settled.is(state)) return [];
  const removed: GoneBundle[] = [];
  const stuck: string[] = [];
  const leaving = toGiveUp(await describe(files, recording), limits, now);
  if (leaving.length === 0) settled.remember(state);
  for (const { item, why } of leaving) {
    const { name, sequence, sha256, copied, givenUp } = item;
    if (!givenUp)
      custody.append(bundleGivenUp, { sequence, sha256: sha256 ?? null, cause: why, delivered: copied });
    try {
      for (const file of [name, sigstoreName(name)]) rmSync(join(layout.bundles, file), { force: true });
    } catch (error) {
      stuck.push(`${name} (${reasonOf(error)})`);
      continue;
    }
    tell(recording, item, why);
    removed.push({ name, copied, why });
  }
  if (stuck.length > 0) {
    throw new Failure('bundle-unremovable', `What was given up cannot be removed: ${stuck.join(', ')}.`, {
      kept: 'That it was given up is recorded; all else that had to go is removed.',
      remedy: `Make ${layout.bundles} writable; look for an immutable attribute (lsattr).`,
    });
  }
  return removed;
}

export const goneSentence = ({ name, copied, why }: GoneBundle): string =>
  `Forensic bundle ${name} is no longer kept (${why}). ${copied ? 'A copy lies where it was delivered.' : 'It was delivered nowhere.'}`;

function tell({ record, announcer }: Recording, { name, sequence, copied }: KeptBundle, why: WhyGivenUp) {
  const message = goneSentence({ name, copied, why });
  announcer?.event('BUNDLE_GIVEN_UP', message, { archive: name, why, delivered: copied });
  if (copied) return;
  announcer?.alert({
    key: `${record.node}-bundle-given-up-${sequence}`,
    severity: 'error',
    title: `${record.node}: forensic bundle ${sequence} was given up`,
    body: `${message} Raise forensics.keep_${why === 'size' ? 'bytes' : 'days'}, or see why nothing is delivered: \`esoteric-appliance upload status\`.`,
    facts: { archive: name, why },
  });
}

/** Archives, each with the bytes of both files. */
function filesIn(directory: string): { name: string; sequence: number; bytes: number; at: number }[] {
  return readdirSync(directory).flatMap((name) => {
    const sequence = /-(\d{6,15})-\d{8}T\d{6}Z\.tar\.gz(?:\.age)?$/.exec(name)?.[1];
    const found = statSync(join(directory, name), { throwIfNoEntry: false });
    if (sequence === undefined || found === undefined) return [];
    const signature = statSync(join(directory, sigstoreName(name)), { throwIfNoEntry: false });
    const bytes = found.size + (signature?.size ?? 0);
    return [{ name, sequence: Number(sequence), bytes, at: found.mtimeMs }];
  });
}

/** As the custody log tells of them. */
async function describe(
  files: ReturnType<typeof filesIn>,
  { custody, layout }: Recording,
): Promise<KeptBundle[]> {
  const here = `${pathToFileURL(layout.bundles).href}/`;
  const told = new Map<number, Pick<KeptBundle, 'severity' | 'copied' | 'sha256' | 'givenUp'>>();
  const events = [bundleMade, bundleDelivered, bundleGivenUp];
  const bundles = files.map(({ sequence }) => sequence);
  for (const { event, detail } of await custody.recall({ events, bundles })) {
    const sequence = Number(detail.sequence);
    if (event === bundleMade) {
      const severity = severities.find((name) => name === detail.severity) ?? ordinary;
      told.set(sequence, { severity, copied: false, sha256: detail.sha256, givenUp: false });
      continue;
    }
    const made = told.get(sequence);
    if (made === undefined) continue;
    if (event === bundleDelivered && !String(detail.where).startsWith(here))
      told.set(sequence, { ...made, copied: true });
    else if (event === bundleGivenUp) told.set(sequence, { ...made, givenUp: true });
  }
  // One that the log does not tell of is being made just now, or its node was killed then: it stays.
  return files.flatMap((file) => {
    const made = told.get(file.sequence);
    return made === undefined ? [] : [{ ...file, ...made }];
  });
}
