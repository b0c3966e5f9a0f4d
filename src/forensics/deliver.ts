// Delivery of a forensic bundle, in the courier: to S3 or a directory, and read back. Nothing counts as delivered before the
// same SHA-256 has come back from where it went.
import { deliverToDirectory } from './deliver-directory.ts';
import { abandonInS3, deliverToS3 } from './deliver-s3.ts';
import type { Delivered, Delivery } from './delivery.ts';

export type { Delivered, Delivery, DeliveryProgress, UploadCredentials } from './delivery.ts';
export { parseUploadUrl } from './upload-target.ts';

/**
 * Delivers the files one after another. Safe to repeat: what already lies at the target with the same content counts as
 * delivered, a large upload goes on where it broke off, and nothing is ever overwritten.
 * @returns what has been read back, file by file.
 * @throws Failure, with what is kept: `upload-source-missing`, `upload-source-damaged`, `upload-too-large`, `upload-unreachable`,
 *   `upload-denied`, `upload-bucket-missing`, `upload-refused`, `upload-conflict` (other content lies there),
 *   `upload-corrupt` (what came back differs), `upload-unprotected` (without the lock or encryption asked for);
 *   `s3-credentials` where the SDK finds none; `upload-directory` for a directory; the signal's reason when aborted.
 */
export async function deliver(delivery: Delivery): Promise<Delivered[]> {
  const { files, target, signal } = delivery;
  signal.throwIfAborted();
  if (target.kind === 's3') return await deliverToS3(target, delivery);
  const delivered: Delivered[] = [];
  for (const file of files) delivered.push(await deliverToDirectory(file, target.directory, delivery));
  return delivered;
}

/** Clears away what an unfinished delivery left at the target, of files that are gone. @throws Failure `s3-credentials`. */
export async function abandonDelivery(delivery: Delivery): Promise<void> {
  if (delivery.target.kind === 's3') await abandonInS3(delivery.target, delivery);
}
