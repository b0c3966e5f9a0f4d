// The format is open: what a node sealed is opened with tpm2-tools and openssl alone, by following its policy by hand, with an
// approval made by `approve` or with the recovery key; and what they seal so, a node opens.
import { createHash, createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { approve } from '../../src/appliance/approve.ts';
import { generateAuthority } from '../../src/appliance/authorities.ts';
import type { Config } from '../../src/appliance/config.ts';
import { NodeKeys } from '../../src/appliance/node-keys.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import { provision } from '../../src/appliance/provision.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import { requireChild, runChild } from '../../src/host/child.ts';
import type { Approval } from '../../src/keys/approval-format.ts';
import { readSealedKey, type SealedKey, sealedKeyPath } from '../../src/keys/sealed.ts';
import { nvNameOf } from '../../src/tpm/nv-public.ts';
import { nameOf, parsePublic } from '../../src/tpm/structures.ts';
import { Writer } from '../../src/tpm/wire.ts';
import { Bench } from './power.ts';

const srk = '0x81000001';
const pcrs = 'sha256:0,7,14';
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const fromBase64 = (text: string): Buffer => Buffer.from(text, 'base64');
const exclusiveOr = (a: Uint8Array, b: Uint8Array): Buffer =>
  Buffer.from(a.map((byte, at) => byte ^ (b[at] ?? 0)));

describe('what a node seals', () => {
  let bench: Bench;
  let config: Config;
  let made: ProvisionResult;
  let approval: Approval;
  let sealed: SealedKey;
  const at = (name: string): string => join(bench.directory, name);
  beforeAll(async () => {
    bench = await Bench.start();
    for (const name of ['signer', 'recovery']) generateAuthority(at(name));
    config = bench.config({ policy_signer: at('signer.pub'), recovery_key: at('recovery.pub') });
    const { approval: state } = await provision(config);
    expect(state?.state).toBe('needed');
    ({ approval } = approve(bench.layout.approvalRequest, {
      key: at('signer'),
      output: at('approval.json'),
      despiteConcerns: false,
      pcrs: config.tpm.pcrs,
      capPcr: config.tpm.cap_pcr,
    }));
    made = await provision(config, { approval: at('approval.json') });
    const key = readSealedKey(bench.layout.directory, 'wireguard');
    if (key === undefined) throw new Error('no key');
    sealed = key;
    for (const name of ['signer', 'recovery']) {
      await tool(
        `loadexternal -C o -G ecc:ecdsa-sha256 -a userwithauth|sign -u ${name}.pub -c ${name}.ctx -n ${name}.name`,
      );
      await tool('flushcontext -t');
    }
    const { policyRef, approvedPolicy, signature } = approved('wireguard');
    write('reference', Buffer.from(policyRef, 'hex'));
    write('approved', Buffer.from(approvedPolicy, 'hex'));
    write('signed', Buffer.from(approvedPolicy + policyRef, 'hex'));
    write('signature', fromBase64(signature));
    write('operand', new Writer().u64(BigInt(approval.counter)).done());
  });
  afterAll(async () => {
    await bench?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    for (const kind of ['-t', '-l', '-s']) await tool(`flushcontext ${kind}`);
  });

  const write = (name: string, bytes: Uint8Array): void => writeFileSync(at(name), bytes);
  const read = (name: string): Buffer => readFileSync(at(name));
  /** A command of tpm2-tools with its words. */
  const tool = (line: string) => {
    const [name, ...words] = line.split(' ');
    return requireChild(`tpm2_${name}`, ['-T', bench.swtpm.tcti, ...words], { cwd: bench.directory });
  };
  const approved = (name: string): Approval['keys'][number] => {
    const entry = approval.keys.find((key) => key.name === name);
    if (entry === undefined) throw new Error(`${name} is not approved`);
    return entry;
  };
  const counterIndex = (): string => made.owns.find(({ what }) => what === 'armed-counter')?.handle ?? '';

  /** Runs the steps in a session of tpm2-tools; objects that they load on the way are flushed after each. */
  async function session(kind: 'policy' | 'trial', ...steps: readonly string[]): Promise<void> {
    await tool(`startauthsession ${kind === 'policy' ? '--policy-session ' : ''}-S session`);
    for (const step of steps) {
      await tool(`${step} -S session`);
      await tool('flushcontext -t');
    }
  }
  /** The digest of a policy, into a file of that name. */
  async function trial(digest: string, ...steps: readonly string[]): Promise<void> {
    await session('trial', ...steps.slice(0, -1), `${steps.at(-1)} -L ${digest}`);
    await tool('flushcontext session');
  }
  const inState = (): string[] => [`policypcr -l ${pcrs}`, `policynv -C o -i operand ${counterIndex()} eq`];
  const authorized = 'policyauthorize -i approved -q reference -n signer.name';
  const recovered = 'policysigned -g sha256 -f ecdsa -c recovery.ctx -q reference';
  const either = 'policyor -l sha256:branch-approved,branch-recovery';
  /** The digests of both branches and of the whole, as tpm2-tools compute them. */
  async function branches(): Promise<void> {
    await trial('branch-approved', authorized);
    await trial('branch-recovery', `${recovered} -s signature`);
    await trial('policy', either);
  }

  async function load({ public: area, private: blob }: Pick<SealedKey, 'public' | 'private'>): Promise<void> {
    write('key.pub', new Writer().sized(fromBase64(area)).done());
    write('key.priv', fromBase64(blob));
    await tool(`load -C ${srk} -u key.pub -r key.priv -c key.ctx -n key.name`);
    await tool('flushcontext -t');
  }

  /** The key whose blob is loaded, in the session that the policy was satisfied in, and with its share. */
  async function openByHand(): Promise<Buffer> {
    await load(sealed);
    await tool('unseal -c key.ctx -p session:session -o payload');
    await tool(`nvread 0x0${sealed.shareIndex.toString(16)} -C o -o share`);
    return exclusiveOr(read('payload'), read('share'));
  }

  it('has the digest that tpm2-tools compute for the same policy, and an approval the digest of its state', async () => {
    await trial('policy-of-state', ...inState());
    expect(hex(read('policy-of-state'))).toBe(approved('wireguard').approvedPolicy);
    await branches();
    const { authPolicy } = parsePublic(fromBase64(sealed.public));
    expect(hex(read('policy'))).toBe(hex(authPolicy));
  });

  it('opens by hand with an approval that `approve` made', async () => {
    await branches();
    await session('policy', ...inState());
    await tool('verifysignature -c signer.ctx -g sha256 -f ecdsa -m signed -s signature -t ticket');
    await tool('flushcontext -t');
    await tool(`${authorized} -S session -t ticket`);
    await tool(`${either} -S session`);
    expect(publicOf(await openByHand())).toBe(sealed.publicKey);
  });

  it('opens by hand with a signature of the recovery key, made by openssl', async () => {
    await branches();
    await session('policy');
    await tool(`${recovered} -S session -x --raw-data message`);
    const sign = `dgst -sha256 -sign ${at('recovery')} -out ${at('by-recovery')} ${at('message')}`;
    await requireChild('openssl', sign.split(' '));
    await tool(`${recovered} -S session -x -s by-recovery`);
    await tool('flushcontext -t');
    await tool(`${either} -S session`);
    expect(publicOf(await openByHand())).toBe(sealed.publicKey);
  });

  it('does not open by hand for another counter value or without the approval', async () => {
    await branches();
    await session('policy', `policypcr -l ${pcrs}`);
    write('wrong', new Writer().u64(BigInt(approval.counter) + 1n).done());
    await expect(tool(`policynv -S session -C o -i wrong ${counterIndex()} eq`)).rejects.toThrow(
      /0x126|policy failure/,
    );
    await load(sealed);
    await expect(tool('unseal -c key.ctx -p session:session')).rejects.toThrow(/0x[0-9a-f]*99d/i);
  });

  it('is opened here when tpm2-tools sealed it so', async () => {
    await branches();
    const key = Buffer.alloc(sealed.byteLength, 0xc3);
    const share = createHash('sha256').update('share').digest();
    write('payload', exclusiveOr(key, share));
    write('share', share);
    const attributes = 'fixedtpm|fixedparent|adminwithpolicy|noda';
    await tool(`create -C ${srk} -i payload -L policy -a ${attributes} -u key.pub -r key.priv`);
    await tool('nvdefine 0x01810100 -C o -s 32 -a ownerread|ownerwrite|no_da');
    await tool('nvwrite 0x01810100 -C o -i share');
    const theirs: SealedKey = {
      ...sealed,
      shareIndex: 0x01810100,
      public: read('key.pub').subarray(2).toString('base64'),
      private: read('key.priv').toString('base64'),
    };
    const path = sealedKeyPath(bench.layout.directory, 'wireguard');
    writeFileSync(path, JSON.stringify(theirs));
    try {
      const opened = await bench.openKeys();
      expect(opened.wireguard).toBe(createHash('sha256').update(key).digest('hex'));
    } finally {
      writeFileSync(path, JSON.stringify(sealed));
      await tool('nvundefine 0x01810100 -C o');
    }
  });

  it('has objects that tpm2-tools read under the same names, the signing key and the sealed data among them', async () => {
    const { tpm } = readNodeRecord(bench.layout);
    if (tpm === null) throw new Error('no TPM');
    for (const { handle, name } of [tpm.srk, tpm.ak]) {
      await tool(`readpublic -c 0x${handle.toString(16)} -n name -f pem -o pem`);
      expect(hex(read('name'))).toBe(name);
    }
    expect(read('pem').toString()).toBe(made.tpm?.ak.publicKey);
    await load(tpm.signingKey);
    expect(hex(read('key.name'))).toBe(tpm.signingKey.name);
    await load(sealed);
    expect(hex(read('key.name'))).toBe(hex(nameOf(fromBase64(sealed.public))));
  });

  it('has indices that tpm2_nvreadpublic shows as they are told to be', async () => {
    const shown = (await tool(`nvreadpublic ${counterIndex()}`)).stdout.toString();
    expect(shown).toMatch(/friendly: ownerwrite\|authwrite\|nt=0x1\|ownerread\|authread\|no_da\|written/);
    expect(shown).toContain(`name: ${hex(nvNameOf(fromBase64(approval.counterPublic)))}`);
    expect(shown).toMatch(/size: 8/);
    const value = (await tool(`nvread ${counterIndex()} -C o`)).stdout;
    expect(value.readBigUInt64BE()).toBe(BigInt(approval.counter));
    // tpm2-tools say 1 for each type but ordinary; the type itself is in the value.
    const words: Record<string, string> = { noDA: 'no_da', counter: 'nt=0x1', extend: 'nt=0x1' };
    const types: Record<string, number> = { counter: 1, extend: 4 };
    for (const { kind, handle, attributes } of made.owns) {
      if (kind !== 'NV index') continue;
      const shape = (await tool(`nvreadpublic ${handle}`)).stdout.toString();
      const shown = /attributes:\n *friendly: (.*)/.exec(shape)?.[1]?.split('|') ?? [];
      const told = attributes.filter((word) => word !== 'ordinary');
      expect(shown.filter((word) => word !== 'written').sort()).toEqual(
        told.map((word) => words[word] ?? word.toLowerCase()).sort(),
      );
      const value = Number(/attributes:\n.*\n *value: (.*)/.exec(shape)?.[1]);
      expect((value >>> 4) & 0xf).toBe(
        told.map((word) => types[word]).find((type) => type !== undefined) ?? 0,
      );
    }
  });

  it('stands behind quotes and signatures that tpm2-tools and openssl accept', async () => {
    const { tpm } = readNodeRecord(bench.layout);
    if (tpm === null) throw new Error('no TPM');
    const qualifying = createHash('sha256').update('archive').digest();
    {
      await using keys = await NodeKeys.open(config, tpm);
      const quoted = await keys.quote(qualifying);
      write('quote', quoted.attest);
      write('quote.signature', quoted.signature);
      write('archive', Buffer.from('archive'));
      write('archive.signature', await keys.sign(Buffer.from('archive')));
    }
    writeFileSync(at('ak.pem'), made.tpm?.ak.publicKey ?? '');
    writeFileSync(at('signing.pem'), made.tpm?.signingKey.publicKey ?? '');
    const check = (nonce: Uint8Array) => {
      const words = `-u ak.pem -m quote -s quote.signature -g sha256 -q ${hex(nonce)}`;
      return runChild('tpm2_checkquote', words.split(' '), { cwd: bench.directory });
    };
    expect((await check(qualifying)).status).toBe(0);
    expect((await check(Buffer.alloc(32))).status).not.toBe(0);
    const verify = `dgst -sha256 -verify ${at('signing.pem')} -signature ${at('archive.signature')} ${at('archive')}`;
    expect((await runChild('openssl', verify.split(' '))).stdout.toString()).toMatch(/Verified OK/);
  });
});

/** Base64 of the public half of an X25519 private key. */
function publicOf(key: Uint8Array): string {
  const pkcs8 = Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), key]);
  const privateKey: KeyObject = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  return createPublicKey(privateKey.export({ type: 'pkcs8', format: 'pem' }))
    .export({ type: 'spki', format: 'der' })
    .subarray(-32)
    .toString('base64');
}
