// The endorsement as provisioning notes it: certificates from NV, the chain to a directory of CAs, activation within one TPM, and
// what follows for `assurance.tpm`.
import { X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assuranceOf } from '../../src/appliance/assurance.ts';
import { loadConfig } from '../../src/appliance/config.ts';
import { endorse, kindOf, readEndorsement, selfActivation } from '../../src/appliance/endorsement.ts';
import { readCertificates } from '../../src/appliance/pins.ts';
import { bestKey, tpmKindOf } from '../../src/attestation/endorsement.ts';
import { type NodeEndorsement, nodeEndorsementSchema } from '../../src/attestation/endorsement-format.ts';
import { failed, notProven, proven } from '../../src/attestation/verdict.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { publicKeyPem } from '../../src/tpm/structures.ts';
import { attestationKey } from '../../src/tpm/templates.ts';
import { akHandle, persistAttestationKey } from '../attestation/attested-node.ts';
import {
  endorsementUsage,
  type Issued,
  Maker,
  manufactureTpm,
  tpmName,
} from '../attestation/ek-authority.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-endorsement-'));
const ca = join(directory, 'pinned');
const at = new Date(Date.now() + 60_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('the endorsement of a TPM as swtpm_setup makes it', () => {
  let swtpm: Swtpm;
  let tpm: Tpm;
  beforeAll(async () => {
    const { state, issuer } = await manufactureTpm(directory);
    mkdirSync(join(ca, 'makers', 'swtpm'), { recursive: true });
    writeFileSync(join(ca, 'makers', 'swtpm', 'issuer.pem'), issuer);
    writeFileSync(join(ca, '.hidden'), 'no certificate');
    swtpm = await startSwtpm(state);
    tpm = await openTpm({ tcti: swtpm.tcti });
    await persistAttestationKey(tpm);
  });
  afterAll(async () => {
    await tpm?.close();
    await swtpm?.stop();
  });

  it('is its RSA key with the certificate, proven to the pinned CA, with the attestation key activated', async () => {
    const made = await endorse(tpm, { akHandle, ekCa: ca, at });
    expect(nodeEndorsementSchema.parse(JSON.parse(JSON.stringify(made)))).toEqual(made);
    expect(made).toMatchObject({
      keys: [{ kind: 'rsa' }],
      kind: 'rsa',
      chain: { result: 'proven' },
      activation: { result: 'proven' },
    });
    expect(await endorse(tpm, { akHandle, ekCa: ca, at })).toEqual(made);
  });

  it('never makes a TPM hardware that calls itself a simulator, or that its maker calls so', async () => {
    const made = await endorse(tpm, { akHandle, ekCa: ca, at });
    const { simulator } = await tpm.properties();
    expect(simulator).toBe(true);
    expect(kindOf(made, simulator).tpm).toBe('simulator');
    // Were it to lie, its maker's certificate would still call it swtpm.
    expect(kindOf(made, false)).toMatchObject({
      tpm: 'simulator',
      notes: [expect.stringMatching(/certificate names a simulator: .*swtpm/)],
    });
    const config = loadConfig();
    expect(assuranceOf(config, true, [], kindOf(made, true))).toMatchObject({
      tpm: 'simulator',
      standIns: expect.arrayContaining(['swtpm']),
      notes: expect.arrayContaining(['the TPM says that it is a simulator']),
    });
    expect(assuranceOf(config, undefined, [], kindOf(made, false)).tpm).toBe('bypassed');
  });

  it('is not proven without pinned CAs, and names a directory that cannot be used', async () => {
    expect(await endorse(tpm, { akHandle, ekCa: '', at })).toMatchObject({ chain: { result: 'not-proven' } });
    const missing = endorse(tpm, { akHandle, ekCa: join(directory, 'none'), at });
    await expect(missing).rejects.toMatchObject({ code: 'ek-ca-missing' });
  });

  it('is not of an attestation key that is elsewhere', async () => {
    await using other = await startOther();
    const made = await endorse(other.tpm, { akHandle, ekCa: ca, at });
    expect(made).toMatchObject({
      keys: [{ kind: 'ecc', certificate: null }],
      chain: { result: 'not-proven' },
    });
    expect(kindOf(made, false)).toMatchObject({
      tpm: 'simulator',
      notes: [expect.stringContaining('not tied to its maker')],
    });
  });

  it('uses an endorsement key that stands persisted already, as swtpm_setup leaves it, and no other key there', async () => {
    await using persisted = await tpm.endorsementKey('rsa');
    expect(persisted.transient).toBe(false);
    await using ecc = await tpm.endorsementKey('ecc');
    expect(ecc.transient).toBe(true); // The attestation key stands in the same range of handles.
    await using other = await startOther();
    await using made = await other.tpm.endorsementKey('ecc');
    await other.tpm.persist(made, 'endorsement', 0x81010002);
    await using found = await other.tpm.endorsementKey('ecc');
    expect([found.transient, Buffer.compare(found.name, made.name)]).toEqual([false, 0]);
  });

  it('says what the TPM said when it does not activate', async () => {
    await using wrong = await tpm.createPrimary('owner', attestationKey);
    await tpm.persist(wrong, 'owner', 0x81010021);
    // The same template in another hierarchy: another Name, and still in this TPM.
    expect(await selfActivation(tpm, 0x81010021, 'rsa')).toMatchObject({ result: 'proven' });
    await expect(selfActivation(tpm, 0x81010022, 'rsa')).rejects.toMatchObject({ code: 'tpm-no-object' });
  });

  async function startOther() {
    const started = await startSwtpm(join(directory, `other-${process.pid}`));
    const opened = await openTpm({ tcti: started.tcti });
    await persistAttestationKey(opened);
    return {
      tpm: opened,
      async [Symbol.asyncDispose]() {
        await opened.close();
        await started.stop();
      },
    };
  }
});

describe('an endorsement with a chain in NV, and no word of a simulator', () => {
  const files = join(directory, 'made');
  mkdirSync(files);
  const maker = new Maker(files);
  let root: Issued;
  let made: NodeEndorsement;
  beforeAll(async () => {
    root = await maker.authority('root');
    const between = await maker.authority('between', root);
    mkdirSync(join(directory, 'root'));
    writeFileSync(join(directory, 'root', 'root.der'), new X509Certificate(root.pem).raw);
    const swtpm = await startSwtpm(join(directory, 'chained'));
    try {
      await using tpm = await openTpm({ tcti: swtpm.tcti });
      await persistAttestationKey(tpm);
      await using ek = await tpm.endorsementKey('ecc');
      const leaf = await maker.certify('leaf', publicKeyPem(ek.public), between, endorsementUsage + tpmName);
      const write = async (index: number, bytes: Uint8Array): Promise<void> => {
        await tpm.nvDefine(index, { attributes: 'ordinary', byteLength: bytes.length });
        await tpm.nvWrite(index, bytes);
      };
      await write(0x01c0000a, new X509Certificate(leaf.pem).raw);
      const { raw } = new X509Certificate(between.pem);
      await write(
        0x01c00100,
        Buffer.concat([raw, new X509Certificate(root.pem).raw, Buffer.alloc(20, 0xff)]),
      );
      expect((await readEndorsement(tpm)).intermediates).toHaveLength(2);
      made = await endorse(tpm, { akHandle, ekCa: join(directory, 'root'), at });
    } finally {
      await swtpm.stop();
    }
  });

  it('is proven to the root, and makes a TPM hardware that does not say otherwise', () => {
    expect(made).toMatchObject({
      kind: 'ecc',
      chain: { result: 'proven' },
      activation: { result: 'proven' },
    });
    expect(kindOf(made, false)).toEqual({ tpm: 'hardware', notes: [] });
    const kind = kindOf(made, false);
    const config = loadConfig();
    const { tpm, standIns } = assuranceOf(config, false, [], kind);
    expect([tpm, standIns.includes('swtpm')]).toEqual(['hardware', false]);
    expect(assuranceOf(config, true, [], kind)).toMatchObject({ tpm: 'simulator' });
    const admitted = { ...config, tpm: { ...config.tpm, stand_ins: ['swtpm'] } };
    expect(assuranceOf(admitted, false, [], kind)).toMatchObject({
      tpm: 'simulator',
      standIns: expect.arrayContaining(['swtpm']),
    });
    expect(assuranceOf(loadConfig(), false, []).notes[0]).toContain('no EK certificate was checked');
  });

  it('is of no pinned CA where the certificate in between is not in NV', () => {
    const pinned = readCertificates(join(directory, 'root'));
    expect(pinned).toHaveLength(1);
    const { keys, intermediates } = made;
    expect(bestKey({ keys, intermediates }, { pinned, at }).result).toBe('proven');
    const chain = bestKey({ keys, intermediates: [] }, { pinned, at });
    expect(chain.result).toBe('failed');
    expect(kindOf({ ...made, chain }, false).tpm).toBe('simulator');
  });
});

describe('what a TPM may be called', () => {
  const held = { simulator: false, chain: proven('yes'), activation: proven('yes'), certificate: null };

  it('is hardware only where everything speaks for it', () => {
    expect(tpmKindOf(held)).toEqual({ tpm: 'hardware', notes: [] });
    const doubts = [
      { simulator: true },
      { chain: notProven('No CA is pinned.') },
      { chain: failed('Another CA.') },
      { activation: notProven('Not asked.') },
      { activation: failed('Refused.') },
    ];
    for (const doubt of doubts) {
      const { tpm, notes } = tpmKindOf({ ...held, ...doubt });
      expect([tpm, notes.length]).toEqual(['simulator', 1]);
    }
  });
});
