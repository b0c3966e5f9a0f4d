// What provisioning makes in the TPM before any key: the anchors, and the lockout parameters. Every step is planned on disk first.
import { signingKeyQualifyingData } from '../attestation/enrolment.ts';
import { Failure } from '../host/failure.ts';
import {
  attestationAnchor,
  claimCounter,
  claimIndex,
  createSigningKey,
  freeIndex,
  planAttestationKey,
  planStorageRoot,
  storageRoot,
} from '../keys/anchors.ts';
import { custodyDefinition } from '../keys/indices.ts';
import type { PolicyAuthorities } from '../keys/policy.ts';
import type { Tpm } from '../tpm/context.ts';
import type { TpmProperties } from '../tpm/properties.ts';
import type { Config } from './config.ts';
import type { NodeRecord } from './node-record.ts';
import { overtaken, type Progress } from './progress.ts';

type NodeAnchors = NonNullable<NodeRecord['tpm']>;

/** Runs a step and says that it changed something. */
export type Make = <T>(step: string, work: () => Promise<T>) => Promise<T>;

export interface Anchoring {
  readonly tpm: Tpm;
  readonly properties: TpmProperties;
  readonly settings: Config['tpm'];
  readonly authorities: PolicyAuthorities;
  readonly progress: Progress;
  readonly made: Make;
  /** Go on where the firmware measured nothing. */
  readonly allowUnmeasured: boolean;
}

/** @throws Failure `tpm-hierarchy-disabled`, `tpm-owned`, `tpm-no-measured-boot`, `tpm-no-sha256`, `srk-unsuitable`, `tpm-handles-taken`; TpmError. */
export async function anchorNode(anchoring: Anchoring): Promise<NodeAnchors> {
  const { tpm, properties, settings, progress, made } = anchoring;
  requireUsable(properties);
  const pcrs = await measuredPcrs(tpm, settings, anchoring.allowUnmeasured);
  const srk = await progress.step(
    'srk',
    () => planStorageRoot(tpm, settings.srk_handle),
    (plan) => made('srk', () => storageRoot(tpm, plan)),
  );
  const ak = await progress.step(
    'ak',
    () => planAttestationKey(tpm, settings.ak_handle),
    (plan) => made('ak', async () => (await attestationAnchor(tpm, plan)) ?? overtaken),
  );
  const signingKey = await progress.step(
    'signingKey',
    async () => null,
    () =>
      made('signing-key', async () => {
        await using parent = await tpm.at(srk.handle);
        await using attestor = await tpm.at(ak.handle);
        return await createSigningKey(tpm, parent, attestor, signingKeyQualifyingData);
      }),
  );
  const index = (step: string, claim: (index: number) => Promise<boolean>): Promise<number> =>
    progress.step(
      step,
      () => freeIndex(tpm, settings.nv_base),
      (at) => made(step, async () => ((await claim(at)) ? at : overtaken)),
    );
  const sequenceIndex = await index('sequence-counter', (at) => claimCounter(tpm, at));
  const armedIndex = await index('armed-counter', (at) => claimCounter(tpm, at));
  const custodyIndex = await index('custody-head', (at) => claimIndex(tpm, at, custodyDefinition));
  return {
    srk,
    ak,
    signingKey,
    sequenceIndex,
    armedIndex,
    custodyIndex,
    manufacturer: properties.manufacturer,
    firmware: properties.firmware,
    capPcr: settings.cap_pcr,
    pcrs,
    shares: {},
    authorities: anchoring.authorities,
    lockoutBefore: await protectFromGuessing(anchoring),
    resetCount: properties.resetCount,
    restartCount: properties.restartCount,
  };
}

const allHierarchies = ['owner', 'endorsement'] as const;
type Hierarchies = readonly (typeof allHierarchies)[number][];

/**
 * Before anything is tried: the hierarchies are on, and their authorizations empty. This program has no way to keep another that
 * would be any better guarded.
 * @throws Failure `tpm-hierarchy-disabled`, `tpm-owned`.
 */
