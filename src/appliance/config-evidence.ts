// The tables of the configuration that the courier shares: evidence, who countersigns it, where it goes, and who is told.

import { severities } from '../alerts/alert.ts';
import { parseUploadUrl } from '../forensics/upload-target.ts';
import { reasonOf } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import { hasNoSecret, httpUrlOrNone, isTable, milliseconds, pathOrNone } from './config-values.ts';

export const channel = z
  .strictObject({
    url: z
      .string()
      .refine((url) => url === '' || /^[a-z][a-z0-9+.-]*:\/\//.test(url), 'a URL such as json://host/path')
      .refine(
        (url) => hasNoSecret(url) && !/^slack/i.test(url),
        'a URL without a secret (put a URL that holds one into a file that only the courier reads, and name it in url_file)',
      )
      .default('')
      .describe('Where alerts go: json://, ntfy://, mailto://, syslog://, desktop://, file://'),
    url_file: pathOrNone
      .default('')
      .describe("The courier's file that holds the URL, where it carries a secret"),
    tag: z.string().max(64).default('').describe('Routes of policies/alerts.toml refer to it'),
    min_severity: z
      .union([z.literal(''), z.enum(severities)], `"" or one of ${severities.join(', ')}`)
      .default('')
      .describe('Least severity that is sent here; "" leaves it to policies/alerts.toml'),
  })
  .refine(({ url, url_file }) => (url === '') !== (url_file === ''), {
    error: 'either url or url_file, one of the two',
    when: isTable,
  });

export const sigstore = z.strictObject({
  mode: z
    .enum(['on', 'none'])
    .default('on')
    .describe('"none" bypasses Sigstore: unlogged evidence, said everywhere'),
  fulcio: httpUrlOrNone.default('').describe('Certificate authority; "" for none'),
  rekor: httpUrlOrNone.default('').describe('Transparency log; "" for none'),
  rekor_version: z
    .union([z.literal(1), z.literal(2)])
    .default(1)
    .describe(
      '2 records certificates only, so it needs fulcio; it tells no time, so only with tsa is a signer proven',
    ),
  tsa: httpUrlOrNone.default('').describe('Timestamp authority (RFC 3161); "" for none'),
  identity: z.string().default('').describe("Subject of the courier's OIDC identity"),
  issuer: z
    .string()
    .default('')
    .describe('OIDC issuer of its tokens, where `sigstore login` signs in; "" for any, and no sign-in'),
  client_id: z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/, 'a name without spaces')
    .default('sigstore')
    .describe('Audience that Fulcio expects of its tokens, and the client that signs in'),
  identity_token_file: pathOrNone
    .default('')
    .describe(
      'The courier\'s file that holds the identity token; "" for the environment of CI, else the sign-in',
    ),
  trusted_root: pathOrNone
    .default('')
    .describe('trusted_root.json that the courier checks testimony against; "" for no check'),
  stand_ins: z
    .array(z.string())
    .default([])
    .describe('Services that stand in for public ones: "fulcio", "rekor", "timestamp authority"'),
});

export const program = z.strictObject({
  attestations: pathOrNone
    .default('')
    .describe(
      'Directory with the package (.tgz) that the program was installed from and Sigstore bundles about it; "" for attestations/ beside it',
    ),
  identity: z
    .string()
    .default('')
    .describe('Who must have attested it, as Fulcio certified it; * stands for anything'),
  issuer: z.string().default('').describe('Issuer of that identity'),
  required: z
    .array(z.enum(['provenance', 'sbom']))
    .default([])
    .describe('A node does not start unless these are verified'),
});

const uploadForm = 's3://bucket/prefix?endpoint=…, file:///directory, or ""';

/** Why the courier could not use it, as a part of a sentence; undefined where it could. */
function uploadTrouble(url: string): string | undefined {
  if (url === '') return undefined;
  try {
    parseUploadUrl(url);
  } catch (error) {
    return reasonOf(error).replace(/^The upload URL is not valid: |\.$/g, '');
  }
  return undefined;
}

export const forensics = z.strictObject({
  upload: z
    .string()
    .refine((url) => url === '' || /^(s3|file):\/\//.test(url), { error: uploadForm, abort: true })
    .refine(hasNoSecret, {
      error: "a URL without a secret (name the courier's s3_credentials_file instead)",
      abort: true,
    })
    .refine((url) => uploadTrouble(url) === undefined, {
      error: ({ input }) => `${uploadForm} (${uploadTrouble(String(input))})`,
    })
    .default('')
    .describe('Where bundles go; "" keeps them where they are made, as file:///STATE_DIR/bundles'),
  case_key: pathOrNone
    .default('')
    .describe('The case auditor\'s key for pseudonyms; "" makes one that is thrown away'),
  redaction_rules: pathOrNone
    .default('')
    .describe('Rules of redaction beside those of policies/redaction.toml, in the same form; "" for none'),
  recipients: z
    .array(z.string().regex(/^age1[0-9a-z]+$/, 'an age recipient (age1…)'))
    .default([])
    .describe('Bundles are encrypted to these age recipients; none leaves them in clear'),
  keep_bytes: z
    .int()
    .min(1)
    .default(2 ** 33)
    .describe(
      'Bytes of bundles kept on the node; beyond it goes what was delivered, then what matters least',
    ),
  keep_days: z
    .int()
    .min(1)
    .max(36_500)
    .default(365)
    .describe('Days that a bundle is kept; of a security event longer, until it is delivered'),
  reserve_bytes: z
    .int()
    .min(0)
    .default(67_108_864)
    .describe('Room kept free on the disk; bundles of a zeroize and by hand may take three quarters of it'),
  per_hour: z
    .int()
    .min(0)
    .max(1000)
    .default(30)
    .describe('Bundles that may be begun within an hour, those of a zeroize aside; 0 for any number'),
  on_severity: z
    .union([z.literal(''), z.enum(severities)], `"" or one of ${severities.join(', ')}`)
    .default('')
    .describe('Least severity of an alert that gets a bundle; "" for none'),
  pause_seconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(900)
    .describe('Least time between two bundles that alerts ask for'),
  every_seconds: z
    .int()
    .min(0)
    .max(31_536_000)
    .default(0)
    .describe('How often a running node makes a bundle by itself; 0 for never'),
});

export const courier = z.strictObject({
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]{0,31}$|^$/, 'the name of a user, or ""')
    .default('')
    .describe('User that the courier runs as; "" for the same as the daemon'),
  spawn: z.boolean().default(true).describe('false where the service manager starts it'),
  s3_credentials_file: pathOrNone
    .default('')
    .describe(
      'The courier\'s file in the format of ~/.aws/credentials; "" leaves it to the AWS SDK\'s chain',
    ),
  poll_milliseconds: milliseconds.default(250).describe('How often the spool is looked at'),
  spool_bytes: z
    .int()
    .min(1)
    .default(2 ** 26)
    .describe('Bytes of alerts that wait to be sent; beyond it the least urgent and oldest are given up'),
  spool_days: z
    .int()
    .min(1)
    .max(36_500)
    .default(30)
    .describe('Days that an alert waits for a courier; one that is critical waits longer'),
});
