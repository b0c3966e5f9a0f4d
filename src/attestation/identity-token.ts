// An OIDC identity token, as far as one can tell before it is shown to Fulcio: whose it is, for whom, by whom, and until when. Its
// signature is Fulcio's to check. OpenID Connect Core 1.0, section 2; RFC 7519.

import { z } from '../host/zod.ts';
import { misconfigured } from './countersign-failure.ts';

/** What the token says of itself. Nobody has checked it. */
export interface TokenClaims {
  readonly issuer: string;
  /** What Fulcio has the holder of the key sign: a verified `email`, else `sub`; null where an `email` is not verified. */
  readonly subject: string | null;
  readonly audience: readonly string[];
  /** RFC 3339. */
  readonly expires: string;
}

export interface ExpectedToken {
  readonly subject: string;
  readonly audience: string;
  /** Empty: any. */
  readonly issuer: string;
  /** How another token is had, as a sentence in the imperative. */
  readonly renewal: string;
}

const claimsSchema = z.looseObject({
  iss: z.string(),
  sub: z.string(),
  aud: z.union([z.string(), z.array(z.string())]),
  exp: z.number().int().positive().max(8_640_000_000_000),
  email: z.string().optional(),
  email_verified: z.union([z.boolean(), z.string()]).optional(),
});

/** @throws CountersignFailure `identity-token-invalid`. Neither it nor anything else here shows the token. */
export function readToken(token: string, renewal: string): TokenClaims {
  const parts = token.split('.');
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(parts[1] ?? '', 'base64url').toString('utf8'));
  } catch {}
  const claims = claimsSchema.safeParse(json).data;
  if (claims === undefined || parts.length !== 3 || /\s/.test(token)) {
    throw misconfigured(
      'identity-token-invalid',
      'The identity token is not one: it is no JSON Web Token with an issuer, a subject, an audience and an expiry.',
      renewal,
    );
  }
  const { iss, sub, aud, exp, email, email_verified: verified } = claims;
  const named = email === undefined || email === '' ? sub : null;
  return {
    issuer: iss,
    subject: named ?? (verified === true || verified === 'true' ? (email ?? null) : null),
    audience: typeof aud === 'string' ? [aud] : aud,
    expires: new Date(exp * 1000).toISOString(),
  };
}

/**
 * Whether Fulcio can take the token for what the node proved. `now`: milliseconds since 1970.
 * @throws CountersignFailure `identity-token-invalid`, `-expired`, `-audience`, `-issuer`, `-mismatch`.
 */
export function requireFit(token: string, expected: ExpectedToken, now = Date.now()): TokenClaims {
  const { renewal } = expected;
  const claims = readToken(token, renewal);
  if (Date.parse(claims.expires) <= now) {
    throw misconfigured(
      'identity-token-expired',
      `The identity token expired at ${claims.expires}. Such tokens are good for minutes.`,
      renewal,
    );
  }
  if (!claims.audience.includes(expected.audience)) {
    throw misconfigured(
      'identity-token-audience',
      `The identity token is for ${shown(claims.audience.join(', '))}, not for ${shown(expected.audience)}.`,
      `Have it made for that audience, or correct sigstore.client_id. ${renewal}`,
    );
  }
  if (expected.issuer !== '' && claims.issuer !== expected.issuer) {
    throw misconfigured(
      'identity-token-issuer',
      `The identity token is by ${shown(claims.issuer)}, and sigstore.issuer names ${shown(expected.issuer)}.`,
      `Correct sigstore.issuer, or have the token from there. ${renewal}`,
    );
  }
  if (claims.subject !== expected.subject) {
    const whose = claims.subject === null ? 'an email that is not verified' : shown(claims.subject);
    throw misconfigured(
      'identity-token-mismatch',
      `The identity token is for ${whose}, and the node proved its key for ${shown(expected.subject)}.`,
      `Correct sigstore.identity (bundles that are made then prove it), or have a token for it. ${renewal}`,
    );
  }
  return claims;
}

/** Claims are others' words. */
const shown = (text: string): string => JSON.stringify(text.slice(0, 200));
