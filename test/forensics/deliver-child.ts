// One delivery in a process of its own, to be killed: `deliver-child.ts URL STATE PART-BYTES FILE...`.
import { deliver, parseUploadUrl } from '../../src/forensics/deliver.ts';

const [url = '', stateDirectory = '', partBytes = '', ...files] = process.argv.slice(2);
await deliver({
  files,
  target: parseUploadUrl(url),
  stateDirectory,
  partBytes: Number(partBytes),
  credentials: async () => ({ accessKeyId: 'COURIER', secretAccessKey: 'courier-secret' }),
  signal: new AbortController().signal,
});
