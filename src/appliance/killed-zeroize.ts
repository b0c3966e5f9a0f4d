// What a zeroize leaves to be told whose process was killed before it could: an alert and a certificate. The start of the node that
// comes next makes up for it, or the operator's `provision`, whichever comes first.
import { reasonOf } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { levels } from '../interlock/causes.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { tellInterrupted } from './incident.ts';
import { type Finished, failedStages } from './interrupted.ts';
import { NodeKeys } from './node-keys.ts';
import { recordPast } from './record.ts';
import { certifyZeroize, heldKeys, isCertified } from './zeroize-certificate.ts';

type KilledNode = Parameters<typeof tellInterrupted>[2] & { readonly config: Config };

/**
 * Alerts, and makes the certificate, unless both was done; `finished` is what has just been done of what was left over. Nothing to do
 * after a purge, which a restart ends. Never rejects.
 */
export async function makeUpForKilled(node: KilledNode, finished: Finished | undefined): Promise<void> {
  const lifecycle = new Lifecycle(node.layout.directory);
  const { state, level, cause = 'unknown' } = lifecycle.read();
  if (state !== 'zeroized' || level === 'purge') return;
  tellInterrupted(cause, finished !== undefined || lifecycle.endedUncleanly, node);
  await certifyKilled(node, lifecycle, finished);
}

/** Of a zeroize that had been interrupted: what was left over has been tried just now. */
export function tellFinished(node: Pick<KilledNode, 'custody' | 'announcer'>, finished: Finished): void {
  const { cause, level, stages } = finished;
  const failed = failedStages(stages);
  recordPast(node, 'zeroize-finished', finished);
  const how = failed.length === 0 ? 'its stages are finished now' : `still left over: ${failed.join(', ')}`;
  node.announcer.event('ZEROIZE_FINISHED', `A zeroize (${cause}, ${level}) had been interrupted; ${how}.`, {
    cause,
    level,
    failed,
  });
}

async function certifyKilled(
  node: KilledNode,
  lifecycle: Lifecycle,
  finished: Finished | undefined,
): Promise<void> {
  const { config, record, announcer } = node;
  if (finished === undefined && isCertified(node.custody)) return;
  const { cause = 'state-unparsable', level: kept, since = utcNow() } = lifecycle.read();
  const level = levels.find((known) => known === kept) ?? 'lock';
  const keys = record.tpm === null ? null : await NodeKeys.open(config, record.tpm).catch(() => null);
  const told = {
    at: since,
    cause,
    interface: null,
    level,
    also: [],
    detectedAtMicros: null,
    stages: finished?.stages ?? null,
    interrupted: true,
  };
  try {
    const held = heldKeys(record, config.links);
    await certifyZeroize({ ...node, keys, held, retained: hasCredentials(config) }, told);
  } catch (error) {
    const why = reasonOf(error);
    announcer.event('AFTERMATH_FAILED', `After the zeroize, the certificate failed: ${why}`, {
      step: 'certificate',
      why,
    });
  } finally {
    await keys?.[Symbol.asyncDispose]();
  }
}

/** Whether a courier holds delivery credentials, which a zeroize leaves alone. */
export const hasCredentials = ({ alerts, forensics }: Config): boolean =>
  alerts.channels.length > 0 || forensics.upload !== '';
