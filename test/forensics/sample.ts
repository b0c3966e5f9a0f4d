// A whole bundle, small, made by the real collector, packer and statement maker; the TPM's keys are software keys of its shape.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { appraiseCertification, appraiseQuote, compareClock } from '../../src/attestation/appraisal.ts';
import { fulcioChallenge, preAuthEncoding } from '../../src/attestation/dsse.ts';
import {
  checkEnrolment,
  type EnrolmentRecord,
  signingKeyQualifyingData,
} from '../../src/attestation/enrolment.ts';
import { parseEventLog, replay } from '../../src/attestation/eventlog.ts';
import { appraiseEventLog } from '../../src/attestation/eventlog-appraisal.ts';
import { bareBundle } from '../../src/attestation/sigstore-bundle.ts';
import { verifySigstoreBundle } from '../../src/attestation/sigstore-verify.ts';
import { makeStatement, statementPayloadType } from '../../src/attestation/statement.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import type { Appraisers } from '../../src/forensics/appraisers.ts';
import { type Collector, collectInto } from '../../src/forensics/collect.ts';
import {
  type Assurance,
  archiveName,
  type BundlePredicate,
  bundleBegun,
  bundleFormat,
  custodyPath,
  type Manifest,
  sha256,
} from '../../src/forensics/format.ts';
import { packBundle } from '../../src/forensics/pack.ts';
import { Redactor } from '../../src/forensics/redact.ts';
import { readRedactionRules } from '../../src/forensics/redaction-policy.ts';
import { nameOf, publicKeyPem, signatureDer } from '../../src/tpm/structures.ts';
import { endorsed, genuine } from '../attestation/endorsed.ts';
import {
  attestationAttributes,
  forgeCertification,
  forgeKey,
  forgeQuote,
} from '../attestation/forged-evidence.ts';
import { syntheticEventLog } from '../lab/eventlog.ts';

const { trust } = await genuine;

/** The real appraisers, as src/appliance hands them in. */
export const appraisers: Appraisers<EnrolmentRecord> = {
  sigstore: verifySigstoreBundle,
  quote: appraiseQuote,
  certification: appraiseCertification,
  eventLog: appraiseEventLog,
  clock: compareClock,
  enrolment: (record) => checkEnrolment(record, trust),
};

export const rules = readRedactionRules(join(import.meta.dirname, '../../policies/redaction.toml'));
export const caseKey = Buffer.alloc(32, 0x5a);
export const created = '2026-11-20T16:30:00.000Z';
export const subject = 'https://example.org/nodes/alpha';

const hardware: Assurance = { tpm: 'hardware', sigstore: 'on', standIns: [], notes: [] };

export interface SampleChoices {
  readonly assurance?: Assurance;
  readonly reason?: string;
  /** Extends PCR 14 after enrolment. */
  readonly capped?: boolean;
  /** Events before the bundle began. */
  readonly events?: readonly (readonly [event: string, detail: Record<string, unknown>])[];
  /** Bundle numbers begun in the custody log, the last of them for this bundle; 7 unless said. */
  readonly begun?: readonly unknown[];
  readonly redact?: boolean;
  readonly withoutEventLog?: boolean;
  /** Changed after the manifest was made up, before packing. */
  readonly manifest?: (manifest: Manifest) => Manifest;
  readonly predicate?: (predicate: BundlePredicate) => BundlePredicate;
}

export type Sample = Awaited<ReturnType<typeof makeSample>>;

