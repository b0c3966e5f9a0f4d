// Evidence made by a real TPM implementation (swtpm) and read from the files of tpm2-tools, for tests that appraise it.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { type EnrolmentRecord, signingKeyQualifyingData } from '../../src/attestation/enrolment.ts';
import { requireChild } from '../../src/host/child.ts';
import { Reader, Writer } from '../../src/tpm/wire.ts';
import { syntheticEventLog } from '../lab/eventlog.ts';

export interface SignedAttest {
  /** TPMS_ATTEST. */
  readonly attest: Uint8Array;
  /** TPMT_SIGNATURE. */
  readonly signature: Uint8Array;
}

export interface RealKey {
  /** TPMT_PUBLIC. */
  readonly public: Uint8Array;
  readonly publicKey: string;
  /** Hex, as the TPM tells them. */
  readonly name: string;
  readonly qualifiedName: string;
}

export interface RealEvidence {
  readonly ak: RealKey;
  readonly signingKey: RealKey;
  readonly qualifyingData: Uint8Array;
  /** Over PCRs 0 to 7 and 14. */
  readonly quote: SignedAttest;
  /** The same, made later in the same power cycle. */
  readonly laterQuote: SignedAttest;
  /** The same, over PCRs 0 to 7 and 14 of the SHA-1 bank too. */
  readonly twoBankQuote: SignedAttest;
  /** ECDSA signature of `derQuote.attest` as tpm2-tools writes it for others. */
  readonly derQuote: SignedAttest;
  readonly certification: SignedAttest;
  readonly nvCertification: SignedAttest & { readonly contents: Uint8Array };
  /** Of the SHA-256 bank, after the synthetic event log was extended. */
  readonly pcrValues: Record<string, string>;
}

export const quotedPcrs = [0, 1, 2, 3, 4, 5, 6, 7, 14];
const attributes = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign';
const akHandle = 0x81010002;
const keyHandle = 0x81010003;
const nvIndex = '0x01800002';

/** Starts a simulator, makes the evidence, and ends the simulator. About a second. */
export async function makeRealEvidence(): Promise<RealEvidence> {
  const directory = mkdtempSync(join(tmpdir(), 'ea-evidence-'));
  await using simulator = await startSimulator(directory);
  const env = { ...process.env, TPM2TOOLS_TCTI: simulator.tcti };
  const tool = (name: string, args: string[], input?: Uint8Array) =>
    requireChild(`tpm2_${name}`, args, { cwd: directory, env, ...(input ? { input } : {}) });
  const file = (name: string) => new Uint8Array(readFileSync(join(directory, name)));

  const key = async (handle: number, label: string): Promise<RealKey> => {
    const out = ['-o', `${label}.tpmt`, '-n', `${label}.name`];
    const shown = await tool('readpublic', ['-c', hexHandle(handle), '-f', 'tpmt', ...out]);
    await tool('readpublic', ['-c', hexHandle(handle), '-f', 'pem', '-o', `${label}.pem`]);
    return {
      public: file(`${label}.tpmt`),
      publicKey: Buffer.from(file(`${label}.pem`)).toString(),
      name: Buffer.from(file(`${label}.name`)).toString('hex'),
      qualifiedName: /qualified name: ([0-9a-f]+)/.exec(shown.stdout.toString())?.[1] ?? '',
    };
  };
  const qualifyingData = new Uint8Array(32).fill(0xa5);
  const nonce = Buffer.from(qualifyingData).toString('hex');
  const quote = async (selection: string, format = 'tss'): Promise<SignedAttest> => {
    const out = ['-m', 'quote.attest', '-s', 'quote.signature', '-f', format];
    await tool('quote', ['-c', hexHandle(akHandle), '-l', selection, '-q', nonce, '-g', 'sha256', ...out]);
    return { attest: file('quote.attest'), signature: file('quote.signature') };
  };

  await tool('pcrextend', [
    ...syntheticEventLog().extends.map(
      ({ pcr, sha256, sha1 }) => `${pcr}:sha1=${hex(sha1)},sha256=${hex(sha256)}`,
    ),
    `14:sha256=${'14'.repeat(32)}`,
  ]);
  await makeKeys(tool);
  const contents = Buffer.from('eight ok');
  writeFileSync(join(directory, 'contents'), contents);
  await tool('nvdefine', [nvIndex, '-C', 'o', '-s', '8', '-a', 'authread|authwrite']);
  await tool('nvwrite', [nvIndex, '-C', nvIndex, '-i', 'contents']);
  const nvOut = ['-o', 'nv.signature', '--attestation', 'nv.attest', '-f', 'tss', '--size', '8'];
  await tool('nvcertify', [
    '-C',
    hexHandle(akHandle),
    '-c',
    nvIndex,
    '-g',
    'sha256',
    '-q',
    nonce,
    ...nvOut,
    nvIndex,
  ]);
  await tool('pcrread', [`sha256:${quotedPcrs.join()}`, '-o', 'pcrs']);
  await tool('send', ['-o', 'certify.response'], certifyCommand(signingKeyQualifyingData));
  const pcrs = file('pcrs');
  const selection = `sha256:${quotedPcrs.join()}`;
  return {
    ak: await key(akHandle, 'ak'),
    signingKey: await key(keyHandle, 'key'),
    qualifyingData,
    quote: await quote(selection),
    laterQuote: await quote(selection),
    twoBankQuote: await quote(`sha1:${quotedPcrs.join()}+${selection}`),
    derQuote: await quote(selection, 'plain'),
    certification: readCertifyResponse(file('certify.response')),
    nvCertification: { attest: file('nv.attest'), signature: file('nv.signature'), contents },
    pcrValues: Object.fromEntries(
      quotedPcrs.map((pcr, index) => [String(pcr), hex(pcrs.subarray(index * 32, index * 32 + 32))]),
    ),
  };
}

