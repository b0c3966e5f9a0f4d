// A local Sigstore: Fulcio, Rekor (v1 and v2) and an RFC 3161 authority over real HTTP, on the handlers of @sigstore/mock.
// They check what the real ones check (token, proof of possession, entry signature); only their keys are made up.

import { createHash, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { parseArgs } from 'node:util';
import { fulcioHandler, initializeCA, initializeCTLog } from '@sigstore/mock/dist/fulcio/index.js';
import { initializeTLog } from '@sigstore/mock/dist/rekor/index.js';
import { initializeTSA, tsaHandler } from '@sigstore/mock/dist/timestamp/index.js';
import { z } from 'zod';
import { reasonOf } from '../../src/host/failure.ts';
import { type OidcIssuer, oidcIssuer } from './oidc-issuer.ts';
import { type Answer, type Handler, rekorLog } from './sigstore-rekor.ts';

type ServiceName = 'fulcio' | 'rekor' | 'tsa' | 'issuer';
/** An HTTP status, an answer that is not what was asked for, or no answer at all. */
type Misbehaviour = number | 'garbage' | 'hang';

export interface LocalSigstore extends AsyncDisposable {
  readonly fulcio: string;
  readonly rekor: string;
  readonly tsa: string;
  /** `trusted_root.json` of this instance. */
  readonly trustedRoot: object;
  /** The issuer whose tokens its Fulcio takes. */
  readonly issuer: string;
  readonly oidc: OidcIssuer;
  /** What was asked, in order. */
  readonly requests: readonly {
    readonly service: ServiceName;
    readonly method: string;
    readonly path: string;
  }[];
  /** An OIDC token of this instance's issuer, valid for an hour; other claims, where they are told. */
  identityToken(subject: string, claims?: object): string;
  /** The next request to the service is answered so. */
  failNext(service: ServiceName, how: Misbehaviour): void;
  stop(): Promise<void>;
}

const newKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** Starts the three services on ports of their own at `host`. */
export async function startSigstore({ host = '127.0.0.1' } = {}): Promise<LocalSigstore> {
  const requests: { service: ServiceName; method: string; path: string }[] = [];
  const faults: Record<ServiceName, Misbehaviour[]> = { fulcio: [], rekor: [], tsa: [], issuer: [] };
  const handlers: Partial<Record<ServiceName, Handler>> = {};
  const servers = new Map<ServiceName, Server>();

  const listen = async (service: ServiceName): Promise<string> => {
    const server = createServer((request, response) => {
      requests.push({ service, method: request.method ?? '', path: request.url ?? '' });
      void serve(handlers[service], faults[service].shift(), request, response);
    });
    servers.set(service, server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(0, host, resolve);
    });
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('no address');
    return `http://${host}:${address.port}`;
  };
  const names = ['fulcio', 'rekor', 'tsa', 'issuer'] as const;
  const [fulcio = '', rekor = '', tsa = '', issuer = ''] = await Promise.all(names.map(listen));

  const issuerKey = newKey();
  const oidc = oidcIssuer(issuer, (claims, lifetime) => token(claims, issuerKey.privateKey, lifetime));
  handlers.issuer = oidc.handler;
  const ctKey = newKey();
  const logKey = newKey();
  const clock = new Date();
  const ctLog = await initializeCTLog(ctKey);
  const authority = await initializeCA(newKey(), ctLog);
  const log = await initializeTLog(rekor, logKey);
  const timestamps = await initializeTSA(newKey(), clock);

  const certificates = fulcioHandler(authority);
  const certificatesOfEmails = fulcioHandler(authority, { subjectClaim: 'email' });
  handlers.fulcio = async (body) => {
    const claims = provenClaims(body, issuer, issuerKey.publicKey);
    if (claims === null) return { status: 401, body: 'token or proof of possession refused' };
    return answered(await (claims.email === undefined ? certificates : certificatesOfEmails).fn(body));
  };
  handlers.rekor = rekorLog(log);
  // Whole seconds, and one at a time: the handler reads its clock more than once for each answer.
  let last: Promise<unknown> = Promise.resolve();
  const stamping = tsaHandler(timestamps);
  handlers.tsa = async (body) => {
    const turn = last.then(() => {
      clock.setTime(Math.floor(Date.now() / 1000) * 1000);
      return stamping.fn(body);
    });
    last = turn.catch(() => undefined);
    return answered(await turn);
  };

  const stop = async (): Promise<void> => {
    for (const server of servers.values()) {
      server.closeAllConnections();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    }
  };
  return {
    fulcio,
    rekor,
    tsa,
    issuer,
    oidc,
    requests,
    trustedRoot: trustedRootOf({ fulcio, rekor, tsa, authority, ctLog, log, timestamps }),
    identityToken: (subject, claims = {}) =>
      token({ iss: issuer, sub: subject, aud: 'sigstore', ...claims }, issuerKey.privateKey),
    failNext: (service, how) => void faults[service].push(how),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function serve(
  handler: Handler | undefined,
  fault: Misbehaviour | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  if (fault === 'hang') return;
  let answer: Answer;
  if (typeof fault === 'number')
    answer = { status: fault, body: '{"message":"as told"}', type: 'application/json' };
  else if (fault === 'garbage' || handler === undefined) answer = { status: 201, body: '<html>' };
  else answer = await handler(Buffer.concat(chunks).toString('utf8'), request).catch(badRequest);
  response.writeHead(answer.status, {
    'content-type': answer.type ?? 'text/plain',
    ...(answer.location === undefined ? {} : { location: answer.location }),
  });
  response.end(answer.body);
}

const badRequest = (thrown: unknown): Answer => ({ status: 400, body: reasonOf(thrown) });

const answered = (result: {
  statusCode: number;
  response: string | ArrayBufferView;
  contentType?: string;
}): Answer => ({
  status: result.statusCode,
  body: result.response,
  type: result.contentType ?? 'text/plain',
});

const json = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

function token(claims: object, key: ReturnType<typeof newKey>['privateKey'], lifetime = 3600): string {
  const now = Math.floor(Date.now() / 1000);
  const signed = `${json({ alg: 'ES256', typ: 'JWT' })}.${json({ iat: now, exp: now + lifetime, ...claims })}`;
  const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}

const certificateRequest = z.object({
  credentials: z.object({ oidcIdentityToken: z.string() }),
  publicKeyRequest: z.object({ publicKey: z.object({ content: z.string() }), proofOfPossession: z.base64() }),
});

/** Fulcio's two checks: the token is the issuer's for it, and the key that asks has signed the token's subject. */
function provenClaims(
  body: string,
  issuer: string,
  issuerKey: ReturnType<typeof newKey>['publicKey'],
): { readonly sub: string; readonly email?: string | undefined } | null {
  const { credentials, publicKeyRequest } = certificateRequest.parse(JSON.parse(body));
  const [header = '', payload = '', signature = ''] = credentials.oidcIdentityToken.split('.');
  const claims = z
    .object({
      iss: z.literal(issuer),
      aud: z.literal('sigstore'),
      sub: z.string(),
      email: z.string().optional(),
      exp: z.number(),
    })
    .parse(JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')));
  const key = { key: issuerKey, dsaEncoding: 'ieee-p1363' } as const;
  const proven =
    verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url')) &&
    claims.exp * 1000 > Date.now() &&
    verify(
      'sha256',
      Buffer.from(claims.email ?? claims.sub),
      createPublicKey(publicKeyRequest.publicKey.content),
      Buffer.from(publicKeyRequest.proofOfPossession, 'base64'),
    );
  return proven ? claims : null;
}

function trustedRootOf(instance: {
  fulcio: string;
  rekor: string;
  tsa: string;
  authority: Awaited<ReturnType<typeof initializeCA>>;
  ctLog: Awaited<ReturnType<typeof initializeCTLog>>;
  log: Awaited<ReturnType<typeof initializeTLog>>;
  timestamps: Awaited<ReturnType<typeof initializeTSA>>;
}): object {
  const validFor = { start: new Date(Date.now() - 3_600_000).toISOString() };
  const bytes = (view: ArrayBufferView) => Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const certChain = (...chain: ArrayBufferView[]) => ({
    certificates: chain.map((certificate) => ({ rawBytes: bytes(certificate).toString('base64') })),
  });
  const logInstance = (baseUrl: string, publicKey: Buffer) => ({
    baseUrl,
    hashAlgorithm: 'SHA2_256',
    publicKey: { rawBytes: publicKey.toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor },
    logId: { keyId: sha256(publicKey).toString('base64') },
  });
  const subject = { organization: 'local stand-in', commonName: 'local stand-in' };
  const { fulcio, rekor, tsa, authority, ctLog, log, timestamps } = instance;
  return {
    mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
    certificateAuthorities: [
      { subject, uri: fulcio, certChain: certChain(authority.rootCertificate), validFor },
    ],
    timestampAuthorities: [
      {
        subject,
        uri: tsa,
        certChain: certChain(timestamps.intCertificate, timestamps.rootCertificate),
        validFor,
      },
    ],
    tlogs: [logInstance(rekor, log.publicKey)],
    ctlogs: [logInstance(fulcio, ctLog.publicKey)],
  };
}

// As a program: prints one line of JSON (addresses, trusted root, a token for each --subject) and serves until ended.
if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      host: { type: 'string', default: '127.0.0.1' },
      subject: { type: 'string', multiple: true, default: [] },
    },
  });
  const { fulcio, rekor, tsa, issuer, trustedRoot, identityToken, stop } = await startSigstore({
    host: values.host,
  });
  const identityTokens = Object.fromEntries(
    values.subject.map((subject) => [subject, identityToken(subject)]),
  );
  process.stdout.write(`${JSON.stringify({ fulcio, rekor, tsa, issuer, trustedRoot, identityTokens })}\n`);
  process.once('SIGTERM', () => void stop());
}
