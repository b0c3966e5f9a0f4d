// One HTTP GET, to be run inside a namespace: `node fetch.ts URL` prints {status, bytes, sha256, text} as JSON, status 0 where
// nothing answers.
import { createHash } from 'node:crypto';

export interface Fetched {
  readonly status: number;
  readonly bytes: number;
  readonly sha256: string;
  /** Only of JSON answers. */
  readonly text: string;
}

if (import.meta.main) {
  const [url = ''] = process.argv.slice(2);
  let fetched: Fetched;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5000) });
    const body = Buffer.from(await response.arrayBuffer());
    const isText = response.headers.get('content-type')?.startsWith('application/json') === true;
    fetched = {
      status: response.status,
      bytes: body.length,
      sha256: createHash('sha256').update(body).digest('hex'),
      text: isText ? body.toString('utf8') : '',
    };
  } catch {
    fetched = { status: 0, bytes: 0, sha256: '', text: '' };
  }
  process.stdout.write(`${JSON.stringify(fetched)}\n`);
}
