// Archives encrypted to age recipients (age-encryption.org/v1), by the format's own TypeScript implementation, as a stream.
import { closeSync, openSync, readSync } from 'node:fs';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';

const magic = Buffer.from('age-encryption.org/v1\n');

export const encryptedSuffix = '.age';
const mostRecipients = 100;
/** Room for so many of the largest (post-quantum). Each is tried, in memory, before anything of the file is authenticated. */
const largestHeader = 1 << 18;

/** Whether a file is encrypted, by how it begins. */
export function isEncrypted(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const begin = Buffer.alloc(magic.length);
    return readSync(fd, begin) === magic.length && begin.equals(magic);
  } finally {
    closeSync(fd);
  }
}

/** @throws Failure `recipient-invalid`, status 2. */
export async function requireRecipients(recipients: readonly string[]): Promise<void> {
  await encrypterFor(recipients);
}

/**
 * What only the holder of an identity of one of the recipients (`age1…`) can read. A chunk of `plain` need be good until the next is asked
 * for. @throws as `requireRecipients`.
 */
export async function* encrypted(
  recipients: readonly string[],
  plain: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  const encrypter = await encrypterFor(recipients);
  yield* await encrypter.encrypt(ReadableStream.from(copied(plain)) as ReadableStream<Uint8Array>);
}

async function* copied(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  for await (const chunk of chunks) yield Buffer.from(chunk);
}

/**
 * The other way. `identities` is the text of an identity file: `AGE-SECRET-KEY-1…` a line, comments behind `#`.
 * @throws Failure `identity-invalid`, status 2; `archive-encrypted`, status 3, where none of them opens it or it was altered.
 */
export async function* decrypted(
  identities: string,
  cipher: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  const { Decrypter } = await import('age-encryption');
  const decrypter = new Decrypter();
  const lines = identities.split(/\r?\n/).filter((line) => line !== '' && !line.startsWith('#'));
  try {
    if (lines.length === 0) throw new Error('it holds none');
    for (const line of lines) decrypter.addIdentity(line.trim());
  } catch (cause) {
    throw new Failure('identity-invalid', `The file of age identities cannot be used: ${reasonOf(cause)}.`, {
      remedy: 'Give the file that `age-keygen` made.',
      status: exitStatus.usage,
    });
  }
  try {
    yield* await decrypter.decrypt(ReadableStream.from(withinHeader(cipher)) as ReadableStream<Uint8Array>);
  } catch (cause) {
    throw new Failure('archive-encrypted', `The archive cannot be decrypted: ${reasonOf(cause)}.`, {
      remedy:
        'Give the identity of one of its recipients; if it is that, the archive was damaged or altered.',
      status: exitStatus.rejected,
      cause,
    });
  }
}

/** The same stream, unless its header, which ends in a line that begins with `---`, is larger than any honest one. */
async function* withinHeader(cipher: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  let header: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of cipher) {
    if (header !== undefined) {
      header = Buffer.concat([header, chunk.subarray(0, largestHeader - header.length)]);
      if (header.includes('\n---')) header = undefined;
      else if (header.length === largestHeader)
        throw new Error(`its header is larger than ${largestHeader} bytes`);
    }
    yield chunk;
  }
}

async function encrypterFor(recipients: readonly string[]) {
  if (recipients.length > mostRecipients) {
    throw new Failure('recipient-invalid', `There are more than ${mostRecipients} age recipients.`, {
      kept: 'Nothing was collected.',
      remedy: 'Encrypt to fewer, who can hand it on.',
      status: exitStatus.usage,
    });
  }
  const { Encrypter } = await import('age-encryption');
  const encrypter = new Encrypter();
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient);
    } catch (cause) {
      throw new Failure('recipient-invalid', `"${recipient}" is no age recipient: ${reasonOf(cause)}.`, {
        kept: 'Nothing was collected.',
        remedy:
          'Give what `age-keygen` prints as the public key (age1…). Recipients of plugins cannot be used.',
        status: exitStatus.usage,
      });
    }
  }
  return encrypter;
}
