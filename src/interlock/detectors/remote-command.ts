// A command from afar, signed by a key that is not on the node (Ed25519, RFC 8032, over the RFC 8785 form) and good for once: its
// number must be above every number used before, its node must be this one. A clock is not believed for that.
import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import canonicalize from 'canonicalize';
import { z } from '../../host/zod.ts';
import { levels } from '../causes.ts';

export const commandFormat = 'esoteric-appliance-command/1';
/** A command is a short text; what is longer is none. */
export const longestCommand = 4096;

const schema = z.strictObject({
  command: z.strictObject({
    format: z.literal(commandFormat),
    node: z.string(),
    /** Above every number that this node has accepted. */
    number: z.int().min(1).max(Number.MAX_SAFE_INTEGER),
    action: z.literal('zeroize'),
    level: z.enum(levels),
    reason: z.string().max(500),
  }),
  /** Base64, 64 bytes. */
  signature: z.base64(),
});
export type RemoteCommand = z.output<typeof schema>['command'];

export type CommandVerdict =
  | { readonly accepted: RemoteCommand }
  | { readonly refused: 'malformed' | 'not for this node' | 'wrong signature' | 'replayed' };

/** @throws where the text is no Ed25519 public key. */
export function commandKey(pem: string): KeyObject {
  const key = createPublicKey(pem);
  if (key.asymmetricKeyType !== 'ed25519') throw new TypeError('The key is not an Ed25519 key.');
  return key;
}

/** What is signed. */
export const commandBytes = (command: RemoteCommand): Uint8Array => Buffer.from(canonicalize(command) ?? '');

/** Pure. The signature is looked at before anything that it covers is believed. */
export function judgeCommand(
  text: string,
  known: { readonly node: string; readonly key: KeyObject; readonly lastNumber: number },
): CommandVerdict {
  if (text.length > longestCommand) return { refused: 'malformed' };
  let parsed: z.output<typeof schema>;
  try {
    parsed = schema.parse(JSON.parse(text));
  } catch {
    return { refused: 'malformed' };
  }
  const { command, signature } = parsed;
  const bytes = Buffer.from(signature, 'base64');
  // The bits that base64 leaves over at its end are zero: a signature is written in one way only (RFC 4648, 3.5).
  if (bytes.toString('base64') !== signature) return { refused: 'malformed' };
  if (!verify(null, commandBytes(command), known.key, bytes)) return { refused: 'wrong signature' };
  if (command.node !== known.node) return { refused: 'not for this node' };
  return command.number > known.lastNumber ? { accepted: command } : { refused: 'replayed' };
}
