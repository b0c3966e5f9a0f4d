// A secret in an NV index, written and read through encrypted sessions (TPM 2.0 Library, Part 3, sections 31.7 and 31.13; Part 1,
// section 21): it never crosses the bus in clear, and lies in the arena on this side.
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { esysHandle } from './commands.ts';
import type { Connection } from './connection.ts';
import { withIndex } from './nv.ts';
import type { TpmObject } from './object.ts';
import { cleanseCopies, takeOver } from './residue.ts';
import { type PolicySession, withSaltedSession } from './session.ts';
import { bufferSizes, sizedBuffer } from './structs.ts';

/** Smallest TPM2_MAX_NV_BUFFER_SIZE in the field: what one command carries. */
const longestSecret = 512;

/**
 * Writes an index as the owner, in a session salted to `saltKey`. Copies made on the way: the command's structure and the
 * library's buffers, cleansed before this returns or throws.
 */
export function nvWriteSecret(
  connection: Connection,
  saltKey: TpmObject,
  index: number,
  secret: SecretBuffer,
): Promise<void> {
  if (secret.byteLength > longestSecret) {
    throw new RangeError(`A secret in NV has at most ${longestSecret} bytes.`);
  }
  return withIndex(connection, index, (nv) =>
    withSaltedSession(connection, saltKey, async (session) => {
      const data = sizedBuffer(secret.bytes, bufferSizes.MAX_NV_BUFFER);
      const authorization = [session, esysHandle.none, esysHandle.none];
      try {
        const inputs = [esysHandle.owner, nv, ...authorization, data, 0];
        const written = { address: data.subarray(2), byteLength: secret.byteLength };
        await connection.execute('NV_Write', inputs, undefined, {
          afterwards: () => cleanseCopies(connection, written),
        });
      } finally {
        data.fill(0);
      }
    }),
  );
}

/**
 * Reads an index as the owner into the arena; `session` (salted) only encrypts the answer, so its policy may still be built.
 * Copies made on the way: the library's result and its buffers, cleansed before this returns or throws.
 * @throws TpmError `tpm-no-object` where the index is gone; Failure `zeroized`.
 */
export function nvReadSecret(
  connection: Connection,
  index: number,
  byteLength: number,
  session: PolicySession,
  into: SecretArena,
  label: string,
): Promise<SecretBuffer> {
  if (byteLength > longestSecret) throw new RangeError(`A secret in NV has at most ${longestSecret} bytes.`);
  return withIndex(connection, index, (nv) => {
    const authorization = [esysHandle.password, session.handle, esysHandle.none];
    return connection.execute(
      'NV_Read',
      [esysHandle.owner, nv, ...authorization, byteLength, 0],
      ([data = 0n]) => takeOver(connection, { address: data + 2n, byteLength }, into, label),
    );
  });
}
