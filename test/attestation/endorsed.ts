// A genuine TPM's endorsement without a TPM: an endorsement key of software, a maker that certifies it, and a relying party that
// signs what it would have found out. For tests in which a TPM is to be proven, which no simulator ever is.
import { generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { signActivation } from '../../src/attestation/activation.ts';
import type { Endorsement } from '../../src/attestation/endorsement-format.ts';
import type { EnrolmentRecord } from '../../src/attestation/enrolment.ts';
import type { EnrolmentTrust } from '../../src/attestation/enrolment-appraisal.ts';
import { publicKeyPem } from '../../src/tpm/structures.ts';
import { endorsementKeyEcc } from '../../src/tpm/templates.ts';
import { endorsementUsage, Maker, tpmName } from './ek-authority.ts';

export interface Enroller {
  readonly privateKey: KeyObject;
  /** PEM. */
  readonly publicKey: string;
}

export function makeEnroller(): Enroller {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString() };
}

export interface Genuine {
  readonly endorsement: Endorsement;
  readonly enroller: Enroller;
  readonly trust: EnrolmentTrust;
}

/** `name`: what the maker's certificate calls the TPM, as openssl's extensions have it. */
export async function makeGenuine(name: string = tpmName): Promise<Genuine> {
  const directory = mkdtempSync(join(tmpdir(), 'ea-genuine-'));
  try {
    const maker = new Maker(directory);
    const root = await maker.authority('maker');
    const area = softwareEndorsementKey();
    const { pem } = await maker.certify('ek', publicKeyPem(area), root, endorsementUsage + name);
    const certificate = new X509Certificate(pem).raw.toString('base64');
    const enroller = makeEnroller();
    return {
      endorsement: {
        keys: [{ kind: 'ecc' as const, public: Buffer.from(area).toString('base64'), certificate }],
        intermediates: [],
      },
      enroller,
      trust: { pinned: [root.pem], enrollers: [enroller.publicKey] },
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** One a process: openssl takes its time. */
export const genuine: Promise<Genuine> = makeGenuine();

/** `record` as a relying party would keep it after it had enrolled the node, now. */
export function endorsed(record: EnrolmentRecord, { endorsement, enroller }: Genuine): EnrolmentRecord {
  const word = { by: 'auditor', at: afterCertificates(), kind: 'ecc' as const };
  return signActivation({ ...record, endorsement }, word, enroller.privateKey);
}

/** Certificates are valid from the second in which they were made. */
const afterCertificates = (): string => new Date(Date.now() + 60_000).toISOString();

/** TPMT_PUBLIC of an endorsement key by the usual template. */
function softwareEndorsementKey(): Uint8Array {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  const area = Uint8Array.from(endorsementKeyEcc);
  area.set(Buffer.from(x, 'base64url'), area.length - 66);
  area.set(Buffer.from(y, 'base64url'), area.length - 32);
  return area;
}
