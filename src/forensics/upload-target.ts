// Where bundles are delivered to, from the URL that the operator wrote.
import { fileURLToPath } from 'node:url';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';

export type UploadTarget =
  | {
      readonly kind: 's3';
      readonly bucket: string;
      /** Without slashes at its ends; may be empty. */
      readonly prefix: string;
      /** Absent for the region's own endpoint. */
      readonly endpoint?: string;
      readonly region: string;
      /** What the store must encrypt with; absent for its default. */
      readonly sse?: (typeof encryptions)[number];
      /** Under Object Lock; nobody, or only who may bypass it, can delete the object before. */
      readonly lock?: { readonly mode: 'GOVERNANCE' | 'COMPLIANCE'; readonly retainMilliseconds: number };
    }
  | { readonly kind: 'file'; readonly directory: string };

const encryptions = ['AES256', 'aws:kms', 'aws:kms:dsse'] as const;
const parameters = ['endpoint', 'region', 'sse', 'object-lock', 'retain'];
const urlForm =
  's3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION&sse=AES256&object-lock=compliance&retain=90d or file:///DIRECTORY';
const day = 86_400_000;
/** S3 keeps nothing longer than a hundred years. */
const longestRetention = 36_500 * day;

/** @throws Failure `upload-url-invalid`, usage, which never repeats a password from the URL. */
export function parseUploadUrl(text: string): UploadTarget {
  const invalid = (why: string): Failure =>
    new Failure('upload-url-invalid', `The upload URL is not valid: ${why}.`, {
      remedy: `Write it as ${urlForm}.`,
      status: exitStatus.usage,
    });
  const url = URL.parse(text);
  if (url === null) throw invalid('it is not a URL');
  if (url.username !== '' || url.password !== '') {
    throw invalid('credentials do not belong there, the courier has a file for them');
  }
  if (url.hash !== '') throw invalid('it has a fragment (#)');
  if (url.protocol === 'file:') {
    if (url.search !== '') throw invalid('a directory takes no parameters');
    if (url.hostname !== '')
      throw invalid(`it names the host ${url.hostname}; a directory has three slashes`);
    return { kind: 'file', directory: attempt(() => fileURLToPath(url), invalid) };
  }
  if (url.protocol !== 's3:') throw invalid(`${url.protocol}// is not supported`);
  const bucket = url.host;
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) throw invalid(`"${bucket}" cannot be a bucket`);
  for (const name of url.searchParams.keys()) {
    if (!parameters.includes(name)) throw invalid(`"${name}" is not a known parameter`);
    if (url.searchParams.getAll(name).length > 1) throw invalid(`"${name}" is given more than once`);
  }
  const region = url.searchParams.get('region') ?? 'us-east-1';
  if (!/^[a-z0-9-]{1,64}$/.test(region)) throw invalid(`"${region}" cannot be a region`);
  const endpoint = url.searchParams.get('endpoint');
  const prefix = attempt(() => decodeURIComponent(url.pathname), invalid).replace(/^\/+|\/+$/g, '');
  return {
    kind: 's3',
    bucket,
    prefix,
    region,
    ...(endpoint === null ? {} : { endpoint: parseEndpoint(endpoint, invalid) }),
    ...parseEncryption(url.searchParams.get('sse'), invalid),
    ...parseLock(url.searchParams.get('object-lock'), url.searchParams.get('retain'), invalid),
  };
}

/** As `parseUploadUrl` reads it: a key may hold any character, an address only visible ASCII. */
export const s3Address = (bucket: string, key: string): string =>
  `s3://${bucket}/${encodeURI(key).replace(/[?#]/g, encodeURIComponent)}`;

function parseEncryption(text: string | null, invalid: (why: string) => Failure) {
  if (text === null) return {};
  const sse = encryptions.find((name) => name === text);
  if (sse === undefined) throw invalid(`"${text}" is none of ${encryptions.join(', ')}`);
  return { sse };
}

function parseLock(mode: string | null, retain: string | null, invalid: (why: string) => Failure) {
  if (mode === null && retain === null) return {};
  if (mode === null || retain === null) throw invalid('object-lock and retain belong together');
  if (mode !== 'governance' && mode !== 'compliance') {
    throw invalid(`"${mode}" is neither governance nor compliance`);
  }
  const [, number, unit] = /^([1-9]\d{0,4})([dy])$/.exec(retain) ?? [];
  const retainMilliseconds = Number(number) * (unit === 'y' ? 365 : 1) * day;
  if (!(retainMilliseconds <= longestRetention)) {
    throw invalid(`"${retain}" is no time to retain, such as 90d or 7y, of at most a hundred years`);
  }
  return {
    lock: {
      mode: mode === 'governance' ? ('GOVERNANCE' as const) : ('COMPLIANCE' as const),
      retainMilliseconds,
    },
  };
}

function parseEndpoint(text: string, invalid: (why: string) => Failure): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw invalid('its endpoint is not an http or https URL');
  if (url.username !== '' || url.password !== '') throw invalid('its endpoint has credentials in it');
  if (url.search !== '' || url.hash !== '') throw invalid('its endpoint has parameters');
  return url.href.replace(/\/+$/, '');
}

function attempt<T>(parse: () => T, invalid: (why: string) => Failure): T {
  try {
    return parse();
  } catch (error) {
    throw invalid(reasonOf(error));
  }
}
