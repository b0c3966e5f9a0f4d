// A node as a verifier sees it: keys in a real simulator, an endorsement by a maker of the tests, and the program's own evidence.
// `claims` are what the node says of itself and could not be held to otherwise: a simulator that lies says that it is none.
import { X509Certificate } from 'node:crypto';
import { admit, appraiseAnswer, appraiseNewIdentity, challengeFor } from '../../src/attestation/admission.ts';
import {
  type AttestAnswer,
  type AttestChallenge,
  type AttestEvidence,
  type AttestRequest,
  type EvidenceStatement,
  parseEvidence,
  quotedDigest,
} from '../../src/attestation/documents.ts';
import type { EndorsementKey } from '../../src/attestation/endorsement-format.ts';
import { type EnrolmentRecord, signingKeyQualifyingData } from '../../src/attestation/enrolment.ts';
import { appraiseNewcomer } from '../../src/attestation/evidence-appraisal.ts';
import { createSigningKey, pemOf } from '../../src/keys/anchors.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { type PcrBank, pcrBankNames } from '../../src/tpm/structs.ts';
import { publicKeyPem } from '../../src/tpm/structures.ts';
import { attestationKey, storageRootKey } from '../../src/tpm/templates.ts';
import { syntheticEventLog } from '../lab/eventlog.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';
import { endorsementUsage, type Issued, type Maker, tpmName } from './ek-authority.ts';
import type { Enroller } from './endorsed.ts';

export const akHandle = 0x81010020;

/** Makes the attestation key, keeps it at `akHandle`, and tells it as records do. */
export async function persistAttestationKey(tpm: Tpm) {
  await using primary = await tpm.createPrimary('endorsement', attestationKey);
  if (!(await tpm.persistentHandles()).includes(akHandle))
    await tpm.persist(primary, 'endorsement', akHandle);
  const area = Buffer.from(primary.public).toString('base64');
  return { name: Buffer.from(primary.name).toString('hex'), public: area, publicKey: pemOf(area) };
}

export const askedPcrs = [0, 1, 2, 3, 4, 5, 6, 7, 14];

export interface Claims {
  readonly simulator?: boolean;
  readonly edit?: (statement: EvidenceStatement) => EvidenceStatement;
  readonly banks?: readonly PcrBank[];
  readonly pcrs?: readonly number[];
}

export class AttestedNode implements AsyncDisposable {
  readonly name: string;
  readonly swtpm: Swtpm;
  readonly record: EnrolmentRecord;

  private constructor(name: string, swtpm: Swtpm, record: EnrolmentRecord) {
    this.name = name;
    this.swtpm = swtpm;
    this.record = record;
  }

  /** Boots the synthetic firmware on a new simulator and has `authority` of the maker certify its ECC endorsement key. */
  static async make(directory: string, name: string, maker: Maker, authority: Issued): Promise<AttestedNode> {
    const swtpm = await startSwtpm(directory);
    await using tpm = await openTpm({ tcti: swtpm.tcti });
    const banks = await tpm.pcrBanks();
    for (const { pcr, sha256, sha1 } of syntheticEventLog().extends) {
      await tpm.pcrExtend(pcr, { sha256, ...(banks.includes('sha1') ? { sha1 } : {}) });
    }
    const ak = await persistAttestationKey(tpm);
    await using srk = await tpm.createPrimary('owner', storageRootKey);
    await using attestor = await tpm.at(akHandle);
    const signingKey = await createSigningKey(tpm, srk, attestor, signingKeyQualifyingData);
    await using ek = await tpm.endorsementKey('ecc');
    const { pem } = await maker.certify(
      `${name}-ek`,
      publicKeyPem(ek.public),
      authority,
      endorsementUsage + tpmName,
      3650, // beyond its CA
    );
    const key: EndorsementKey = {
      kind: 'ecc',
      public: Buffer.from(ek.public).toString('base64'),
      certificate: new X509Certificate(pem).raw.toString('base64'),
    };
    const pcrs = await tpm.pcrRead('sha256', [0, 7, 14]);
    const record: EnrolmentRecord = {
      format: 'esoteric-appliance-enrolment/1',
      node: name,
      role: 'relay',
      created: new Date().toISOString(),
      assurance: { tpm: 'hardware', sigstore: 'on', standIns: [], notes: [] },
      tpm: {
        manufacturer: 'TEST',
        firmware: '1.0',
        srk: { handle: '0x81000001', name: Buffer.from(srk.name).toString('hex') },
        ak: { handle: '0x81010020', ...ak },
        signingKey: {
          name: signingKey.name,
          public: signingKey.public,
          publicKey: pemOf(signingKey.public),
          certification: signingKey.certification,
        },
        pcrPolicy: { bank: 'sha256', pcrs: hexOf(pcrs) },
        capPcr: 14,
        resetCount: 0,
        restartCount: 0,
      },
      keys: [],
      custodyHead: { sequence: 1, hash: '0'.repeat(64) },
      endorsement: { keys: [key], intermediates: [] },
    };
    return new AttestedNode(name, swtpm, record);
  }

