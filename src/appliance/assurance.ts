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
/** As `sigstore.stand_ins` names them, and `verify` goes by. */
const services: ReadonlySet<string> = new Set(['fulcio', 'rekor', 'timestamp authority']);
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
  const sigstore = sigstoreUnder(config, simulator !== undefined);
  const stoodIn = simulator === true || config.tpm.stand_ins.includes('swtpm');
  const kind = checked ?? unchecked(simulator);
  return {
    tpm: simulator === undefined ? 'bypassed' : stoodIn ? 'simulator' : kind.tpm,
    sigstore,
    standIns: [
      ...new Set([
        ...(simulator === true ? ['swtpm'] : []),
        ...(simulator === undefined ? [] : developmentStandIns(config)),
        ...config.tpm.stand_ins,
        ...config.sigstore.stand_ins,
      ]),
    ],
    notes: [
      ...(simulator === undefined ? [noTpm] : []),
      ...(simulator === undefined ? [] : kind.notes),
      ...(sigstore === 'bypassed' ? [noSigstore] : []),
      ...notes,
    ],
  };
}

/** A simulator says so itself, in `standIns`. */
const unchecked = (simulator: boolean | undefined): TpmKind => ({
  tpm: 'simulator',
  notes: simulator === false ? ['the TPM was not tied to its maker: no EK certificate was checked'] : [],
});

/**
 * The assurance of a provisioned node under this configuration. What was found out of its TPM stays as it was provisioned; the Sigstore
 * services, and what stands in for them, are those of this run, and what it bypasses is said.
 */
export function assuranceNow(config: Config, { assurance }: NodeRecord, memoryLocked = true): Assurance {
  const tpmToo = config.tpm.mode === 'none' && assurance.tpm !== 'bypassed';
  const tpm = tpmToo ? 'bypassed' : assurance.tpm;
  const sigstore = sigstoreUnder(config, tpm !== 'bypassed');
  const ofTpm = assurance.standIns.filter((part) => !services.has(part));
  return {
    tpm,
    sigstore,
    standIns: [...new Set([...ofTpm, ...config.sigstore.stand_ins])],
    notes: [
      ...assurance.notes.filter((note) => note !== noSigstore),
      ...(tpmToo ? ['the TPM is bypassed: evidence is unsigned'] : []),
      ...(sigstore === 'bypassed' ? [noSigstore] : []),
      ...(memoryLocked ? [] : [swappable]),
    ],
  };
}

/** Without a TPM nobody signs, so there is nothing to countersign. */
function sigstoreUnder({ sigstore }: Config, signed: boolean): Assurance['sigstore'] {
  if (sigstore.mode === 'none' || !signed) return 'bypassed';
  return [sigstore.fulcio, sigstore.rekor, sigstore.tsa].some((url) => url !== '') ? 'on' : 'pending';
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
