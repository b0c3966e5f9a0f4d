// The enrolment record: what provisioning writes is read back, and an edited record does not hold together.
import { beforeAll, describe, expect, it } from 'vitest';
import {
  type EnrolmentRecord,
  parseEnrolment,
  signingKeyQualifyingData,
} from '../../src/attestation/enrolment.ts';
import { checkEnrolment, type EnrolmentTrust } from '../../src/attestation/enrolment-appraisal.ts';
import { Failure } from '../../src/host/failure.ts';
import { tpmName } from './ek-authority.ts';
import { endorsed, type Genuine, genuine, makeEnroller, makeGenuine } from './endorsed.ts';
import { enrolmentOf, makeRealEvidence, type RealEvidence } from './real-evidence.ts';

let real: RealEvidence;
let record: EnrolmentRecord;
let maker: Genuine;
beforeAll(async () => {
  real = await makeRealEvidence();
  record = enrolmentOf(real);
  maker = await genuine;
}, 20_000);

type Tpm = NonNullable<EnrolmentRecord['tpm']>;
const tpmOf = (): Tpm => {
  if (record.tpm === null) throw new Error('the record has no TPM');
  return record.tpm;
};
const withTpm = (changes: Partial<Tpm>): EnrolmentRecord => ({ ...record, tpm: { ...tpmOf(), ...changes } });
const unsigned = (changes: Partial<Tpm> = {}): EnrolmentRecord => ({
  ...withTpm(changes),
  assurance: { ...record.assurance, tpm: 'hardware' },
});
const hardware = (changes: Partial<Tpm> = {}): EnrolmentRecord => endorsed(unsigned(changes), maker);
const checked = (enrolled: EnrolmentRecord, trust: Partial<EnrolmentTrust> = {}) =>
  checkEnrolment(enrolled, { ...maker.trust, ...trust });
const bypassed = (): EnrolmentRecord => ({
  ...record,
  tpm: null,
  signingKey: { publicKey: tpmOf().signingKey.publicKey },
  assurance: { ...record.assurance, tpm: 'bypassed' },
});

const refusal = (text: string): string => {
  try {
    parseEnrolment(text);
  } catch (thrown) {
    if (thrown instanceof Failure && thrown.code === 'enrolment-invalid') return thrown.message;
    throw thrown;
  }
  return 'accepted';
};

describe('reading an enrolment record', () => {
  it('gives back what was written, with a TPM and without one', () => {
    expect(parseEnrolment(JSON.stringify(record))).toEqual(record);
    expect(parseEnrolment(JSON.stringify(bypassed()))).toEqual(bypassed());
    expect(parseEnrolment(JSON.stringify({ ...bypassed(), signingKey: null })).signingKey).toBeNull();
  });

  it('drops members of a later version', () => {
    expect(parseEnrolment(JSON.stringify({ ...record, later: 1 }))).toEqual(record);
  });

  it('names the member that is wrong', () => {
    const tpm = tpmOf();
    const cases: [object, string][] = [
      [{ format: 'esoteric-appliance-enrolment/2' }, 'format'],
      [{ node: '' }, 'node'],
      [{ created: 'yesterday' }, 'created'],
      [{ assurance: { ...record.assurance, tpm: 'perhaps' } }, 'assurance.tpm'],
      [{ tpm: { ...tpm, capPcr: 16 } }, 'tpm.capPcr'],
      [{ tpm: { ...tpm, resetCount: -1 } }, 'tpm.resetCount'],
      [{ tpm: { ...tpm, srk: { handle: '81000001', name: tpm.srk.name } } }, 'tpm.srk.handle'],
      [{ tpm: { ...tpm, ak: { ...tpm.ak, name: 'xyz' } } }, 'tpm.ak.name'],
      [{ tpm: { ...tpm, ak: { ...tpm.ak, public: 'AA=A' } } }, 'tpm.ak.public'],
      [{ tpm: { ...tpm, ak: { ...tpm.ak, publicKey: 'PEM' } } }, 'tpm.ak.publicKey'],
      [{ tpm: { ...tpm, pcrPolicy: { bank: 'sha1', pcrs: tpm.pcrPolicy.pcrs } } }, 'tpm.pcrPolicy.bank'],
      [
        { tpm: { ...tpm, pcrPolicy: { bank: 'sha256', pcrs: { '24': '00'.repeat(32) } } } },
        'tpm.pcrPolicy.pcrs',
      ],
      [{ tpm: { ...tpm, pcrPolicy: { bank: 'sha256', pcrs: {} } } }, 'tpm.pcrPolicy'],
      [{ custodyHead: { sequence: 1, hash: '00' } }, 'custodyHead.hash'],
    ];
    for (const [changes, member] of cases) {
      expect(refusal(JSON.stringify({ ...record, ...changes }))).toContain(`not valid: ${member}`);
    }
  });

  it('refuses what is not a record at all', () => {
    expect(refusal('')).toContain('not JSON');
    expect(refusal('{"node":"alpha","no\\u0064e":"beta"}')).toContain('a key twice');
    expect(refusal('null')).toContain('the record');
    expect(refusal(`"${'x'.repeat(1 << 20)}"`)).toContain('longer than');
  });
});

