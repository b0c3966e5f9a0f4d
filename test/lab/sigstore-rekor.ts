// A transparency log that records what Rekor would record for a DSSE envelope, in version 1 and version 2 of its API.
// The handlers of @sigstore/mock echo the request instead; its log signs the entries.

import { createHash, createPublicKey, verify } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { dsse } from '@sigstore/core';
import type { initializeTLog } from '@sigstore/mock/dist/rekor/index.js';
import canonicalize from 'canonicalize';
import { z } from 'zod';

export interface Answer {
  readonly status: number;
  readonly body: string | ArrayBufferView;
  readonly type?: string;
  readonly location?: string;
}
export type Handler = (body: string, request: IncomingMessage) => Promise<Answer>;

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

const envelope = z.object({
  payload: z.base64(),
  payloadType: z.string(),
  signatures: z.tuple([z.object({ sig: z.base64() })]),
});
const proposed = z.object({
  kind: z.literal('dsse'),
  spec: z.object({ proposedContent: z.object({ envelope: z.string(), verifiers: z.tuple([z.base64()]) }) }),
});
const proposedV2 = z.object({
  dsseRequestV002: z.object({
    envelope,
    verifiers: z.tuple([
      z.object({ x509Certificate: z.object({ rawBytes: z.base64() }), keyDetails: z.string() }),
    ]),
  }),
});

const logEntry = z.object({
  body: z.string(),
  logID: z.string(),
  verification: z.object({ inclusionProof: z.object({ checkpoint: z.string(), rootHash: z.string() }) }),
});

type Log = Awaited<ReturnType<typeof initializeTLog>>;

const logged = async (log: Log, record: object): Promise<unknown> => Object.values(await log.log(record))[0];

/** One tree of one leaf for each entry. An entry that is there already is a 409 with its address, as at Rekor. */
export function rekorLog(log: Log): Handler {
  const entries = new Map<string, string>();
  const created = (body: string): Answer => ({ status: 201, body, type: 'application/json' });
  const invalid: Answer = { status: 400, body: '{"message":"invalid signature"}', type: 'application/json' };

  const createV1 = async (body: string): Promise<Answer> => {
    const { proposedContent } = proposed.parse(JSON.parse(body)).spec;
    const signed = envelope.parse(JSON.parse(proposedContent.envelope));
    const [verifier] = proposedContent.verifiers;
    if (!signatureValid(signed, Buffer.from(verifier, 'base64').toString('utf8'))) return invalid;
    const hash = (bytes: Uint8Array) => ({ algorithm: 'sha256', value: sha256(bytes).toString('hex') });
    const spec = {
      envelopeHash: hash(Buffer.from(proposedContent.envelope)),
      payloadHash: hash(Buffer.from(signed.payload, 'base64')),
      signatures: [{ signature: signed.signatures[0].sig, verifier }],
    };
    const record = { apiVersion: '0.0.1', kind: 'dsse', spec };
    const uuid = sha256(Buffer.from(canonicalize(record) ?? '')).toString('hex');
    if (entries.has(uuid)) return { status: 409, body: '', location: `/api/v1/log/entries/${uuid}` };
    const entry = JSON.stringify({ [uuid]: await logged(log, record) });
    entries.set(uuid, entry);
    return created(entry);
  };

  const createV2 = async (body: string): Promise<Answer> => {
    const request = proposedV2.parse(JSON.parse(body)).dsseRequestV002;
    const [verifier] = request.verifiers;
    const pem = `-----BEGIN CERTIFICATE-----\n${verifier.x509Certificate.rawBytes}\n-----END CERTIFICATE-----\n`;
    if (!signatureValid(request.envelope, pem)) return invalid;
    const digest = sha256(Buffer.from(request.envelope.payload, 'base64')).toString('base64');
    const dsseV002 = {
      payloadHash: { algorithm: 'SHA2_256', digest },
      signatures: [{ content: request.envelope.signatures[0].sig, verifier }],
    };
    const record = { apiVersion: '0.0.2', kind: 'dsse', spec: { dsseV002 } };
    const entry = logEntry.parse(await logged(log, record));
    const { checkpoint, rootHash } = entry.verification.inclusionProof;
    return created(
      JSON.stringify({
        logIndex: '0',
        logId: { keyId: Buffer.from(entry.logID, 'hex').toString('base64') },
        kindVersion: { kind: 'dsse', version: '0.0.2' },
        integratedTime: '0',
        inclusionProof: {
          logIndex: '0',
          treeSize: '1',
          rootHash: Buffer.from(rootHash, 'hex').toString('base64'),
          hashes: [],
          checkpoint: { envelope: checkpoint },
        },
        canonicalizedBody: entry.body,
      }),
    );
  };

  return async (body, request) => {
    const stored = entries.get(request.url?.split('/').at(-1) ?? '');
    if (request.method === 'GET')
      return stored === undefined ? { status: 404, body: '' } : { ...created(stored), status: 200 };
    return request.url?.startsWith('/api/v2/') ? createV2(body) : createV1(body);
  };
}

function signatureValid(signed: z.infer<typeof envelope>, verifierPem: string): boolean {
  const covered = dsse.preAuthEncoding(signed.payloadType, Buffer.from(signed.payload, 'base64'));
  return verify(
    'sha256',
    covered,
    createPublicKey(verifierPem),
    Buffer.from(signed.signatures[0].sig, 'base64'),
  );
}
