// What a verifier keeps to itself between the documents of one exchange: its request, and at enrolment the evidence and what it hid
// in its challenge. A file for the verifier alone; it is taken away when the node is enrolled.
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import type { Expected } from '../attestation/admission.ts';
import { type AttestRequest, parseRequest } from '../attestation/documents.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { z } from '../host/zod.ts';

/** A request with a nonce of its own. */
export function newRequest(pcrs: readonly number[], at: Date): AttestRequest {
  return {
    format: 'esoteric-appliance-attest-request/1',
    nonce: randomBytes(32).toString('hex'),
    pcrs: [...new Set(pcrs)].sort((a, b) => a - b),
    created: at.toISOString(),
  };
}

const schema = z.strictObject({
  format: z.literal('esoteric-appliance-attest-session/1'),
  request: z.unknown(),
  /** The document as it came. */
  evidence: z.string().exactOptional(),
  expected: z.strictObject({ kind: z.enum(['rsa', 'ecc']), secret: z.base64() }).exactOptional(),
});

export interface Session {
  readonly request: AttestRequest;
  readonly evidence?: string;
  readonly expected?: Expected;
}

export function writeSession(path: string, { request, evidence, expected }: Session): void {
  const document: z.infer<typeof schema> = {
    format: 'esoteric-appliance-attest-session/1',
    request,
    ...(evidence === undefined ? {} : { evidence }),
    ...(expected === undefined
      ? {}
      : { expected: { kind: expected.kind, secret: Buffer.from(expected.secret).toString('base64') } }),
  };
  writeDurably(path, `${JSON.stringify(document)}\n`, 0o600);
}

/** @throws Failure `session-missing`, `session-invalid`; status 2. */
export function readSession(path: string): Session {
  const text = readIfPresent(path);
  if (text === undefined) throw unusable('session-missing', `There is no session ${path}`);
  try {
    const { request, evidence, expected } = schema.parse(JSON.parse(text));
    return {
      request: parseRequest(JSON.stringify(request)),
      ...(evidence === undefined ? {} : { evidence }),
      ...(expected === undefined
        ? {}
        : { expected: { kind: expected.kind, secret: Buffer.from(expected.secret, 'base64') } }),
    };
  } catch (cause) {
    throw unusable('session-invalid', `${path} is not a session of this verifier`, cause);
  }
}

/** A challenge serves once. */
export const endSession = (path: string): void => rmSync(path, { force: true });

function unusable(code: string, what: string, cause?: unknown): Failure {
  return new Failure(code, `${what}.`, {
    remedy: 'Begin one with `esoteric-appliance attest challenge --session FILE`.',
    status: exitStatus.usage,
    ...(cause === undefined ? {} : { cause }),
  });
}
