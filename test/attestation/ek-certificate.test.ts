import { X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appraiseEkCertificate, type EkEvidence } from '../../src/attestation/ek-certificate.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { publicKeyPem } from '../../src/tpm/structures.ts';
import { endorsementKeyEcc } from '../../src/tpm/templates.ts';
import { startSwtpm } from '../lab/swtpm.ts';
import {
  authorityUsage,
  endorsementUsage,
  type Issued,
  Maker,
  manufactureTpm,
  tpmName,
} from './ek-authority.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-ek-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** After the certificates that are made below. */
const now = new Date(Date.now() + 60_000);
const inYears = (years: number) => new Date(now.getTime() + years * 365.25 * 86_400_000);

describe('an endorsement key certificate made by swtpm’s local CA', () => {
  let evidence: EkEvidence;
  let issuer: Buffer;
  let root: Buffer;
  beforeAll(async () => {
    const maker = await manufactureTpm(directory);
    ({ issuer, root } = maker);
    const swtpm = await startSwtpm(maker.state);
    try {
      await using tpm = await openTpm({ tcti: swtpm.tcti });
      const certificate = await tpm.endorsementCertificate('rsa');
      expect(await tpm.endorsementCertificate('ecc')).toBeUndefined();
      await using ek = await tpm.endorsementKey('rsa');
      evidence = { certificate, endorsementPublic: ek.public, pinned: [issuer], at: now };
    } finally {
      await swtpm.stop();
    }
  });

  it('is proven when its CA is pinned, or the root with the CA as an intermediate', () => {
    const direct = appraiseEkCertificate(evidence);
    expect(direct).toMatchObject({ result: 'proven', detail: expect.stringContaining('pinned TPM maker') });
    expect(direct.checks.purpose?.detail).toContain('id:00001014 swtpm');
    expect(appraiseEkCertificate({ ...evidence, pinned: [root], intermediates: [issuer] }).result).toBe(
      'proven',
    );
    expect(appraiseEkCertificate({ ...evidence, pinned: [Buffer.from('damaged'), issuer] }).result).toBe(
      'proven',
    );
  });

  it('is not proven without a pinned CA, and failed under another', async () => {
    expect(appraiseEkCertificate({ ...evidence, pinned: [] })).toMatchObject({ result: 'not-proven' });
    expect(appraiseEkCertificate({ ...evidence, pinned: [root] })).toMatchObject({ result: 'failed' });
    const other = await new Maker(directory).authority('stranger');
    expect(appraiseEkCertificate({ ...evidence, pinned: [other.pem] })).toMatchObject({ result: 'failed' });
    expect(appraiseEkCertificate({ ...evidence, pinned: [other.pem], intermediates: [issuer] }).result).toBe(
      'failed',
    );
  });

  it('is not proven where the TPM holds none, and failed for another key or another time', () => {
    expect(appraiseEkCertificate({ ...evidence, certificate: undefined })).toMatchObject({
      result: 'not-proven',
      detail: expect.stringContaining('holds no'),
    });
    const otherKey = appraiseEkCertificate({ ...evidence, endorsementPublic: endorsementKeyEcc });
    expect(otherKey.checks['public key']?.result).toBe('failed');
    expect(appraiseEkCertificate({ ...evidence, at: inYears(-1) }).checks.chain?.detail).toContain(
      'not valid now',
    );
  });

  it('is for the key itself, also where it writes the algorithm as RSAES-OAEP, which OpenSSL cannot read', () => {
    const certificate = Buffer.from(evidence.certificate ?? []);
    const rsaEncryption = Buffer.from('06092a864886f70d010101', 'hex');
    certificate[certificate.indexOf(rsaEncryption) + rsaEncryption.length - 1] = 7;
    expect(() => new X509Certificate(certificate).publicKey).toThrow();
    const { checks } = appraiseEkCertificate({ ...evidence, certificate });
    expect(checks['public key']).toMatchObject({ result: 'proven' });
    expect(checks.chain, 'the signature covers the algorithm').toMatchObject({ result: 'failed' });
  });

  it('is failed after any change of a byte', () => {
    const genuine = evidence.certificate ?? new Uint8Array();
    fc.assert(
      fc.property(fc.nat(genuine.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const certificate = Uint8Array.from(genuine);
        certificate[at] = (certificate[at] ?? 0) ^ change;
        expect(appraiseEkCertificate({ ...evidence, certificate }).result).toBe('failed');
      }),
      { numRuns: 200 },
    );
  });

  it('is never a crash, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (certificate) => {
        expect(appraiseEkCertificate({ ...evidence, certificate }).result).toBe('failed');
      }),
    );
  });
});