/** The enrolment record that a node with this TPM would write. */
export function enrolmentOf(evidence: RealEvidence): EnrolmentRecord {
  const { ak, signingKey, certification, pcrValues } = evidence;
  const identity = (key: RealKey) => ({
    name: key.name,
    public: base64(key.public),
    publicKey: key.publicKey,
  });
  const pcr = (index: number) => pcrValues[index] ?? '';
  return {
    format: 'esoteric-appliance-enrolment/1',
    node: 'alpha',
    role: 'lab',
    created: '2026-11-20T16:30:00Z',
    assurance: { tpm: 'simulator', sigstore: 'on', standIns: ['swtpm', 'synthetic event log'], notes: [] },
    tpm: {
      manufacturer: 'IBM',
      firmware: '2019.1023',
      srk: { handle: '0x81000001', name: ak.name },
      ak: { handle: hexHandle(akHandle), ...identity(ak) },
      signingKey: {
        ...identity(signingKey),
        certification: { attest: base64(certification.attest), signature: base64(certification.signature) },
      },
      pcrPolicy: { bank: 'sha256', pcrs: { '0': pcr(0), '7': pcr(7), '14': pcr(14) } },
      capPcr: 14,
      resetCount: 0,
      restartCount: 0,
    },
    keys: [{ name: 'wg0', purpose: 'wireguard', publicKey: base64(new Uint8Array(32).fill(7)) }],
    custodyHead: { sequence: 1, hash: '0'.repeat(64) },
  };
}

/** AK as an endorsement primary, signing key below a storage key, both persistent (tools need no context files then). */
async function makeKeys(tool: (name: string, args: string[]) => Promise<unknown>): Promise<void> {
  const ecdsa = ['-g', 'sha256', '-G', 'ecc256:ecdsa-sha256:null'];
  await tool('createprimary', ['-C', 'e', ...ecdsa, '-a', `${attributes}|restricted`, '-c', 'ak.ctx']);
  await tool('evictcontrol', ['-C', 'o', '-c', 'ak.ctx', hexHandle(akHandle)]);
  await tool('flushcontext', ['-t']);
  await tool('createprimary', ['-C', 'o', '-G', 'ecc256', '-c', 'srk.ctx']);
  await tool('create', ['-C', 'srk.ctx', ...ecdsa, '-a', attributes, '-u', 'key.pub', '-r', 'key.priv']);
  await tool('flushcontext', ['-t']);
  await tool('load', ['-C', 'srk.ctx', '-u', 'key.pub', '-r', 'key.priv', '-c', 'key.ctx']);
  await tool('flushcontext', ['-t']);
  await tool('evictcontrol', ['-C', 'o', '-c', 'key.ctx', hexHandle(keyHandle)]);
  await tool('flushcontext', ['-t']);
}

/** TPM2_Certify (Part 3, section 18.2) by hand: tpm2_certify cannot be told the qualifying data. */
function certifyCommand(qualifyingData: Uint8Array): Uint8Array {
  const passwordSession = new Writer().u32(0x40000009).u16(0).u8(0).u16(0).done();
  const body = new Writer()
    .u32(0x148)
    .u32(keyHandle)
    .u32(akHandle)
    .u32(passwordSession.length * 2)
    .bytes(passwordSession)
    .bytes(passwordSession)
    .sized(qualifyingData)
    .u16(0x0010)
    .done();
  return new Writer()
    .u16(0x8002)
    .u32(body.length + 6)
    .bytes(body)
    .done();
}

function readCertifyResponse(response: Uint8Array): SignedAttest {
  const reader = new Reader(response);
  reader.u16();
  reader.u32();
  const code = reader.u32();
  if (code !== 0) throw new Error(`TPM2_Certify answered 0x${code.toString(16)}`);
  const parameters = new Reader(reader.bytes(reader.u32()));
  const attest = parameters.sized();
  return { attest, signature: parameters.bytes(parameters.remaining) };
}

async function startSimulator(directory: string): Promise<AsyncDisposable & { readonly tcti: string }> {
  const socket = join(directory, 'tpm');
  mkdirSync(join(directory, 'state'));
  const child = spawn(
    'setpriv',
    [
      ...[
        '--pdeathsig',
        'KILL',
        'swtpm',
        'socket',
        '--tpm2',
        '--tpmstate',
        `dir=${join(directory, 'state')}`,
      ],
      ...['--server', `type=unixio,path=${socket}`, '--ctrl', `type=unixio,path=${socket}.ctrl`],
      ...['--flags', 'not-need-init,startup-clear'],
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const dispose = async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };
  for (let tries = 0; !existsSync(`${socket}.ctrl`); tries += 1) {
    if (tries === 300 || child.exitCode !== null) {
      await dispose();
      throw new Error('swtpm did not start: install the packages swtpm and tpm2-tools');
    }
    await wait(10);
  }
  return { tcti: `swtpm:path=${socket}`, [Symbol.asyncDispose]: dispose };
}

function hexHandle(handle: number): string {
  return `0x${handle.toString(16)}`;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
