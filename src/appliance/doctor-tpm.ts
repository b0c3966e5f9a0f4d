// What `doctor` says of the TPM: whether it is the node's own, and whatever provisioning would refuse. Changes nothing in it.
import { readIfPresent } from '../host/durable.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { pinnedStorageRoot } from '../keys/anchors.ts';
import { openTpm } from '../tpm/context.ts';
import type { TpmProperties } from '../tpm/properties.ts';
import { measuredPcrs, requireUsable } from './anchoring.ts';
import type { Config } from './config.ts';
import { type Finding, missing, ok } from './finding.ts';
import { readNodeRecord } from './node-record.ts';
import { stateLayout } from './state-layout.ts';

export async function checkTpm(config: Config): Promise<Finding[]> {
  if (config.tpm.mode === 'none') {
    return [{ check: 'TPM', result: 'bypassed', detail: 'bypassed by --no-tpm' }];
  }
  try {
    await using tpm = await openTpm({ tcti: config.tpm.tcti });
    const properties = await tpm.properties();
    const { manufacturer, firmware, simulator, lockout } = properties;
    const layout = stateLayout(config.node.state_dir);
    const record = readIfPresent(layout.node) === undefined ? undefined : readNodeRecord(layout);
    const anchors = record?.tpm ?? undefined;
    const named = `${manufacturer} ${firmware}${simulator ? ' (a simulator)' : ''}`;
    return [
      await checked('TPM', async () => {
        await using _srk = anchors && (await pinnedStorageRoot(tpm, anchors));
        return anchors === undefined ? named : `${named}, the one that ${record?.node} was provisioned with`;
      }),
      await checked('TPM hierarchies', async () => {
        // The endorsement hierarchy is needed for the first provisioning alone.
        requireUsable(properties, anchors && ['owner']);
        return 'switched on, without an authorization';
      }),
      await checked('measured boot', async () => {
        await measuredPcrs(tpm, config.tpm, false);
        return `something is in PCR ${config.tpm.pcrs.join(', ')} of the SHA-256 bank`;
      }),
      checkLockout(lockout),
    ];
  } catch (error) {
    return [refusal('TPM', error)];
  }
}

async function checked(check: string, examine: () => Promise<string>): Promise<Finding> {
  try {
    return ok(check, await examine());
  } catch (error) {
    return refusal(check, error);
  }
}

function refusal(check: string, error: unknown): Finding {
  const { remedy = '' } = error instanceof Failure ? error : {};
  return missing(check, reasonOf(error), remedy);
}

/** Wrong authorizations and what is forgiven (TPM 2.0 Library, Part 1, section 19.8). Reading it counts nothing. */
function checkLockout({ counter, max, interval, inLockout }: TpmProperties['lockout']): Finding {
  const forgiven = interval === 0 ? 'none is forgiven' : `one is forgiven every ${interval} s`;
  const tries = `${counter} of ${max} wrong authorizations, ${forgiven}`;
  if (!inLockout) return ok('TPM lockout', tries);
  return missing(
    'TPM lockout',
    `locked out: ${tries}. What counts wrong tries refuses; what this program makes does not`,
    interval === 0
      ? 'Clear it with the lockout authorization: `tpm2_dictionarylockout --clear-lockout`.'
      : `Wait ${interval} s, or clear it with the lockout authorization: \`tpm2_dictionarylockout --clear-lockout\`.`,
  );
}
