// What stands behind a node's evidence, and what does not: the bypasses and stand-ins that are said everywhere.

import type { TpmKind } from '../attestation/endorsement.ts';
import { Failure } from '../host/failure.ts';
import { developmentStandIns } from './authorities.ts';
import type { Config } from './config.ts';
import type { Assurance, NodeRecord } from './node-record.ts';

const noTpm = 'no TPM: keys are volatile and evidence is unsigned';
/** A note in a bundle that its TPM could not sign; said by nobody, so only asserted. */
export const tpmSilent = 'the TPM did not answer: this bundle is unsigned';
/** Codes of failures that mean just that. */
const silence = ['tpm-unreachable', 'tpm-timeout', 'tpm-connection-lost'];
const unusable = /^the TPM could not be used \([a-z0-9-]{1,40}\): this bundle is unsigned$/;
/** By the code of the failure; undefined where it is not known. */
export const unsignedNote = (code: string | undefined): string =>
  code === undefined || silence.includes(code)
    ? tpmSilent
    : `the TPM could not be used (${code}): this bundle is unsigned`;
export const isUnsignedNote = (note: string): boolean => note === tpmSilent || unusable.test(note);
const swappable = 'memory is not locked: secrets may reach swap';
const noSigstore = 'no Sigstore: evidence is in no transparency log and has no timestamp';

/**
 * `simulator`: what the TPM says of itself; undefined without a TPM. `checked`: what provisioning found out about it
 * (`kindOf` in endorsement.ts); without it nothing is claimed, and a simulator stays one whatever was found out.
 */
export function assuranceOf(
  config: Config,
  simulator: boolean | undefined,
  notes: readonly string[],
  checked?: TpmKind,
): Assurance {
  const { fulcio, rekor, tsa, mode, stand_ins: services } = config.sigstore;
  const anyService = [fulcio, rekor, tsa].some((url) => url !== '');
  const stoodIn = simulator === true || config.tpm.stand_ins.includes('swtpm');
  const kind = checked ?? unchecked(simulator);
  return {
    tpm: simulator === undefined ? 'bypassed' : stoodIn ? 'simulator' : kind.tpm,
    // Without a TPM nobody signs, so there is nothing to countersign.
    sigstore: mode === 'none' || simulator === undefined ? 'bypassed' : anyService ? 'on' : 'pending',
    standIns: [
      ...new Set([
        ...(simulator === true ? ['swtpm'] : []),
        ...(simulator === undefined ? [] : developmentStandIns(config)),
        ...config.tpm.stand_ins,
        ...services,
      ]),
    ],
    notes: [
      ...(simulator === undefined ? [noTpm] : []),
      ...(simulator === undefined ? [] : kind.notes),
      ...(mode === 'none' || simulator === undefined ? [noSigstore] : []),
      ...notes,
    ],
  };
}

/** A simulator says so itself, in `standIns`. */
const unchecked = (simulator: boolean | undefined): TpmKind => ({
  tpm: 'simulator',
  notes: simulator === false ? ['the TPM was not tied to its maker: no EK certificate was checked'] : [],
});

/** The assurance of a provisioned node under this configuration: what only this run bypasses is said as well. */
export function assuranceNow(config: Config, { assurance }: NodeRecord, memoryLocked = true): Assurance {
  const tpmToo = config.tpm.mode === 'none' && assurance.tpm !== 'bypassed';
  const sigstoreToo = config.sigstore.mode === 'none' && assurance.sigstore !== 'bypassed';
  return {
    ...assurance,
    ...(tpmToo ? { tpm: 'bypassed' } : {}),
    ...(sigstoreToo ? { sigstore: 'bypassed' } : {}),
    notes: [
      ...assurance.notes,
      ...(tpmToo ? ['the TPM is bypassed: evidence is unsigned'] : []),
      ...(sigstoreToo ? [noSigstore] : []),
      ...(memoryLocked ? [] : [swappable]),
    ],
  };
}

/** @throws Failure `provisioned-otherwise` where the node has a TPM and --no-tpm is given, or the other way round. */
export function requireSameKind(config: Config, { tpm }: NodeRecord): void {
  if ((tpm === null) === (config.tpm.mode === 'none')) return;
  const [was, as] = tpm === null ? ['without', 'with'] : ['with', 'without'];
  throw new Failure('provisioned-otherwise', `This node was provisioned ${was} a TPM.`, {
    kept: 'Nothing was touched.',
    remedy: `Repeat the command ${as} --no-tpm, or give another --state-dir.`,
  });
}

/** One line for each thing that is bypassed, for the start of a command. */
export function bypassLines(assurance: Assurance): string[] {
  return [
    ...(assurance.tpm === 'bypassed'
      ? ['BYPASS  TPM: keys are volatile, evidence is unsigned (--no-tpm)']
      : []),
    ...(assurance.sigstore === 'bypassed'
      ? ['BYPASS  Sigstore: evidence is not logged and not timestamped (--no-sigstore)']
      : []),
    ...(assurance.notes.includes(swappable) ? [`BYPASS  ${swappable} (--allow-swappable)`] : []),
    ...assurance.standIns.map((part) => `STAND-IN  ${part}: what hangs on it is not proven`),
  ];
}
