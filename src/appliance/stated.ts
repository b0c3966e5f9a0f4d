// What the signature file of a bundle states, as it stands there: nothing of it is verified here.
import { readFileSync } from 'node:fs';
import { parseStatement } from '../attestation/statement.ts';
import type { Signed } from './bundle-signing.ts';

export interface Stated {
  /** The archive before it was encrypted. */
  readonly subject: { readonly name: string; readonly sha256: string };
  readonly signed: Signed['by'];
}

/** Undefined for what was cut off as it was written. */
export function statedIn(path: string): Stated | undefined {
  try {
    const { dsseEnvelope: envelope } = JSON.parse(readFileSync(path, 'utf8')) as {
      dsseEnvelope: { payload: string; signatures: unknown[] };
    };
    const [{ name, digest }] = parseStatement(Buffer.from(envelope.payload, 'base64')).subject;
    return {
      subject: { name, sha256: digest.sha256 },
      signed: envelope.signatures.length > 0 ? 'tpm' : 'nobody',
    };
  } catch {
    return undefined;
  }
}
