// The subject of unseal-process, a program: opens the TPM, unseals what is in two files, and ends.
import { readFileSync } from 'node:fs';
import { SecretArena } from '../../src/host/arena.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { Reader } from '../../src/tpm/wire.ts';
import { srkHandle } from './bench-tpm.ts';
import { unsealByPcrs } from './pcr-sealed.ts';

const [tcti = '', publicPath = '', privatePath = ''] = process.argv.slice(2);
const blob = { public: new Reader(readFileSync(publicPath)).sized(), private: readFileSync(privatePath) };
using arena = SecretArena.allocate({ allowSwappable: true });
await using tpm = await openTpm({ tcti });
await using srk = await tpm.at(srkHandle);
await unsealByPcrs({ tpm, srk, arena }, blob);
