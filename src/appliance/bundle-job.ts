// What the node hands the courier of a bundle, and where that goes.
import type { Signed } from './bundle-signing.ts';
import type { Config } from './config.ts';

/** The job of the courier: countersign, upload, read back. Paths, and nothing secret. */
export interface BundleJob {
  readonly archive: string;
  readonly sigstore: string;
  /** Of the archive as it lies there, in hex; absent where it is not known: nothing is compared with it then. */
  readonly sha256?: string;
  /** Empty: countersign only. */
  readonly upload: string;
  /** It goes where `forensics.upload` says when it is delivered; absent in jobs of earlier versions. */
  readonly configured?: boolean;
  readonly proofOfPossession: Signed['challenge'];
}

/** Where a bundle goes: a configuration that was corrected since it was made holds for it too. Empty: nowhere. */
export const uploadOf = (
  { forensics }: Config,
  { upload, configured }: Pick<BundleJob, 'upload' | 'configured'>,
): string => (configured === true && forensics.upload !== '' ? forensics.upload : upload);