describe('checking an enrolment record', () => {
  it('proves that the keys are of one TPM, which a pinned maker and whoever enrolled it vouch for', () => {
    const { result, checks } = checked(hardware());
    expect(result).toBe('proven');
    expect(Object.keys(checks)).toEqual([
      ...['attestation key', 'signing key', 'certification', 'TPM', 'endorsement', 'activation'],
    ]);
  });

  it('proves nothing that only the node says, though all of it holds', () => {
    const created = new Date(Date.now() + 60_000).toISOString();
    const certified = { ...unsigned(), created, endorsement: maker.endorsement };
    const { result, detail, checks } = checked(certified);
    expect(result).toBe('not-proven');
    expect(detail).toContain('Only the node itself says');
    expect(checks.endorsement?.result).toBe('proven');
    expect(checked(unsigned()).checks.endorsement?.detail).toContain('names no endorsement key');
  });

  it('believes nobody who is not named, and no CA that is not pinned', () => {
    const strangers = { enrollers: [makeEnroller().publicKey, 'no key'] };
    expect(checked(hardware(), strangers)).toMatchObject({
      result: 'not-proven',
      detail: expect.stringContaining('no key of that verifier was given, and anyone can write so'),
    });
    expect(checked(hardware(), { pinned: [] })).toMatchObject({ result: 'not-proven' });
    expect(checkEnrolment(hardware()).result).toBe('not-proven');
    const both = { enrollers: [makeEnroller().publicKey, ...maker.trust.enrollers] };
    expect(checked(hardware(), both).result).toBe('proven');
  });

  it('fails when anything in it was changed since it was signed, and when the word was taken from another record', () => {
    const signed = hardware();
    const edits: Partial<EnrolmentRecord>[] = [
      { node: 'beta' },
      { role: 'leaf' },
      { created: '2020-01-01T00:00:00Z' },
      { keys: [] },
      { custodyHead: { sequence: 2, hash: '0'.repeat(64) } },
      { assurance: { ...signed.assurance, notes: ['all is well'] } },
      { tpm: { ...tpmOf(), resetCount: 7 } },
      { tpm: { ...tpmOf(), pcrPolicy: { bank: 'sha256', pcrs: { '0': 'ab'.repeat(32) } } } },
    ];
    for (const edit of edits) {
      expect(checked({ ...signed, ...edit }), JSON.stringify(edit)).toMatchObject({
        result: 'failed',
        detail: expect.stringContaining('not as auditor signed it'),
      });
    }
    const { endorsement } = signed;
    if (endorsement?.activation === undefined) throw new Error('not signed');
    const { activation } = endorsement;
    for (const change of [{ by: 'owner' }, { at: '2020-01-01T00:00:00Z' }, { signature: 'AAAA' }]) {
      const edited = { ...endorsement, activation: { ...activation, ...change } };
      expect(checked({ ...signed, endorsement: edited }).checks.activation?.result).toBe('failed');
    }
    const other = { ...endorsement, activation: { ...activation, kind: 'rsa' as const } };
    expect(checked({ ...signed, endorsement: other }).checks.endorsement?.detail).toContain(
      'no endorsement key of',
    );
  });

  it('is not proven where the maker’s own certificate names a simulator', async () => {
    const named = await makeGenuine(tpmName.replace('=model', '=swtpm'));
    const { checks } = checkEnrolment(endorsed(unsigned(), named), named.trust);
    expect(checks.endorsement?.result).toBe('proven');
    expect(checks.activation?.result).toBe('proven');
    expect(checks.TPM).toMatchObject({ result: 'not-proven', detail: expect.stringContaining('swtpm') });
  });

  it('never proves a simulator, though all else holds', () => {
    const { result, detail, checks } = checkEnrolment(record);
    expect(result).toBe('not-proven');
    expect(detail).toContain('simulator');
    expect(checks.certification?.result).toBe('proven');
    expect(checks['attestation key']?.result).toBe('proven');
  });

  it('never proves a node without a TPM', () => {
    expect(checkEnrolment(bypassed())).toMatchObject({ result: 'not-proven' });
  });

  it('fails when the record contradicts itself about its TPM', () => {
    expect(checkEnrolment({ ...record, tpm: null }).result).toBe('failed');
    const claimsBypass = { ...record, assurance: { ...record.assurance, tpm: 'bypassed' as const } };
    expect(checked(claimsBypass).result).toBe('failed');
  });

  it('fails when a name, a public key or a public area was exchanged', () => {
    const { ak, signingKey } = tpmOf();
    const fails = (changes: Partial<Tpm>): string => {
      const { result, detail } = checked(hardware(changes));
      return result === 'failed' ? detail : result;
    };
    expect(fails({ ak: { ...ak, name: signingKey.name } })).toContain('name of the attestation key');
    expect(fails({ ak: { ...ak, publicKey: signingKey.publicKey } })).toContain(
      'public key of the attestation key',
    );
    expect(fails({ ak: { ...ak, public: signingKey.public } })).toContain('not restricted');
    const broken = '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n';
    expect(fails({ ak: { ...ak, publicKey: broken } })).toContain('malformed');
    expect(fails({ signingKey: { ...signingKey, name: ak.name } })).toContain('name of the signing key');
    expect(fails({ signingKey: { ...signingKey, publicKey: ak.publicKey } })).toContain(
      'public key of the signing key',
    );
    expect(fails({ signingKey: { ...signingKey, public: 'AAAA' } })).toContain('malformed');
    expect(
      fails({ signingKey: { ...signingKey, public: ak.public, name: ak.name, publicKey: ak.publicKey } }),
    ).toContain('another key');
  });

  it('fails when the certification is of something else or was touched', () => {
    const { signingKey } = tpmOf();
    const quote = Buffer.from(real.quote.attest).toString('base64');
    const certification = { ...signingKey.certification, attest: quote };
    expect(checked(hardware({ signingKey: { ...signingKey, certification } })).result).toBe('failed');
    const signature = Buffer.from(real.certification.signature);
    signature[20] = (signature[20] ?? 0) ^ 1;
    const touched = { ...signingKey.certification, signature: signature.toString('base64') };
    const appraisal = checked(hardware({ signingKey: { ...signingKey, certification: touched } }));
    expect(appraisal.checks.certification?.detail).toContain('signature');
  });

  it('binds the certification to its purpose', () => {
    expect(Buffer.from(signingKeyQualifyingData).toString('hex')).toBe(
      '8c93995cc0eeebb00f43610c9a0a361ddc13b1d9eb3ce9a47eb307d99a456493',
    );
  });
});