/** Makes a bundle in `directory`. */
export async function makeSample(directory: string, choices: SampleChoices = {}) {
  const assurance = choices.assurance ?? hardware;
  const reason = choices.reason ?? 'operator';
  const ak = forgeKey();
  const key = forgeKey({ attributes: attestationAttributes.filter((name) => name !== 'restricted') });
  const pem = publicKeyPem(key.public);
  const sign = (bytes: Uint8Array) => signatureDer(key.sign(bytes));
  const log = syntheticEventLog().log;
  const replayed = replay(parseEventLog(log)).sha256 ?? {};
  const pcrs: Record<string, string> = {
    ...Object.fromEntries([0, 1, 2, 3, 4, 5, 6, 7].map((pcr) => [pcr, replayed[pcr] ?? '0'.repeat(64)])),
    '14': (choices.capped ? '14' : '00').repeat(32),
  };
  const attest = forgeCertification(nameOf(key.public), signingKeyQualifyingData, ak.public);
  const certification = { attest: base64(attest), signature: base64(ak.sign(attest)) };
  const told: EnrolmentRecord = {
    format: 'esoteric-appliance-enrolment/1',
    node: 'alpha',
    role: 'relay',
    created,
    assurance,
    tpm: {
      manufacturer: 'TEST',
      firmware: '1',
      srk: { handle: '0x81000001', name: hex(nameOf(ak.public)) },
      ak: {
        handle: '0x81010020',
        name: hex(nameOf(ak.public)),
        public: base64(ak.public),
        publicKey: publicKeyPem(ak.public),
      },
      signingKey: {
        name: hex(nameOf(key.public)),
        public: base64(key.public),
        publicKey: pem,
        certification,
      },
      pcrPolicy: {
        bank: 'sha256',
        pcrs: { '0': pcrs['0'] ?? '', '7': pcrs['7'] ?? '', '14': '0'.repeat(64) },
      },
      capPcr: 14,
      resetCount: 2,
      restartCount: 3,
    },
    keys: [],
    custodyHead: { sequence: 0, hash: '0'.repeat(64) },
  };

  const enrolment = endorsed(told, await genuine);

  using custody = CustodyLog.open(join(directory, 'custody.jsonl'), () => created);
  custody.append('provisioned', {});
  for (const [event, detail] of choices.events ?? []) custody.append(event, detail);
  for (const sequence of choices.begun ?? [7]) custody.append(bundleBegun, { sequence, reason });
  const head = custody.head();

  const redactor = new Redactor({ rules, hosts: ['alpha.example'], key: caseKey });
  const staging = join(directory, 'staging');
  const collected = await collectInto(staging, collectors(directory, log, choices), {
    timeoutMilliseconds: 5000,
    ...(choices.redact === false ? {} : { redactor }),
  });
  const manifest = (choices.manifest ?? same)({
    format: bundleFormat,
    node: 'alpha',
    sequence: 7,
    created,
    reason,
    assurance,
    ...collected,
    redaction: choices.redact === false ? null : { keyId: redactor.keyId },
  });
  const path = join(directory, archiveName('alpha', 7, created));
  const packed = await packBundle(staging, manifest, path);
  const quoted = Object.keys(pcrs).map(Number);
  const quote = forgeQuote({
    akPublic: ak.public,
    qualifyingData: Buffer.from(packed.sha256, 'hex'),
    selections: [[0x000b, quoted]],
    values: Object.values(pcrs).map((value) => Buffer.from(value, 'hex')),
  });
  const predicate: BundlePredicate = (choices.predicate ?? same)({
    node: 'alpha',
    sequence: 7,
    created,
    reason,
    assurance,
    manifestDigest: { sha256: packed.manifestSha256 },
    quote: {
      attest: base64(quote),
      signature: base64(ak.sign(quote)),
      pcrs: { bank: 'sha256', values: pcrs },
    },
    eventLog: choices.withoutEventLog ? null : { path: 'evidence/eventlog.bin', sha256: sha256(log) },
    clock: { clock: '1000', resetCount: 2, restartCount: 3, safe: true },
    signingKeyCertification: certification,
    custodyHead: { ...head },
  });
  const statement = makeStatement({ archiveName: 'alpha.tar.gz', archiveSha256: packed.sha256, predicate });
  const signatureOfStatement = sign(preAuthEncoding(statementPayloadType, statement));
  return {
    path,
    archive: new Uint8Array(readFileSync(path)),
    sigstoreBundle: bareBundle({
      statement,
      signatureDer: signatureOfStatement,
      publicKeyPem: pem,
    }) as unknown,
    proofOfPossession: { subject, signatureDer: sign(fulcioChallenge(subject)) },
    publicKeyPem: pem,
    enrolment,
    manifest,
    packed,
    head,
  };
}

function collectors(directory: string, log: Uint8Array, choices: SampleChoices): Collector[] {
  const collector = (path: string, redact: boolean, gather: Collector['gather']): Collector => ({
    name: path,
    path,
    source: 'the sample',
    limitBytes: 1 << 20,
    redact,
    gather,
  });
  return [
    collector(
      'host/hosts.txt',
      true,
      async () => 'alpha.example 10.0.0.1\nbeta.example fe80::1\n10.0.0.1 again\n',
    ),
    collector(custodyPath, false, async () => readFileSync(join(directory, 'custody.jsonl'))),
    ...(choices.withoutEventLog ? [] : [collector('evidence/eventlog.bin', false, async () => log)]),
  ];
}

const same = <T>(value: T): T => value;
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
