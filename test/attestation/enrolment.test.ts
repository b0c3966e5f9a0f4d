// The enrolment record: what provisioning writes is read back, and an edited record does not hold together.
import { beforeAll, describe, expect, it } from 'vitest';
import {
  checkEnrolment,
  type EnrolmentRecord,
  parseEnrolment,
  signingKeyQualifyingData,
} from '../../src/attestation/enrolment.ts';
import { Failure } from '../../src/host/failure.ts';
import { enrolmentOf, makeRealEvidence, type RealEvidence } from './real-evidence.ts';

let real: RealEvidence;
let record: EnrolmentRecord;
beforeAll(async () => {
  real = await makeRealEvidence();
  record = enrolmentOf(real);
}, 20_000);

type Tpm = NonNullable<EnrolmentRecord['tpm']>;
const tpmOf = (): Tpm => {
  if (record.tpm === null) throw new Error('the record has no TPM');
  return record.tpm;
};
const withTpm = (changes: Partial<Tpm>): EnrolmentRecord => ({ ...record, tpm: { ...tpmOf(), ...changes } });
const hardware = (changes: Partial<Tpm> = {}): EnrolmentRecord => ({
  ...withTpm(changes),
  assurance: { ...record.assurance, tpm: 'hardware' },
});
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
    expect(refusal('null')).toContain('the record');
    expect(refusal(`"${'x'.repeat(1 << 20)}"`)).toContain('longer than');
  });
});

describe('checking an enrolment record', () => {
  it('proves that the keys are of one TPM, and asks no more of a hardware TPM', () => {
    const { result, checks } = checkEnrolment(hardware());
    expect(result).toBe('proven');
    expect(Object.keys(checks)).toEqual(['attestation key', 'signing key', 'certification', 'TPM']);
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
    expect(checkEnrolment(claimsBypass).result).toBe('failed');
  });

  it('fails when a name, a public key or a public area was exchanged', () => {
    const { ak, signingKey } = tpmOf();
    const fails = (changes: Partial<Tpm>): string => {
      const { result, detail } = checkEnrolment(hardware(changes));
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
    expect(checkEnrolment(hardware({ signingKey: { ...signingKey, certification } })).result).toBe('failed');
    const signature = Buffer.from(real.certification.signature);
    signature[20] = (signature[20] ?? 0) ^ 1;
    const touched = { ...signingKey.certification, signature: signature.toString('base64') };
    const appraisal = checkEnrolment(hardware({ signingKey: { ...signingKey, certification: touched } }));
    expect(appraisal.checks.certification?.detail).toContain('signature');
  });

  it('binds the certification to its purpose', () => {
    expect(Buffer.from(signingKeyQualifyingData).toString('hex')).toBe(
      '8c93995cc0eeebb00f43610c9a0a361ddc13b1d9eb3ce9a47eb307d99a456493',
    );
  });
});
