// Delivery of a forensic bundle, in the courier: to S3 or a directory, and read back. Nothing counts as delivered before the
// same SHA-256 has come back from where it went.
import { deliverToDirectory } from './deliver-directory.ts';
import { deliverToS3 } from './deliver-s3.ts';
import type { Delivery } from './delivery.ts';

export type { Delivery, DeliveryProgress, UploadCredentials } from './delivery.ts';
export { parseUploadUrl } from './upload-target.ts';

/**
 * Delivers the files one after another. Safe to repeat: what already lies at the target with the same content counts as
 * delivered, a large upload goes on where it broke off, and nothing is ever overwritten.
 * @returns where each file lies, as `s3://bucket/key` or `file:///path`.
 * @throws Failure, with what is kept: `upload-source-missing`, `upload-too-large`, `upload-unreachable`,
 *   `upload-denied`, `upload-bucket-missing`, `upload-refused`, `upload-conflict` (other content lies there),
 *   `upload-corrupt` (what came back differs), `upload-unprotected` (without the lock or encryption asked for);
 *   `upload-directory` for a directory; the signal's reason when aborted.
 */
export async function deliver(delivery: Delivery): Promise<{ uploadedTo: string[] }> {
  const { files, target, signal } = delivery;
  signal.throwIfAborted();
  if (target.kind === 's3') return { uploadedTo: await deliverToS3(target, delivery) };
  const uploadedTo: string[] = [];
  for (const file of files) uploadedTo.push(await deliverToDirectory(file, target.directory, delivery));
  return { uploadedTo };
}