  /** Evidence as a node makes it, of what it claims. */
  evidence(request: AttestRequest, claims: Claims = {}): Promise<AttestEvidence> {
    return this.#with(async (tpm) => {
      const statement = (claims.edit ?? ((same) => same))({
        nonce: request.nonce,
        created: new Date().toISOString(),
        enrolment: this.record,
        simulator: claims.simulator ?? false,
        eventLog: Buffer.from(syntheticEventLog().log).toString('base64'),
      });
      const present = (await tpm.pcrBanks()) as PcrBank[];
      const banks = claims.banks ?? present.filter((bank) => pcrBankNames.includes(bank));
      const pcrs = claims.pcrs ?? request.pcrs;
      const values: Partial<Record<PcrBank, Record<string, string>>> = {};
      for (const bank of banks) values[bank] = hexOf(await tpm.pcrRead(bank, pcrs));
      await using ak = await tpm.at(akHandle);
      const { attest, signature } = await tpm.quote(ak, quotedDigest(statement), pcrs, banks);
      return {
        format: 'esoteric-appliance-attest-evidence/1',
        statement,
        quote: {
          attest: Buffer.from(attest).toString('base64'),
          signature: Buffer.from(signature).toString('base64'),
          pcrs: { sha256: {}, ...values },
        },
      };
    });
  }

  activate({ kind, idObject, encryptedSecret, nonce }: AttestChallenge): Promise<AttestAnswer> {
    return this.#with(async (tpm) => {
      await using ek = await tpm.endorsementKey(kind);
      await using ak = await tpm.at(akHandle);
      const blob = {
        idObject: Buffer.from(idObject, 'base64'),
        encryptedSecret: Buffer.from(encryptedSecret, 'base64'),
      };
      const secret = Buffer.from(await tpm.activateCredential(ek, ak, blob)).toString('base64');
      return { format: 'esoteric-appliance-attest-answer/1', nonce, secret };
    });
  }

  async #with<T>(work: (tpm: Tpm) => Promise<T>): Promise<T> {
    await using tpm = await openTpm({ tcti: this.swtpm.tcti });
    return await work(tpm);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.swtpm.stop();
  }
}

/** The record that a relying party keeps after it has enrolled the node, and what it found. */
export async function enrol(
  node: AttestedNode,
  request: AttestRequest,
  by: { readonly pinned: readonly Uint8Array[]; readonly enroller: Enroller; readonly at: Date },
  claims: Claims = {},
) {
  const { evidence, digest } = parseEvidence(JSON.stringify(await node.evidence(request, claims)));
  const pins = { pinned: by.pinned, at: by.at };
  const { challenge, expected } = challengeFor(evidence, pins);
  const activation = appraiseAnswer(evidence, await node.activate(challenge), expected);
  const admission = appraiseNewIdentity(evidence, pins, { kind: expected.kind, activation });
  const report = appraiseNewcomer({ evidence, digest, request, at: by.at, maxAge: 600 }, admission);
  if (report.clock === null) throw new Error('the quote tells no clock');
  const word = { by: 'auditor', at: by.at.toISOString(), kind: expected.kind };
  return {
    record: admit(evidence, admission, word, report.clock, by.enroller.privateKey),
    report,
    admission,
  };
}

const hexOf = (values: ReadonlyMap<number, Uint8Array>): Record<string, string> =>
  Object.fromEntries([...values].map(([pcr, value]) => [String(pcr), Buffer.from(value).toString('hex')]));
