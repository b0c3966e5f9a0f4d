// Who may ask, and from where: a bearer token (RFC 6750), cross-origin requests (Fetch standard, "CORS protocol"), and connections per
// client address.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server } from 'node:net';

/** True where no token is asked for, or the right one was given. Compared in constant time. */
export function authorized(request: IncomingMessage, tokenDigest: Uint8Array | undefined): boolean {
  if (tokenDigest === undefined) return true;
  const [, given = ''] = /^Bearer +([\x21-\x7e]{1,512})$/i.exec(request.headers.authorization ?? '') ?? [];
  return timingSafeEqual(digestOfToken(given), tokenDigest);
}

/** What the server keeps of a token. */
export const digestOfToken = (token: string): Buffer => createHash('sha256').update(token).digest();

/** Lets scripts of `origin` (`*`: of any) read the answers. Returns whether that was all: the question before a request. */
export function allowOrigin(
  request: IncomingMessage,
  response: ServerResponse,
  origin: string | undefined,
): boolean {
  if (origin === undefined) return false;
  response.setHeader('Access-Control-Allow-Origin', origin);
  if (origin !== '*') response.setHeader('Vary', 'Origin');
  if (request.method !== 'OPTIONS') return false;
  response.writeHead(204, {
    'Access-Control-Allow-Methods': 'GET, HEAD',
    'Access-Control-Allow-Headers': 'Authorization',
    'Access-Control-Max-Age': '600',
  });
  response.end();
  return true;
}

/** Closes connections of an address that has `most` open already, so that one client leaves room for the others. */
export function limitPerClient(server: Server, most: number): void {
  const open = new Map<string, number>();
  server.on('connection', (socket) => {
    const client = socket.remoteAddress ?? '';
    const count = (open.get(client) ?? 0) + 1;
    open.set(client, count);
    socket.once('close', () => {
      const left = (open.get(client) ?? 1) - 1;
      if (left <= 0) open.delete(client);
      else open.set(client, left);
    });
    if (count > most) socket.destroy();
  });
}
