// The delivery of a gibibyte to the lab's S3 server, which is a process of its own, against the SDK's own upload manager
// (@aws-sdk/lib-storage) with as many parts of the same size at once. Ours compares what it sends with the SHA-256 of the archive,
// reads back what lies there and compares again; the reference sends. ESOTERIC_BENCH_BYTES makes it smaller.
import { spawn } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, createReadStream, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DeleteObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { deliver, parseUploadUrl } from '../../src/forensics/deliver.ts';
import { type Benchmark, inTurn, judge, type Progress, type Side, timed, words } from './benchmark.ts';
import { scratchDirectory } from './scratch.ts';
import { largeLoad } from './verify-bundle.ts';

const name = 'upload-1gb';
const target = { atMost: 1.15 } as const;
const credentials = { accessKeyId: 'BENCH', secretAccessKey: 'a-secret-that-protects-nothing' };
const bucket = 'evidence';
const partSize = 8 << 20;
const queueSize = 4;

export const uploading: Benchmark = {
  name,
  target: words(target),
  needs: { programs: ['setpriv'] },
  run: (progress) => measureUpload({ rounds: 3, byteLength: largeLoad() }, progress),
};

export async function measureUpload(
  load: { readonly rounds: number; readonly byteLength: number },
  progress: Progress,
): Promise<BenchResult> {
  using scratch = scratchDirectory();
  const file = join(scratch.path, 'bench-000001-20261120T163000Z.tar.gz');
  const sha256 = new Map([[file, writeNoise(file, load.byteLength)]]);
  await using store = await startStore();
  const client = new S3Client({
    endpoint: store.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials,
  });
  const remove = async (key: string) =>
    void (await client.send(new DeleteObjectCommand({ Bucket: bucket, Key: key })));
  const ours: Side = async () => {
    const spent = await timed(() =>
      deliver({
        files: [file],
        sha256,
        target: parseUploadUrl(`s3://${bucket}/ours?endpoint=${store.endpoint}`),
        credentials: async () => credentials,
        partBytes: partSize,
        stateDirectory: scratch.path,
        signal: progress.signal,
      }),
    );
    await remove('ours/bench-000001-20261120T163000Z.tar.gz');
    return [spent];
  };
  const reference: Side = async () => {
    const params = { Bucket: bucket, Key: 'bare', Body: createReadStream(file) };
    const spent = await timed(() => new Upload({ client, params, partSize, queueSize }).done());
    await remove('bare');
    return [spent];
  };
  // Those that do not count matter: the first upload of all takes two to five seconds longer, as long as the store's memory is new.
  const milliseconds = await inTurn({ blocks: load.rounds, runs: 1 }, progress, ours, reference);
  client.destroy();
  return judge({
    name,
    value: milliseconds.ours / 1000,
    unit: 's',
    reference: { name: '@aws-sdk/lib-storage', value: milliseconds.reference / 1000 },
    target,
  });
}

/** Incompressible, as an archive is. @returns its SHA-256, in hex: the node has that of an archive from packing it. */
function writeNoise(path: string, byteLength: number): string {
  const hash = createHash('sha256');
  const block = Buffer.alloc(Math.min(byteLength, 16 << 20));
  const fd = openSync(path, 'w');
  try {
    for (let left = byteLength; left > 0; left -= block.length) {
      const bytes = randomFillSync(block).subarray(0, Math.min(left, block.length));
      writeSync(fd, bytes);
      hash.update(bytes);
    }
    return hash.digest('hex');
  } finally {
    closeSync(fd);
  }
}

/** The lab's server in a process of its own, so that it is no part of either side. */
async function startStore(): Promise<AsyncDisposable & { readonly endpoint: string }> {
  const source = JSON.stringify(new URL('../lab/s3.ts', import.meta.url).href);
  const program = `
    const { startS3 } = await import(${source});
    const { endpoint } = await startS3(${JSON.stringify({ credentials, buckets: [bucket] })});
    console.log(endpoint);`;
  const child = spawn(
    'setpriv',
    [
      '--pdeathsig',
      'KILL',
      process.execPath,
      '--disable-warning=ExperimentalWarning',
      '--input-type=module',
      '--eval',
      program,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const [endpoint] = (await once(createInterface(child.stdout), 'line')) as [string];
  return {
    endpoint,
    async [Symbol.asyncDispose]() {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}
