// What a zeroize of this node will do at the TPM and on disk, made ready before the first unseal.
import { causes } from '../interlock/causes.ts';
import { consequenceOf, type InterlockPolicy } from '../interlock/policy.ts';
import type { StagePlan, TpmCommand } from '../interlock/stages.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import { sealedKeyPath } from '../keys/sealed.ts';
import { marshalNvIncrement, marshalNvUndefine, marshalPcrExtend, type RawChannel } from '../tpm/raw.ts';
import type { Config } from './config.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

/** The TPM stage gives up after this; the stages after it go on. */
const tpmStageMilliseconds = 500;
/** What the cap PCR is extended with: SHA-256 of nothing that anyone would extend by chance. */
const capDigest: Uint8Array = new Uint8Array(
  await crypto.subtle.digest('SHA-256', new TextEncoder().encode('esoteric-appliance/cap/1')),
);

/** `channel`: how the interlock's thread reaches the TPM; null without one. */
export function stagePlan(node: {
  readonly config: Config;
  readonly record: NodeRecord;
  readonly layout: StateLayout;
  readonly policy: InterlockPolicy;
  readonly channel: RawChannel | null;
}): StagePlan {
  const { config, record, layout, policy, channel } = node;
  return {
    levels: causes.map((cause) => consequenceOf(policy, cause, record.role, config.interlock.level).level),
    tpm:
      channel === null || record.tpm === null
        ? null
        : {
            channel,
            commands: tpmCommands(record.tpm),
            timeoutMilliseconds: tpmStageMilliseconds,
          },
    disk: {
      statePath: new Lifecycle(layout.directory).path,
      blobs: [
        ...(record.tpm === null ? [] : record.keys.map(({ name }) => sealedKeyPath(layout.directory, name))),
        layout.seed,
      ],
    },
  };
}

/** The cap comes first: the TPM looks at PCRs again when a key is used, at the counter only while a policy is satisfied. */
function tpmCommands({ capPcr, armedIndex, shares }: NonNullable<NodeRecord['tpm']>): TpmCommand[] {
  return [
    { level: 'lock', command: marshalPcrExtend(capPcr, capDigest) },
    { level: 'lock', command: marshalNvIncrement(armedIndex) },
    ...Object.values(shares).map(
      (index): TpmCommand => ({ level: 'destroy', command: marshalNvUndefine(index) }),
    ),
  ];
}
