// What stands behind a node's evidence, and what does not: the bypasses and stand-ins that are said everywhere.
import type { Config } from './config.ts';
import type { Assurance } from './node-record.ts';

/** `simulator`: what the TPM says of itself; undefined without a TPM. */
export function assuranceOf(
  config: Config,
  simulator: boolean | undefined,
  notes: readonly string[],
): Assurance {
  const { fulcio, rekor, tsa, mode, stand_ins: services } = config.sigstore;
  const anyService = [fulcio, rekor, tsa].some((url) => url !== '');
  return {
    // "hardware" is claimed only where an EK certificate was checked and activated, which provisioning does not do yet.
    tpm: simulator === undefined ? 'bypassed' : 'simulator',
    sigstore: mode === 'none' ? 'bypassed' : anyService ? 'on' : 'pending',
    standIns: [...new Set([...(simulator === true ? ['swtpm'] : []), ...config.tpm.stand_ins, ...services])],
    notes: [
      ...(simulator === undefined ? ['no TPM: keys are volatile and evidence is unsigned'] : []),
      ...(simulator === false ? ['the TPM was not tied to its maker: no EK certificate was checked'] : []),
      ...(mode === 'none' ? ['no Sigstore: evidence is in no transparency log and has no timestamp'] : []),
      ...notes,
    ],
  };
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
    ...assurance.standIns.map((part) => `STAND-IN  ${part}: what hangs on it is not proven`),
  ];
}
