// The open connections of an HTTP server: one request at a time on each (pipelining, RFC 9112 section 9.3.2, is refused before
// it is parsed: the parser would emit every request of a chunk in one go), and all of them reset at once on demand.
import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const endOfHead = '\r\n\r\n';

export class Connections {
  readonly #open = new Set<Socket>();
  readonly #answering = new WeakSet<Socket>();

  /** `event`: `secureConnection` where TLS is between. */
  constructor(server: Server, event: 'connection' | 'secureConnection' = 'connection') {
    server.on(event, (socket: Socket) => {
      this.#open.add(socket);
      socket.once('close', () => this.#open.delete(socket));
      this.#screen(socket);
    });
  }

  /** Notes that the socket has a request; false, and the connection is gone, if it already had one. */
  begin(socket: Socket, response: ServerResponse): boolean {
    if (this.#answering.has(socket)) {
      socket.resetAndDestroy();
      return false;
    }
    this.#answering.add(socket);
    response.once('close', () => this.#answering.delete(socket));
    return true;
  }

  /** Resets every connection (TCP RST): what waits in the kernel's send buffers is dropped, not sent. */
  resetAll(): void {
    for (const socket of this.#open) socket.resetAndDestroy();
  }

  /** Puts itself between the socket and the parser. */
  #screen(socket: Socket): void {
    const parsers = socket.listeners('data');
    socket.on('data', (chunk: Buffer) => {
      if (socket.destroyed || socket.writableEnded) return;
      const end = chunk.indexOf(endOfHead);
      if (this.#answering.has(socket)) socket.resetAndDestroy();
      else if (end >= 0 && end + endOfHead.length < chunk.length) refuseMore(socket);
      else for (const parse of parsers) parse.call(socket, chunk);
    });
    for (const parse of parsers) socket.off('data', parse as (chunk: Buffer) => void);
  }
}

function refuseMore(socket: Socket): void {
  const body = `${JSON.stringify({
    code: 'request-invalid',
    message: 'More came than one request without a body.',
    remedy: 'Send the next request when the last has been answered.',
  })}\n`;
  const head = [
    'HTTP/1.1 400 Bad Request',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ].join('\r\n');
  socket.end(`${head}${endOfHead}${body}`, () => socket.destroy());
}