describe('an endorsement key certificate', () => {
  const files = join(directory, 'made');
  mkdirSync(files);
  const maker = new Maker(files);
  const usual = endorsementUsage + tpmName;
  let root: Issued;
  let publicKey = '';
  let endorsementPublic = new Uint8Array();
  let tpmHeld: Uint8Array | undefined;
  beforeAll(async () => {
    root = await maker.authority('maker');
    const swtpm = await startSwtpm(join(directory, 'ecc'));
    try {
      await using tpm = await openTpm({ tcti: swtpm.tcti });
      await using ek = await tpm.endorsementKey('ecc');
      endorsementPublic = Uint8Array.from(ek.public);
      publicKey = publicKeyPem(ek.public);
      // As makers do: more room than the certificate takes, padded.
      const { raw } = new X509Certificate((await maker.certify('usual', publicKey, root, usual)).pem);
      const padded = Buffer.concat([raw, Buffer.alloc(100, 0xff)]);
      await tpm.nvDefine(0x01c0000a, { attributes: 'ordinary', byteLength: padded.length });
      await tpm.nvWrite(0x01c0000a, padded);
      tpmHeld = await tpm.endorsementCertificate('ecc');
    } finally {
      await swtpm.stop();
    }
  });

  const appraise = (certificate: Uint8Array | undefined, change: Partial<EkEvidence> = {}) =>
    appraiseEkCertificate({ certificate, endorsementPublic, pinned: [root.pem], at: now, ...change });

  it('is read from NV without its padding, and proven', () => {
    expect(appraise(tpmHeld)).toMatchObject({ result: 'proven' });
  });

  it.each([
    [
      'a critical extension that is not understood',
      `${usual}`.replace('subjectAltName', '1.2.3.4=critical,ASN1:NULL\nsubjectAltName'),
      'extensions',
      '1.2.3.4',
    ],
    [
      'another purpose',
      `keyUsage=keyAgreement\nextendedKeyUsage=serverAuth\n${tpmName}`,
      'purpose',
      'extended key usage',
    ],
    ['a signing key’s usage', `keyUsage=digitalSignature\n${tpmName}`, 'purpose', 'decrypts'],
    ['no TPM in its name', endorsementUsage, 'purpose', 'does not name a TPM'],
    ['a CA’s rights', `${authorityUsage}${tpmName}`, 'purpose', 'is a CA'],
  ])('with %s is failed', async (what, extensions, check, words) => {
    const { pem } = await maker.certify(what.replaceAll(/\W/g, '-'), publicKey, root, extensions);
    const { result, checks } = appraise(pem);
    expect(result).toBe('failed');
    expect(checks[check]).toMatchObject({ result: 'failed', detail: expect.stringContaining(words) });
  });

  it('without a stated purpose is proven, as many makers leave it out', async () => {
    const { pem } = await maker.certify('no-usage', publicKey, root, tpmName);
    expect(appraise(pem)).toMatchObject({ result: 'proven' });
  });

  it('is failed when it has expired, or when its pinned CA has', async () => {
    const { pem } = await maker.certify('short', publicKey, root, usual, 1);
    expect(appraise(pem)).toMatchObject({ result: 'proven' });
    expect(appraise(pem, { at: inYears(0.01) })).toMatchObject({ result: 'failed' });
    const { pem: long } = await maker.certify('long', publicKey, root, usual, 3650);
    expect(appraise(long, { at: inYears(1) })).toMatchObject({
      result: 'failed',
      detail: expect.stringContaining('pinned CN=maker is not valid now'),
    });
  });

  it('is failed when its issuer is no CA, may not sign, or stands below a CA that allows none', async () => {
    const chains = [
      ['no-ca', 'basicConstraints=critical,CA:FALSE\n', authorityUsage],
      ['no-sign', 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign\n', authorityUsage],
      ['odd', `${authorityUsage}1.2.3.4=critical,ASN1:NULL\n`, authorityUsage],
      [
        'below',
        authorityUsage,
        'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n',
      ],
    ] as const;
    for (const [name, issuerExtensions, rootExtensions] of chains) {
      const top = await maker.authority(`${name}-root`, undefined, rootExtensions);
      const between = await maker.authority(`${name}-issuer`, top, issuerExtensions);
      const { pem } = await maker.certify(`${name}-leaf`, publicKey, between, usual);
      const { checks } = appraise(pem, { pinned: [top.pem], intermediates: [between.pem] });
      expect(checks.chain, name).toMatchObject({ result: 'failed' });
    }
    const between = await maker.authority('good-issuer', root);
    const { pem } = await maker.certify('good-leaf', publicKey, between, usual);
    expect(appraise(pem, { intermediates: [between.pem] })).toMatchObject({ result: 'proven' });
  });

  it('is failed for a key that cannot be read', () => {
    expect(appraise(tpmHeld, { endorsementPublic: new Uint8Array(3) }).checks['public key']).toMatchObject({
      result: 'failed',
      detail: expect.stringContaining('could not be read'),
    });
  });
});
