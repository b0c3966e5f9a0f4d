// The services that nodes deliver to, in a process of their own inside the services' namespace: an S3 server, Fulcio, Rekor, a
// timestamp authority, a webhook. All of them stand-ins, all of them speaking the real protocols.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { inside } from './network.ts';
import { startS3 } from './s3.ts';
import { startSigstore } from './sigstore.ts';
import { startWebhook } from './webhook.ts';

export interface ServicesStarted {
  readonly s3: {
    readonly endpoint: string;
    readonly bucket: string;
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
  };
  readonly sigstore: {
    readonly fulcio: string;
    readonly rekor: string;
    readonly tsa: string;
    readonly issuer: string;
    readonly trustedRoot: object;
    /** By subject. */
    readonly identityTokens: Record<string, string>;
  };
  readonly channels: { readonly json: string; readonly ntfy: string };
}

type Ask =
  | { readonly ask: 'download'; readonly prefix: string; readonly directory: string }
  | { readonly ask: 'alerts' };

export interface ReceivedAlert {
  readonly path: string;
  readonly key: string;
  readonly text: string;
}

export interface Services extends AsyncDisposable {
  readonly started: ServicesStarted;
  /** Downloads everything below a prefix with the S3 client; names of the files. */
  download(prefix: string, directory: string): Promise<string[]>;
  alerts(): Promise<ReceivedAlert[]>;
}

/** Starts the services in `namespace` (undefined: here), at `host`, with an identity token for each subject. */
export async function startServices(
  namespace: string | undefined,
  host: string,
  subjects: readonly string[],
): Promise<Services> {
  const program = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    import.meta.filename,
    host,
    ...subjects,
  ];
  const [command, args] =
    namespace === undefined ? [program[0] ?? '', program.slice(1)] : inside(namespace, ...program);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const started = (await answer(child)) as ServicesStarted;
  const ask = async (question: Ask): Promise<unknown> => {
    child.send(question);
    return await answer(child);
  };
  return {
    started,
    download: async (prefix, directory) => (await ask({ ask: 'download', prefix, directory })) as string[],
    alerts: async () => (await ask({ ask: 'alerts' })) as ReceivedAlert[],
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

async function answer(child: ChildProcess): Promise<unknown> {
  const ended = new AbortController();
  try {
    const first = await Promise.race([
      once(child, 'message', { signal: ended.signal }).then(
        ([message]) => message as { ok?: unknown; error?: string },
      ),
      once(child, 'exit', { signal: ended.signal }).then(() => ({
        ok: undefined,
        error: 'the services ended',
      })),
    ]);
    if (first.error !== undefined) throw new Error(`The services failed: ${first.error}`);
    return first.ok;
  } finally {
    ended.abort();
  }
}

const bucket = 'evidence';

async function serve(host: string, subjects: readonly string[]): Promise<void> {
  const credentials = {
    accessKeyId: 'AKIALABLABLABLABLAB',
    secretAccessKey: 'lab-secret-key-that-protects-nothing',
  };
  const [s3, sigstore, webhook] = await Promise.all([
    startS3({ host, credentials, buckets: [bucket] }),
    startSigstore({ host }),
    startWebhook({ host }),
  ]);
  const client = new S3Client({
    region: 'us-east-1',
    endpoint: s3.endpoint,
    forcePathStyle: true,
    credentials,
  });
  const download = async (prefix: string, directory: string): Promise<string[]> => {
    const listed = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }));
    mkdirSync(directory, { recursive: true });
    const names: string[] = [];
    for (const { Key: key = '' } of listed.Contents ?? []) {
      const object = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
      const name = key.slice(key.lastIndexOf('/') + 1);
      writeFileSync(join(directory, name), (await object.Body?.transformToByteArray()) ?? new Uint8Array());
      names.push(name);
    }
    return names.sort();
  };
  process.on('message', async (question: Ask) => {
    try {
      const ok =
        question.ask === 'download'
          ? await download(question.prefix, question.directory)
          : webhook.received.map(({ path, key, text }) => ({ path, key, text }));
      process.send?.({ ok });
    } catch (error) {
      process.send?.({ error: String(error) });
    }
  });
  const ok: ServicesStarted = {
    s3: { endpoint: s3.endpoint, bucket, ...credentials },
    sigstore: {
      fulcio: sigstore.fulcio,
      rekor: sigstore.rekor,
      tsa: sigstore.tsa,
      issuer: sigstore.issuer,
      trustedRoot: sigstore.trustedRoot,
      identityTokens: Object.fromEntries(
        subjects.map((subject) => [subject, sigstore.identityToken(subject)]),
      ),
    },
    channels: { json: webhook.url('json'), ntfy: webhook.url('ntfy', { path: '/node-alerts' }) },
  };
  process.send?.({ ok });
}

if (import.meta.main) {
  const [host = '127.0.0.1', ...subjects] = process.argv.slice(2);
  await serve(host, subjects);
}
