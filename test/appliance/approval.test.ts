// The life of sealed keys as an operator sees it, with a policy signer and a recovery key that are not on the node: approvals,
// updates, a lock and its end, the loss of a signer, and the giving back of the TPM. Where the program would refuse, the TPM is
// asked by force as well.
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Installed } from '../../src/appliance/approvals.ts';
import type { Deprovisioned } from '../../src/appliance/deprovision.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import type { WhatIf } from '../../src/appliance/what-if.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { runChild } from '../../src/host/child.ts';
import type { ZeroizeOutcome } from '../../src/interlock/outcome.ts';
import type { Approval } from '../../src/keys/approval-format.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { syntheticEventLog } from '../lab/eventlog.ts';
import { esoteric, esotericJson, esotericWords, type LabNode } from '../lab/node.ts';
import { unsealByForce } from '../lab/unseal.ts';
import { labNode, profile, refusalOf, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const provision = ['provision', '--profile', profile('relay')];
const keyFile = (name: string): string => scratch.at(`${name}.pem`);
const generate = (name: string): Promise<unknown> => esotericJson(['approve', '--generate', keyFile(name)]);

/** A node whose authorities are files beside it, as if they were elsewhere. */
const guarded = (word: string, signer = 'signer', recovery = 'recovery'): Promise<LabNode> =>
  labNode(scratch, word, {
    tpm: true,
    sigstore: true,
    tpmSettings: [`policy_signer = "${keyFile(signer)}.pub"`, `recovery_key = "${keyFile(recovery)}.pub"`],
  });

/** What the signer answers to a request, written beside it. */
async function approved(request: string, signer = 'signer'): Promise<string> {
  const output = `${request}.${signer}`;
  await esotericJson(['approve', request, '--key', keyFile(signer), '--output', output]);
  return output;
}

const requestOf = (node: LabNode): string => `${node.stateDirectory}/approval-request.json`;
const zeroize = (node: LabNode, level: string): Promise<ZeroizeOutcome> =>
  node.ask<ZeroizeOutcome>(['zeroize', '--reason', 'a test', '--level', level]);

/** What the TPM says when the key is asked for with the first approval on the disk. */
async function byForce(node: LabNode): Promise<string> {
  using arena = SecretArena.allocate({ byteLength: 8192 });
  try {
    using _key = await unsealByForce(node, arena, 'wireguard');
    return 'opens';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

const heldBy = async (node: LabNode) => {
  await using tpm = await openTpm({ tcti: node.tpm?.tcti ?? '' });
  const { lockout } = await tpm.properties();
  return { handles: await tpm.persistentHandles(), indices: await tpm.nvIndices(), lockout };
};

beforeAll(async () => {
  for (const name of ['signer', 'recovery', 'other']) await generate(name);
});

describe('approve', () => {
  it('makes key pairs, the private half for its owner alone, and never overwrites one', async () => {
    const before = readFileSync(keyFile('signer'));
    expect((await refusalOf(['approve', '--generate', keyFile('signer')])).code).toBe('key-exists');
    expect(readFileSync(keyFile('signer'))).toEqual(before);
    const { stdout } = await runChild('stat', ['-c', '%a', keyFile('signer'), `${keyFile('signer')}.pub`]);
    expect(stdout.toString().trim().split('\n')).toEqual(['600', '644']);
    expect(readFileSync(`${keyFile('signer')}.pub`, 'latin1')).not.toContain('PRIVATE');
  });

  it.each([
    ['no request', ['--key', 'k.pem'], 'usage'],
    ['no key', ['r.json'], 'usage'],
    ['a request that is not there', ['/nowhere.json', '--key', 'k.pem'], 'approval-request-invalid'],
    ['PCRs that are none', ['r.json', '--key', 'k.pem', '--pcrs', '0,x'], 'approval-request-invalid'],
  ])('refuses %s with a sentence and what to do', async (_, words, code) => {
    const refusal = await refusalOf(['approve', ...words]);
    expect(refusal).toMatchObject({ status: 2, code });
    expect(refusal.remedy).not.toBe('');
  });
});

describe('a node whose policy signer is elsewhere', () => {
  let node: LabNode;
  beforeAll(async () => {
    node = await guarded('guarded');
  });
  afterAll(() => node[Symbol.asyncDispose]());

  it('is provisioned, asks for an approval, and does not run without one', async () => {
    const made = await node.ask<ProvisionResult>(provision);
    expect(made.approval).toEqual({ state: 'needed', request: requestOf(node) });
    expect(made.assurance.standIns.join()).not.toContain('development');
    expect(existsSync(`${node.stateDirectory}/development`)).toBe(false);
    const refusal = await refusalOf(['run', ...node.arguments]);
    expect(refusal).toMatchObject({ status: 1, code: 'approval-missing', kept: 'The keys stay sealed.' });
    expect(refusal.remedy).toContain('esoteric-appliance approve');
    expect((await node.ask<ProvisionResult>(provision)).changed).toEqual([]);
  });

  it('runs once its state is approved, and a repeated provisioning changes nothing', async () => {
    const approval = await approved(requestOf(node));
    const made = await node.ask<ProvisionResult>([...provision, '--approval', approval]);
    expect(made).toMatchObject({ approval: { state: 'approved' }, changed: ['approval'] });
    expect((await node.ask<ProvisionResult>(provision)).changed).toEqual([]);
    expect(await byForce(node)).toBe('opens');
    await node.run();
    expect((await node.status()).state).toBe('running');
  });

  it('refuses, in words, an approval of another signer, of another node, of another counter, or changed', async () => {
    const text = readFileSync(`${requestOf(node)}.signer`, 'utf8');
    const approval = JSON.parse(text) as Approval;
    const foreign = await approved(requestOf(node), 'other');
    writeFileSync(scratch.at('renamed.json'), JSON.stringify({ ...approval, node: 'other' }));
    writeFileSync(
      scratch.at('forged.json'),
      JSON.stringify({ ...approval, counter: `${BigInt(approval.counter) + 1n}` }),
    );
    writeFileSync(scratch.at('broken.json'), text.slice(0, -20));
    for (const [file, code] of [
      [foreign, 'approval-unknown-signer'],
      [scratch.at('renamed.json'), 'approval-foreign'],
      [scratch.at('forged.json'), 'approval-forged'],
      [scratch.at('broken.json'), 'approval-invalid'],
      [scratch.at('absent.json'), 'approval-unreadable'],
    ] as const) {
      const refusal = await refusalOf(['provision', '--approval', file, ...node.arguments]);
      expect(refusal).toMatchObject({ code });
      if (code === 'approval-foreign') expect(refusal.remedy).toContain('provision --approval APPROVAL`');
    }
    expect(readdirSync(`${node.stateDirectory}/approvals`)).toHaveLength(1);
  });

  it('says before an update which keys will open, and runs after it with an approval that was installed while it ran', async () => {
    const log = scratch.at('new-firmware.bin');
    writeFileSync(log, syntheticEventLog('firmware volume, version 2').log);
    const same = scratch.at('same-firmware.bin');
    writeFileSync(same, syntheticEventLog().log);
    const words = ['provision', '--what-if', log, '--request', scratch.at('update.json')];
    const before = await node.ask<WhatIf>(words, [1]);
    expect(before.survives).toBe(false);
    expect(before.pcrs.map(({ pcr, now, predicted }) => [pcr, now === predicted])).toEqual([
      [0, false],
      [7, true],
      [14, true],
    ]);
    expect(before.keys).toContainEqual({
      name: 'wireguard',
      purpose: 'wireguard',
      survives: false,
      why: 'PCR 0 is not as it was approved.',
    });
    expect((await node.ask<WhatIf>(['provision', '--what-if', same])).survives).toBe(true);
    const pcr7 = await node.ask<WhatIf>(['provision', '--what-if-pcr', `7=${'ab'.repeat(32)}`], [1]);
    expect(pcr7.keys.map(({ why }) => why)).toContain('PCR 7 is not as it was approved.');
    const install = ['provision', '--approval', await approved(scratch.at('update.json'))];
    const rotating = await refusalOf([...install, '--rotate', 'wireguard', ...node.arguments]);
    expect(rotating.code).toBe('state-in-use'); // Not a word about the approval, as if that had been all.
    const installed = await node.ask<Installed>(install);
    expect(installed.fitsNow).toBe(false);
    expect((await node.ask<WhatIf>(['provision', '--what-if', log])).survives).toBe(true);
    await node.stop();
    await node.reboot('firmware volume, version 2');
    await node.run();
    expect((await node.status()).state).toBe('running');
    await node.stop();
    // The approval for the state before is still good: nothing was resealed.
    await node.reboot();
    await node.run();
    await node.stop();
  });

  it.each([
    ['no number', '--what-if-pcr', 'x=00', 'usage'],
    ['a PCR that nothing is sealed to', '--what-if-pcr', `9=${'00'.repeat(32)}`, 'what-if-pcr'],
    ['a log that is none', '--what-if', profile('relay'), 'event-log-invalid'],
    ['a log that is not there', '--what-if', '/nowhere.bin', 'event-log-invalid'],
  ])('refuses to predict from %s', async (_, option, value, code) => {
    expect(await refusalOf(['provision', option, value, ...node.arguments])).toMatchObject({
      status: 2,
      code,
    });
  });

  it('does not run on firmware that nobody approved, nor does its TPM open anything there', async () => {
    await node.reboot('firmware volume of an evil maid');
    const refusal = await refusalOf(['run', ...node.arguments]);
    expect(refusal).toMatchObject({ status: 1, code: 'approval-pcrs' });
    expect(await byForce(node)).toBe('tpm-policy');
    await node.reboot();
  });

  it('stays locked after a lock and a reboot: the old approval is revoked, and so says the TPM', async () => {
    await node.run();
    expect((await zeroize(node, 'lock')).stages.tpm.result).toBe('done');
    await node.stop();
    expect(await byForce(node)).toBe('tpm-policy'); // The cap.
    expect(await refusalOf(['provision', '--re-arm', ...node.arguments])).toMatchObject({
      code: 'tpm-still-capped',
    });
    await node.reboot();
    expect(await byForce(node)).toBe('tpm-policy'); // The counter.
    const needed = await refusalOf(['provision', '--re-arm', ...node.arguments]);
    expect(needed).toMatchObject({ status: 4, code: 'approval-needed' });
    expect(needed.remedy).toContain('--re-arm APPROVAL');
    const old = `${requestOf(node)}.signer`;
    expect(await refusalOf(['provision', '--re-arm', old, ...node.arguments])).toMatchObject({
      code: 'approval-stale',
    });
    expect((await node.status()).state).toBe('zeroized');
  });

  it('does not open by an old approval although root removes the counter and defines it anew', async () => {
    const { armedIndex } = JSON.parse(readFileSync(`${node.stateDirectory}/node.json`, 'utf8')).tpm as {
      armedIndex: number;
    };
    {
      await using tpm = await openTpm({ tcti: node.tpm?.tcti ?? '' });
      const before = await tpm.nvReadCounter(armedIndex);
      await tpm.nvUndefine(armedIndex);
      await tpm.nvDefine(armedIndex, { attributes: 'counter', byteLength: 8 });
      await tpm.nvIncrement(armedIndex);
      expect(await tpm.nvReadCounter(armedIndex)).toBeGreaterThan(before);
    }
    expect(await byForce(node)).toBe('tpm-policy');
  });

  it('comes back with a new approval, and has its keys', async () => {
    const { keys } = JSON.parse(readFileSync(`${node.stateDirectory}/enrolment.json`, 'utf8')) as {
      keys: unknown;
    };
    await refusalOf(['provision', '--re-arm', ...node.arguments]);
    const rearmed = await node.ask<ProvisionResult>([
      'provision',
      '--re-arm',
      await approved(requestOf(node)),
    ]);
    expect(rearmed.approval).toMatchObject({ state: 'approved' });
    expect(JSON.parse(readFileSync(rearmed.enrolment, 'utf8')).keys).toEqual(keys);
    await node.run();
    expect((await node.status()).state).toBe('running');
    await node.stop();
  });

  it('opens by no approval given so far once they are revoked, and by a new one', async () => {
    const old = `${requestOf(node)}.signer`;
    const kept = scratch.at('before-revocation');
    cpSync(old, kept);
    const revoked = await node.ask<ProvisionResult>(['provision', '--revoke']);
    expect(revoked).toMatchObject({ approval: { state: 'needed' }, changed: ['armed-counter'] });
    expect(await byForce(node)).toBe('tpm-policy');
    expect(await refusalOf(['provision', '--approval', kept, ...node.arguments])).toMatchObject({
      code: 'approval-stale',
    });
    const again = await node.ask<ProvisionResult>([
      'provision',
      '--approval',
      await approved(requestOf(node)),
    ]);
    expect(again.approval).toMatchObject({ state: 'approved' });
    await node.run();
    const refusal = await refusalOf(['provision', '--revoke', ...node.arguments]);
    expect(refusal).toMatchObject({ code: 'state-in-use' });
    await node.stop();
  });

  it('is sealed anew by the recovery key when the policy signer is lost, its keys the same', async () => {
    const config = readFileSync(node.config, 'utf8');
    writeFileSync(node.config, config.replace(`${keyFile('signer')}.pub`, `${keyFile('other')}.pub`));
    const changed = await refusalOf(['provision', ...node.arguments]);
    expect(changed).toMatchObject({ status: 1, code: 'authorities-changed', kept: 'Nothing was changed.' });
    const wrong = await refusalOf(['provision', '--recover', keyFile('other'), ...node.arguments]);
    expect(wrong.code).toBe('tpm-policy');
    const before = await heldBy(node);
    const recovered = await node.ask<ProvisionResult>([...provision, '--recover', keyFile('recovery')]);
    expect(recovered.approval).toMatchObject({ state: 'needed' });
    expect((await heldBy(node)).indices).toHaveLength(before.indices.length);
    expect(await refusalOf(['run', ...node.arguments])).toMatchObject({ code: 'approval-unknown-signer' });
    await node.ask([...provision, '--approval', await approved(requestOf(node), 'other')]);
    await node.run();
    expect((await node.status()).state).toBe('running');
    await node.stop();
    const again = await node.ask<ProvisionResult>([...provision, '--recover', keyFile('recovery')]);
    expect(again.changed).toEqual([]);
  });

  it('is recovered by somebody at the other end of a pipe, who never shows the key', async () => {
    const config = readFileSync(node.config, 'utf8');
    writeFileSync(node.config, config.replace(`${keyFile('other')}.pub`, `${keyFile('signer')}.pub`));
    const script = `
      mkfifo "$1"
      "\${@:4:$2}" <"$1" | tee "$3" | { grep --line-buffered message | "\${@:4+$2}" >"$1"; }
    `;
    const here = esotericWords(['provision', '--recover', ...node.arguments]);
    const there = esotericWords(['approve', '--recovery', '--key', keyFile('recovery')]);
    const words = [scratch.at('pipe'), `${here.length}`, scratch.at('said.txt'), ...here, ...there];
    const { status } = await runChild('bash', ['-o', 'pipefail', '-c', script, 'bash', ...words], {
      timeoutMilliseconds: 30_000,
    });
    expect({ status, said: readFileSync(scratch.at('said.txt'), 'utf8') }).toMatchObject({
      status: 0,
      said: expect.stringContaining('provisioned'),
    });
    await node.ask([...provision, '--approval', await approved(requestOf(node))]);
    expect(await byForce(node)).toBe('opens');
  });

  it('loses its keys for good by destroy: neither a reset nor kept copies nor the recovery key bring them back', async () => {
    await node.run();
    cpSync(`${node.stateDirectory}/keys`, scratch.at('kept'), { recursive: true });
    expect(existsSync(`${node.stateDirectory}/seed`)).toBe(true);
    expect(await zeroize(node, 'destroy')).toMatchObject({ stages: { tpm: { result: 'done' } } });
    await node.stop();
    expect(readdirSync(`${node.stateDirectory}/keys`)).toEqual([]);
    expect(existsSync(`${node.stateDirectory}/seed`)).toBe(false);
    await node.reboot();
    cpSync(scratch.at('kept'), `${node.stateDirectory}/keys`, { recursive: true });
    expect(await byForce(node)).toBe('share-destroyed');
    const config = readFileSync(node.config, 'utf8');
    writeFileSync(node.config, config.replace(`${keyFile('signer')}.pub`, `${keyFile('other')}.pub`));
    const recovery = await refusalOf(['provision', '--recover', keyFile('recovery'), ...node.arguments]);
    expect(recovery).toMatchObject({ code: 'share-destroyed' });
    expect(recovery.kept).toContain('nothing opens it any more');
    writeFileSync(node.config, config);
    for (const file of readdirSync(`${node.stateDirectory}/keys`)) {
      renameSync(`${node.stateDirectory}/keys/${file}`, scratch.at(file));
    }
    const before = JSON.parse(readFileSync(scratch.at('wireguard.json'), 'utf8')) as { publicKey: string };
    await refusalOf(['provision', '--re-arm', ...node.arguments]);
    const anew = await node.ask<ProvisionResult>([...provision, '--re-arm', await approved(requestOf(node))]);
    expect(anew.keys.map(({ publicKey }) => publicKey)).not.toContain(before.publicKey);
    expect(await byForce(node)).toBe('opens');
  });

  it('tells all of it in the custody log', async () => {
    const events = (await node.ask<CustodyRecord[]>(['custody', 'show'])).map(({ event }) => event);
    for (const event of ['state-approved', 'zeroized', 're-armed', 'resealed'])
      expect(events).toContain(event);
  });
});

describe('deprovision', () => {
  it('tells what it would remove, and gives the TPM back as it was found once that is confirmed', async () => {
    await using node = await guarded('given-back');
    const found = await heldBy(node);
    const { owns } = await node.ask<ProvisionResult>(provision);
    const held = await heldBy(node);
    expect(held.lockout).not.toEqual(found.lockout);
    const asked = await refusalOf(['deprovision', ...node.arguments]);
    expect(asked).toMatchObject({ status: 2, code: 'not-confirmed', kept: 'Nothing was removed.' });
    for (const { handle } of owns) expect(asked.message).toContain(handle);
    expect(await heldBy(node)).toEqual(held);
    const gone = await node.ask<Deprovisioned>(['deprovision', '--yes']);
    expect(gone).toMatchObject({ removed: owns, kept: [], lockoutRestored: true });
    expect(await heldBy(node)).toEqual(found);
    expect(readdirSync(node.stateDirectory).sort()).toEqual(
      ['bundles', 'courier', 'custody.jsonl', 'lock', 'receipts', 'spool'].sort(),
    );
    expect((await refusalOf(['deprovision', '--yes', ...node.arguments])).code).toBe('unprovisioned');
    expect((await node.ask<CustodyRecord[]>(['custody', 'show'])).at(-1)?.event).toBe('deprovisioned');
    const again = await node.ask<ProvisionResult>(provision);
    expect(again.owns).toEqual(owns);
  });

  it('leaves what was there before, and the storage root key where others may use it by now', async () => {
    await using node = await labNode(scratch, 'neighbour', { tpm: true });
    await using other = await labNode(scratch, 'second', { tpm: false });
    await node.ask(['provision']);
    const first = await heldBy(node);
    // A second node of the same TPM: what the first has made is found there.
    const shared = ['--tpm', node.tpm?.tcti ?? '', '--state-dir', other.stateDirectory];
    await esotericJson(['provision', ...shared]);
    const { kept } = await esotericJson<Deprovisioned>(['deprovision', '--yes', ...shared]);
    expect(kept.map(({ what }) => what)).toEqual(['srk', 'ak']);
    expect(await heldBy(node)).toEqual(first);
    await node.run();
    await node.stop();
    await node.ask(['deprovision', '--yes', '--keep-srk']);
    expect((await heldBy(node)).handles).toEqual([0x81000001]);
  });

  it('is refused while the node runs', async () => {
    await using node = await labNode(scratch, 'busy', { tpm: true });
    await node.ask(['provision']);
    await node.run();
    expect((await refusalOf(['deprovision', '--yes', ...node.arguments])).code).toBe('state-in-use');
    const told = await esoteric(['status', ...node.arguments]);
    expect(told.status).toBe(0);
  });
});
