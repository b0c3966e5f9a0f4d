// A webhook for tests: a real HTTP server that keeps what it is sent (JSON posts, ntfy publishes, Slack messages) and fails on
// request, by status or by hanging.
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface ReceivedPost {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Parsed, where the content type is JSON. */
  readonly json: unknown;
  /** The Idempotency-Key header. */
  readonly key: string;
  readonly at: number;
}

export type Answer = number | 'hang';

export interface Webhook {
  readonly port: number;
  /** An alert channel's URL at this server: `url('json')` is `json://127.0.0.1:PORT/hook`. */
  url(scheme: string, options?: { user?: string; path?: string }): string;
  readonly received: ReceivedPost[];
  /** From now on; with `times`, only so often, then 200 again. `hang` keeps the request open without an answer. */
  respond(answer: Answer, options?: { headers?: Record<string, string>; times?: number }): void;
  /** Resolves when `count` requests have come in all, answered or not. */
  waitFor(count: number, timeoutMilliseconds?: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startWebhook({ host = '127.0.0.1', port = 0 } = {}): Promise<Webhook> {
  const received: ReceivedPost[] = [];
  const hanging = new Set<ServerResponse>();
  let rule: { answer: Answer; headers: Record<string, string>; times: number } = {
    answer: 200,
    headers: {},
    times: Number.POSITIVE_INFINITY,
  };
  let arrived = Promise.withResolvers<void>();

  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString('utf8');
    received.push({
      method: request.method ?? '',
      path: request.url ?? '',
      headers: request.headers,
      text,
      json: request.headers['content-type']?.startsWith('application/json') ? parsed(text) : undefined,
      key: String(request.headers['idempotency-key'] ?? ''),
      at: Date.now(),
    });
    arrived.resolve();
    arrived = Promise.withResolvers<void>();
    const { answer, headers } = rule.times > 0 ? rule : { answer: 200 as const, headers: {} };
    rule.times -= 1;
    if (answer === 'hang') hanging.add(response);
    else response.writeHead(answer, headers).end(answer < 300 ? 'ok' : 'refused');
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const bound = (server.address() as AddressInfo).port;

  return {
    port: bound,
    received,
    url: (scheme, { user, path = '/hook' } = {}) =>
      `${scheme}://${user === undefined ? '' : `${user}@`}${host.includes(':') ? `[${host}]` : host}:${bound}${path}`,
    respond(answer, { headers = {}, times = Number.POSITIVE_INFINITY } = {}) {
      rule = { answer, headers, times };
    },
    async waitFor(count, timeoutMilliseconds = 5000) {
      const deadline = Date.now() + timeoutMilliseconds;
      while (received.length < count) {
        const left = deadline - Date.now();
        if (left <= 0) throw new Error(`Only ${received.length} of ${count} requests came.`);
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, left);
        await Promise.race([arrived.promise, promise]);
        clearTimeout(timer);
      }
    },
    async stop() {
      for (const response of hanging) response.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
