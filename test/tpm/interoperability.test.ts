// The same TPM seen by tpm2-tools: what is made here is read there, and the other way round.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeCredential } from '../../src/attestation/credential.ts';
import { requireChild, runChild } from '../../src/host/child.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { publicFromPem, signerName } from '../../src/tpm/external.ts';
import { parseAttest, publicKeyPem } from '../../src/tpm/structures.ts';
import { attestationKey, storageRootKey } from '../../src/tpm/templates.ts';
import { Reader, Writer } from '../../src/tpm/wire.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const srkHandle = 0x81000001;
const akHandle = 0x81010002;
const ekHandles = { rsa: 0x81010001, ecc: 0x81010004 } as const;
const kinds = ['rsa', 'ecc'] as const;
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const handleText = (handle: number) => `0x${handle.toString(16)}`;
/** How tpm2-tools writes a credential: magic, version, TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET. */
const credentialMagic = 0xbadcc0de;

describe('the TPM that this program and tpm2-tools share', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-interop-'));
  const path = (name: string) => join(directory, name);
  let swtpm: Swtpm;
  let akName = '';
  let akPem = '';
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    {
      await using root = await tpm.createPrimary('owner', storageRootKey);
      await tpm.persist(root, 'owner', srkHandle);
    }
    await using ak = await tpm.createPrimary('endorsement', attestationKey);
    await tpm.persist(ak, 'endorsement', akHandle);
    [akName, akPem] = [hex(ak.name), publicKeyPem(ak.public)];
    for (const kind of kinds) {
      await using ek = await tpm.endorsementKey(kind);
      await tpm.persist(ek, 'endorsement', ekHandles[kind]);
      writeFileSync(path(`${kind}.pub`), new Writer().sized(ek.public).done());
    }
  });
  afterAll(async () => {
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const tool = (name: string, ...args: string[]) =>
    requireChild(`tpm2_${name}`, ['-T', swtpm.tcti, ...args], { cwd: directory });

  it('has our objects under the same names', async () => {
    for (const handle of [srkHandle, akHandle, ...Object.values(ekHandles)]) {
      await tool('readpublic', '-c', handleText(handle), '-n', path('name'), '-o', path('public'));
      await using tpm = await openTpm({ tcti: swtpm.tcti });
      const ours = await tpm.readPublic(handle);
      expect(hex(readFileSync(path('name')))).toBe(hex(ours.name));
      expect(hex(new Reader(readFileSync(path('public'))).sized())).toBe(hex(ours.public));
    }
  });

  it('has endorsement keys that are those of tpm2_createek', async () => {
    for (const kind of kinds) {
      await tool('createek', '-G', kind, '-c', path('ek.ctx'), '-u', path('theirs.pub'));
      expect(hex(readFileSync(path('theirs.pub')))).toBe(hex(readFileSync(path(`${kind}.pub`))));
      await runChild('tpm2_flushcontext', ['-T', swtpm.tcti, '-t']);
    }
  });

  it.each([[['sha256'] as const], [['sha1', 'sha256'] as const]])(
    'quotes %s so that tpm2_checkquote accepts it, and not with another nonce',
    async (banks) => {
      const nonce = randomBytes(32);
      {
        await using tpm = await openTpm({ tcti: swtpm.tcti });
        await using ak = await tpm.at(akHandle);
        const quote = await tpm.quote(ak, nonce, [0, 7, 14], banks);
        writeFileSync(path('quote'), quote.attest);
        writeFileSync(path('signature'), quote.signature);
      }
      writeFileSync(path('ak.pem'), akPem);
      const check = (qualification: Uint8Array) =>
        runChild('tpm2_checkquote', [
          '-u',
          path('ak.pem'),
          '-m',
          path('quote'),
          '-s',
          path('signature'),
          '-g',
          'sha256',
          '-q',
          hex(qualification),
        ]);
      expect((await check(nonce)).status).toBe(0);
      expect((await check(randomBytes(32))).status).not.toBe(0);
    },
  );

  it('tells its clock in words of the attestation key', async () => {
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    await using ak = await tpm.at(akHandle);
    const { attest } = await tpm.getTime(ak, Buffer.from('now'));
    const statement = parseAttest(attest);
    const properties = await tpm.properties();
    expect(statement).toMatchObject({
      type: 'time',
      resetCount: properties.resetCount,
      restartCount: properties.restartCount,
    });
    expect(statement.time?.sinceStart).toBeGreaterThan(0n);
    expect(Buffer.from(statement.extraData).toString()).toBe('now');
  });

  it.each(kinds)('activates here what tpm2_makecredential made (%s)', async (kind) => {
    const secret = randomBytes(32);
    writeFileSync(path('secret'), secret);
    await requireChild('tpm2_makecredential', [
      '-T',
      'none',
      '-u',
      path(`${kind}.pub`),
      '-s',
      path('secret'),
      '-n',
      akName,
      '-o',
      path('credential'),
    ]);
    const reader = new Reader(readFileSync(path('credential')));
    expect(reader.u32()).toBe(credentialMagic);
    reader.u32();
    const credential = { idObject: reader.sized(), encryptedSecret: reader.sized() };
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    await using ek = await tpm.at(ekHandles[kind]);
    await using ak = await tpm.at(akHandle);
    expect(hex(await tpm.activateCredential(ek, ak, credential))).toBe(hex(secret));
  });

  it.each(kinds)('has tpm2_activatecredential activate what was made here (%s)', async (kind) => {
    const secret = randomBytes(32);
    const ekPublic = new Reader(readFileSync(path(`${kind}.pub`))).sized();
    const credential = makeCredential(ekPublic, Buffer.from(akName, 'hex'), secret);
    const file = new Writer()
      .u32(credentialMagic)
      .u32(1)
      .sized(credential.idObject)
      .sized(credential.encryptedSecret);
    writeFileSync(path('ours'), file.done());
    await tool('startauthsession', '--policy-session', '-S', path('session'));
    await tool('policysecret', '-S', path('session'), '-c', 'endorsement');
    await tool(
      'activatecredential',
      '-c',
      handleText(akHandle),
      '-C',
      handleText(ekHandles[kind]),
      '-i',
      path('ours'),
      '-o',
      path('answer'),
      '-P',
      `session:${path('session')}`,
    );
    await tool('flushcontext', path('session'));
    expect(hex(readFileSync(path('answer')))).toBe(hex(secret));
  });

  it('knows a policy signer by the name that tpm2_loadexternal gives it', async () => {
    await requireChild('openssl', [
      'genpkey',
      '-algorithm',
      'EC',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-out',
      path('signer.key'),
    ]);
    await requireChild('openssl', ['pkey', '-in', path('signer.key'), '-pubout', '-out', path('signer.pem')]);
    const signer = ['-G', 'ecc:ecdsa-sha256', '-a', 'userwithauth|sign', '-u', path('signer.pem')];
    await tool('loadexternal', '-C', 'o', ...signer, '-c', path('signer.ctx'), '-n', path('signer.name'));
    const name = hex(readFileSync(path('signer.name')));
    const pem = readFileSync(path('signer.pem'), 'utf8');
    expect(hex(signerName(pem))).toBe(name);
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    await tpm.flushAbandoned();
    await using loaded = await tpm.loadExternal(publicFromPem(pem));
    expect(hex(loaded.name)).toBe(name);
  });
});
