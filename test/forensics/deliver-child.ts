// One delivery in a process of its own, to be killed: `deliver-child.ts URL STATE PART-BYTES SHA-256 FILE...`, of the first file.
import { deliver, parseUploadUrl } from '../../src/forensics/deliver.ts';

const [url = '', stateDirectory = '', partBytes = '', sha256 = '', ...files] = process.argv.slice(2);
await deliver({
  files,
  sha256: new Map([[files[0] ?? '', sha256]]),
  target: parseUploadUrl(url),
  stateDirectory,
  partBytes: Number(partBytes),
  credentials: async () => ({ accessKeyId: 'COURIER', secretAccessKey: 'courier-secret' }),
  signal: new AbortController().signal,
});
