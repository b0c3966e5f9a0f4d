import { Command } from '@commander-js/extra-typings';
import type { VerifyOptions } from '../appliance/verify.ts';
import { exitStatus, Failure } from '../host/failure.ts';

/** A command that verifies, with what tells it whom to trust. */
export const verifying = (name: string) =>
  new Command(name)
    .option('--json', 'one JSON document on stdout')
    .option('--sigstore-bundle <file>', 'instead of ARCHIVE.sigstore.json')
    .option(
      '--trusted-root <file>',
      'trusted_root.json of the Sigstore services (default: the public-good root)',
    )
    .option('--enrolment <path>', 'the enrolment record of the node, or a directory with those of several')
    .option('--identity <subject>', 'who must have signed, as Fulcio certified it')
    .option('--issuer <url>', 'issuer of that identity')
    .option(
      '--ek-ca <dir>',
      'certificates of the TPM makers’ CAs that are trusted (default: as the policy says)',
    )
    .option(
      '--enrolled-by <file>',
      'public keys of those who are trusted to enrol (default: as the policy says)',
    )
    .option('--policy <file>', 'verify policy (default: policies/verify.toml)')
    .option('--age-identity <file>', 'age identities, to look into an encrypted archive (.age)')
    .option('--known-head <sequence:hash>', 'a custody head seen earlier, to rule out a rollback');

interface Verifying {
  readonly sigstoreBundle?: string;
  readonly trustedRoot?: string;
  readonly enrolment?: string;
  readonly identity?: string;
  readonly issuer?: string;
  readonly ekCa?: string;
  readonly enrolledBy?: string;
  readonly policy?: string;
  readonly ageIdentity?: string;
  readonly knownHead?: string;
}

/** @throws Failure `usage` for an identity without its issuer, or the other way round. */
export function verifyOptions(archive: string, options: Verifying): Omit<VerifyOptions, 'allowBypassed'> {
  const { identity: subject, issuer } = options;
  if ((subject === undefined) !== (issuer === undefined)) {
    throw new Failure('usage', '--identity and --issuer belong together.', { status: exitStatus.usage });
  }
  return {
    archive,
    sigstore: options.sigstoreBundle,
    trustedRoot: options.trustedRoot,
    enrolment: options.enrolment,
    policy: options.policy,
    ekCa: options.ekCa,
    enrolledBy: options.enrolledBy,
    ageIdentity: options.ageIdentity,
    knownHead: options.knownHead,
    identity: subject === undefined || issuer === undefined ? undefined : { subject, issuer },
  };
}