export function requireUsable(
  { authorizationSet, hierarchyEnabled }: TpmProperties,
  hierarchies: Hierarchies = allHierarchies,
): void {
  const off = hierarchies.filter((hierarchy) => !hierarchyEnabled[hierarchy]);
  if (off.length > 0) {
    throw new Failure('tpm-hierarchy-disabled', `The TPM's ${off.join(' and ')} hierarchy is switched off.`, {
      kept: 'Nothing was tried.',
      remedy: 'Enable the storage and endorsement hierarchies in the firmware setup, then boot again.',
    });
  }
  const set = hierarchies.filter((hierarchy) => authorizationSet[hierarchy]);
  if (set.length === 0) return;
  throw new Failure('tpm-owned', `The TPM has an authorization for its ${set.join(' and ')} hierarchy.`, {
    kept: 'Nothing was tried, so nothing counts towards a lockout.',
    remedy: `Whoever set it can clear it with \`tpm2_changeauth -c ${set[0]} -p OLD\`; then repeat the command.`,
  });
}

/**
 * The PCRs that keys are sealed to, hex by number; a bank that nothing was measured into seals to nothing.
 * @throws Failure `tpm-no-sha256`, `tpm-no-measured-boot`.
 */
export async function measuredPcrs(
  tpm: Tpm,
  settings: Config['tpm'],
  allowUnmeasured: boolean,
): Promise<Record<string, string>> {
  if (!(await tpm.pcrBanks()).includes('sha256')) {
    throw new Failure('tpm-no-sha256', 'The TPM has no SHA-256 bank of PCRs.', {
      kept: 'Nothing was made.',
      remedy: 'Switch the bank on in the firmware setup (or `tpm2_pcrallocate sha256:all`, then reboot).',
    });
  }
  const values = await tpm.pcrRead('sha256', [...settings.pcrs, settings.cap_pcr]);
  const blank = settings.pcrs.filter((pcr) => isBlank(values.get(pcr)));
  if (blank.length > 0 && !allowUnmeasured) {
    throw new Failure(
      'tpm-no-measured-boot',
      `Nothing was measured into PCR ${blank.join(', ')}: keys would be sealed to any firmware.`,
      {
        kept: 'Nothing was made in the TPM.',
        remedy:
          'Switch on measured boot (the TPM) in the firmware setup and boot again. --allow-unmeasured goes on without, and is said everywhere.',
      },
    );
  }
  return Object.fromEntries([...values].map(([pcr, value]) => [pcr, Buffer.from(value).toString('hex')]));
}

const isBlank = (value: Uint8Array | undefined): boolean =>
  value === undefined || value.every((byte) => byte === 0) || value.every((byte) => byte === 0xff);

/** Sets the lockout parameters (TPM 2.0 Library, Part 1, section 19.8) and returns what they were before. */
async function protectFromGuessing(anchoring: Anchoring): Promise<NodeAnchors['lockoutBefore']> {
  const { tpm, properties, settings, progress, made } = anchoring;
  return await progress.step(
    'lockout',
    async () => lockoutBefore(properties, settings),
    async (before) => {
      if (before === null) return null;
      await made('lockout', () =>
        tpm.setLockoutParameters({
          maxTries: settings.lockout_tries,
          recoverySeconds: settings.lockout_seconds,
          lockoutRecoverySeconds: before.recovery,
        }),
      );
      return before;
    },
  );
}

/**
 * What the lockout parameters are, or null where provisioning leaves them alone: told so, already as wanted, in a lockout, or
 * guarded by an authorization that others have set.
 */
export function lockoutBefore(
  { lockout, authorizationSet }: TpmProperties,
  settings: Config['tpm'],
): NodeAnchors['lockoutBefore'] {
  const { max, interval, recovery, inLockout } = lockout;
  const same = max === settings.lockout_tries && interval === settings.lockout_seconds;
  const leave = settings.lockout_tries === 0 || same || inLockout || authorizationSet.lockout;
  return leave ? null : { max, interval, recovery };
}
