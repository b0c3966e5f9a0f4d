// The sign-in of `sigstore login` as it lies on disk: in the courier's own directory, for its user alone. It holds credentials.

import { readIfPresent, removeDurable, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import type { Config } from './config.ts';
import type { StateLayout } from './state-layout.ts';

const schema = z.strictObject({
  format: z.literal('esoteric-appliance-identity/1'),
  issuer: z.string(),
  clientId: z.string(),
  idToken: z.string(),
  refreshToken: z.string().nullable(),
});
export type Login = Omit<z.infer<typeof schema>, 'format'>;

export const howToSignIn = 'Run `esoteric-appliance sigstore login` as root or as the user of the courier.';

/** Null where nobody has signed in. @throws Failure `identity-login-invalid`, `identity-login-unreadable`; neither shows what is there. */
export function readLogin({ identity: path }: StateLayout): Login | null {
  let text: string | undefined;
  try {
    text = readIfPresent(path);
  } catch (cause) {
    throw unusable('identity-login-unreadable', `${path} cannot be read.`, cause);
  }
  if (text === undefined) return null;
  try {
    const { format: _, ...login } = schema.parse(JSON.parse(text));
    return login;
  } catch {
    throw unusable('identity-login-invalid', `${path} is damaged.`);
  }
}

/** @throws Failure `identity-login-unwritable`. */
export function writeLogin({ identity: path }: StateLayout, login: Login): void {
  try {
    writeDurably(path, `${JSON.stringify({ format: 'esoteric-appliance-identity/1', ...login })}\n`);
  } catch (cause) {
    throw unusable('identity-login-unwritable', `${path} cannot be written.`, cause);
  }
}

/** With what a writer of it that was killed has left. */
export const removeLogin = ({ identity: path }: StateLayout): void => removeDurable(path);

/** Whether it was made where and as whom the configuration says now. */
export const isOf = ({ issuer, clientId }: Login, { sigstore }: Config): boolean =>
  issuer === sigstore.issuer && clientId === sigstore.client_id;

const unusable = (code: string, message: string, cause?: unknown): Failure =>
  new Failure(code, message, { remedy: howToSignIn, kept: 'Bundles stay pending.', cause });
