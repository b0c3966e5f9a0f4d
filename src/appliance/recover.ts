// `provision --recover`: seals the keys anew to another policy signer or recovery key, opening each by the present recovery key.
// For the day when the policy signer's key is lost; an update or a re-arm needs no resealing.
import { CustodyLog } from '../custody/log.ts';
import { SecretArena } from '../host/arena.ts';
import { Failure } from '../host/failure.ts';
import { hardenProcess } from '../host/hardening.ts';
import { holdLock } from '../host/lock.ts';
import { freeIndex, pinnedStorageRoot } from '../keys/anchors.ts';
import { fingerprintOf, satisfyRecovery } from '../keys/policy.ts';
import { reclaimShare, type SealedKey, sealedKeysIn, sealKey, unsealKey } from '../keys/sealed.ts';
import type { Vault } from '../keys/share.ts';
import { openTpm } from '../tpm/context.ts';
import { requireUsable } from './anchoring.ts';
import { challengeOf, type RecoveryChallenge } from './approve.ts';
import { authoritiesOf } from './authorities.ts';
import type { Config } from './config.ts';
import { readNodeRecord, writeNodeRecord } from './node-record.ts';
import { readCertificates } from './pins.ts';
import { overtaken, Progress } from './progress.ts';
import { stateLayout } from './state-layout.ts';

/** Brings a challenge to the recovery key and returns its signature: DER. */
export type RecoverySigner = (challenge: RecoveryChallenge) => Promise<Uint8Array>;

/**
 * Returns the names of the keys that were sealed anew; safe to repeat after a kill. Run `provision` afterwards.
 * @throws Failure `no-tpm`, `share-destroyed`; TpmError `tpm-policy` where the signature is not the recovery key's.
 */
export async function recover(config: Config, sign: RecoverySigner): Promise<string[]> {
  const layout = stateLayout(config.node.state_dir);
  const { ek_ca: ekCa } = config.tpm;
  if (ekCa !== '') readCertificates(ekCa); // As `provision` does, which follows.
  const record = readNodeRecord(layout);
  const anchors = record.tpm;
  if (anchors === null) {
    throw new Failure('no-tpm', 'This node has no TPM, so nothing is sealed.', {
      remedy: 'Provision it anew.',
    });
  }
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  using custody = CustodyLog.open(layout.custody);
  hardenProcess();
  using arena = SecretArena.allocate({ byteLength: 16_384 });
  await using tpm = await openTpm({ tcti: config.tpm.tcti });
  await tpm.flushAbandoned();
  requireUsable(await tpm.properties(), ['owner']);
  await using srk = await pinnedStorageRoot(tpm, anchors);
  const vault: Vault = { tpm, srk, arena };
  const authorities = authoritiesOf(config, layout);
  const progress = new Progress(layout.provisioning);
  const shares = { ...anchors.shares };
  const resealed: string[] = [];

  const reclaim = (index: number, { byteLength }: SealedKey) =>
    reclaimShare(tpm, layout.directory, index, byteLength);
  const reseal = async (sealed: SealedKey, shareIndex: number, resumed: boolean) => {
    if (resumed && !(await reclaim(shareIndex, sealed))) return overtaken;
    using key = await unsealKey(vault, sealed, (on, session, policy) =>
      satisfyRecovery(on, session, policy, (message) => sign(challengeOf(sealed, message))),
    );
    const { node, name, purpose } = sealed;
    await sealKey(
      vault,
      layout.directory,
      { identity: { node, name, purpose }, authorities, shareIndex },
      key,
    );
    return shareIndex;
  };

  /** The record names the share that the key's file names; the one that it named is given back. */
  const settle = async (sealed: SealedKey) => {
    const former = shares[sealed.name];
    if (former === sealed.shareIndex) return;
    if (former !== undefined) await reclaim(former, sealed);
    shares[sealed.name] = sealed.shareIndex;
    writeNodeRecord(layout, { ...record, tpm: { ...anchors, shares } });
  };

  for (const sealed of sealedKeysIn(layout.directory)) {
    await settle(sealed);
    const step = `reshare-${sealed.name}`;
    const { signer, recovery } = sealed.authorities;
    if (signer !== authorities.signer || recovery !== authorities.recovery) {
      const shareIndex = await progress.step(
        step,
        () => freeIndex(tpm, config.tpm.nv_base),
        (index, resumed) => reseal(sealed, index, resumed),
      );
      await settle({ ...sealed, shareIndex });
      resealed.push(sealed.name);
    } else {
      const abandoned = progress.plan(step); // By a run that was to seal it to others.
      if (typeof abandoned === 'number') await reclaim(abandoned, sealed);
    }
    progress.finish(step);
  }
  writeNodeRecord(layout, { ...record, tpm: { ...anchors, shares, authorities } });
  custody.append('resealed', {
    keys: resealed,
    signer: fingerprintOf(authorities.signer),
    recovery: fingerprintOf(authorities.recovery),
  });
  return resealed;
}

/** The recovery key as a PEM signs a DER signature; anything else that a person may type is refused. */
export function parseSignature(line: string | undefined): Uint8Array {
  const text = line?.trim() ?? '';
  if (/^[A-Za-z0-9+/]{88,100}={0,2}$/.test(text)) return Buffer.from(text, 'base64');
  throw new Failure('recovery-signature', 'That is not a signature.', {
    kept: 'The keys stay sealed as they are.',
    remedy: 'Give the line that `esoteric-appliance approve --recovery` prints.',
  });
}
