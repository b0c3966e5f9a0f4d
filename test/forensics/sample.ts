// A whole bundle, small, made by the real collector, packer and statement maker; the TPM's keys are software keys of its shape.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import canonicalize from 'canonicalize';
import { appraiseCertification, appraiseQuote, compareClock } from '../../src/attestation/appraisal.ts';
import { fulcioChallenge, preAuthEncoding } from '../../src/attestation/dsse.ts';
import { type EnrolmentRecord, signingKeyQualifyingData } from '../../src/attestation/enrolment.ts';
import { checkEnrolment } from '../../src/attestation/enrolment-appraisal.ts';
import { parseEventLog, replay } from '../../src/attestation/eventlog.ts';
import { appraiseEventLog } from '../../src/attestation/eventlog-appraisal.ts';
import { appraiseNvCertification } from '../../src/attestation/nv-certification.ts';
import { bareBundle } from '../../src/attestation/sigstore-bundle.ts';
import { verifySigstoreBundle } from '../../src/attestation/sigstore-verify.ts';
import { makeStatement, statementPayloadType } from '../../src/attestation/statement.ts';
import { anchorsOf } from '../../src/custody/anchor.ts';
import { checkChain } from '../../src/custody/chain.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import type { Appraisers } from '../../src/forensics/appraisers.ts';
import { type Collector, collectInto } from '../../src/forensics/collect.ts';
import {
  type Assurance,
  archiveName,
  type BundlePredicate,
  bundleBegun,
  bundleFormat,
  bundleMade,
  certificatePath,
  custodyPath,
  type Manifest,
  pastCertificatesPath,
  sha256,
} from '../../src/forensics/format.ts';
import { packBundle } from '../../src/forensics/pack.ts';
import { Redactor } from '../../src/forensics/redact.ts';
import { readRedactionRules } from '../../src/forensics/redaction-policy.ts';
import { RecordComparison } from '../../src/forensics/redaction-records.ts';
import { counterDefinition, custodyDefinition, writtenName } from '../../src/keys/indices.ts';
import type { NvDefinition } from '../../src/tpm/nv-public.ts';
import { nameOf, publicKeyPem, signatureDer } from '../../src/tpm/structures.ts';
import { Writer } from '../../src/tpm/wire.ts';
import { endorsed, genuine } from '../attestation/endorsed.ts';
import {
  attestationAttributes,
  forgeCertification,
  forgeKey,
  forgeNvCertification,
  forgeQuote,
} from '../attestation/forged-evidence.ts';
import { syntheticEventLog } from '../lab/eventlog.ts';

const { trust } = await genuine;

/** The real appraisers, as src/appliance hands them in. */
export const appraisers: Appraisers<EnrolmentRecord> = {
  sigstore: verifySigstoreBundle,
  quote: appraiseQuote,
  certification: appraiseCertification,
  nvCertification: appraiseNvCertification,
  eventLog: appraiseEventLog,
  clock: compareClock,
  enrolment: (record) => checkEnrolment(record, trust),
};

export const rules = readRedactionRules(join(import.meta.dirname, '../../policies/redaction.toml'));
export const caseKey = Buffer.alloc(32, 0x5a);
/** As `verify` compares them; in pieces of `chunk` bytes. */
export function compareRecords(
  member: Uint8Array,
  records: Uint8Array,
  counts: ConstructorParameters<typeof RecordComparison>[1],
  chunk = member.length,
): string | undefined {
  const comparison = new RecordComparison(records, counts);
  for (let at = 0; at < member.length; at += chunk) comparison.take(member.subarray(at, at + chunk));
  return comparison.end();
}
export const created = '2026-11-20T16:30:00.000Z';
export const subject = 'https://example.org/nodes/alpha';

const hardware: Assurance = { tpm: 'hardware', sigstore: 'on', standIns: [], notes: [] };

export interface CertificateChoices {
  readonly level?: 'purge' | 'lock' | 'destroy';
  readonly node?: string;
  /** The cap PCR as quoted in it. */
  readonly cap?: string;
  /** Made for another digest. */
  readonly foreign?: boolean;
  readonly unsigned?: boolean;
  readonly untold?: boolean;
}

/** A node that makes several bundles: its keys, and the custody log that it goes on with. */
export interface History {
  readonly ak: ReturnType<typeof forgeKey>;
  readonly key: ReturnType<typeof forgeKey>;
  readonly custody: string;
}

export const beginHistory = (directory: string): History => ({
  ...forgeKeys(),
  custody: join(directory, 'custody.jsonl'),
});

const forgeKeys = () => ({
  ak: forgeKey(),
  key: forgeKey({ attributes: attestationAttributes.filter((name) => name !== 'restricted') }),
});

export interface SampleChoices {
  /** Default: a node of its own, with a log of its own. */
  readonly history?: History;
  /** Signs the statement instead of the node's own key. */
  readonly signer?: History['key'];
  /** Of the bundle; 7 unless said. */
  readonly sequence?: number;
  /** RFC 3339; the time of the bundle and of its records. */
  readonly at?: string;
  /** The TPM's clock in milliseconds, and the armed counter. */
  readonly clock?: number;
  readonly armed?: number;
  readonly assurance?: Assurance;
  readonly reason?: string;
  /** Extends PCR 14 after enrolment. */
  readonly capped?: boolean;
  /** Events before the bundle began. */
  readonly events?: readonly (readonly [event: string, detail: Record<string, unknown>])[];
  /** Bundle numbers begun in the custody log, the last of them for this bundle; 7 unless said. */
  readonly begun?: readonly unknown[];
  /** What the TPM's bundle counter stood at; 7 unless said. */
  readonly counted?: number;
  /** A zeroize certificate, and whether the custody log tells of it. */
  readonly certificate?: CertificateChoices;
  /** Of earlier zeroizes, one a line. */
  readonly pastCertificates?: string;
  /** Events after the log told of it. */
  readonly since?: SampleChoices['events'];
  readonly redact?: boolean;
  /** Besides those of the sample. */
  readonly collectors?: readonly Collector[];
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
  const sequence = choices.sequence ?? 7;
  const at = choices.at ?? created;
  const clock = choices.clock ?? 1000;
  const { ak, key } = choices.history ?? forgeKeys();
  const custodyLog = choices.history?.custody ?? join(directory, 'custody.jsonl');
  const pem = publicKeyPem(key.public);
  const signer = choices.signer ?? key;
  const sign = (bytes: Uint8Array) => signatureDer(signer.sign(bytes));
  const log = syntheticEventLog().log;
  const replayed = replay(parseEventLog(log)).sha256 ?? {};
  const pcrs: Record<string, string> = {
    ...Object.fromEntries([0, 1, 2, 3, 4, 5, 6, 7].map((pcr) => [pcr, replayed[pcr] ?? '0'.repeat(64)])),
    '14': (choices.capped ? '14' : '00').repeat(32),
  };
  const attest = forgeCertification(nameOf(key.public), signingKeyQualifyingData, ak.public);
  const certification = { attest: base64(attest), signature: base64(ak.sign(attest)) };
  const written: EnrolmentRecord = {
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
      nv: { sequence: '0x01810020', armed: '0x01810021', custody: '0x01810022' },
    },
    keys: [],
    custodyHead: { sequence: 0, hash: '0'.repeat(64) },
  };

  function zeroizeCertificate(choice: CertificateChoices = {}) {
    const asserted = {
      format: 'esoteric-appliance-zeroize/1',
      node: choice.node ?? 'alpha',
      level: choice.level ?? 'lock',
      cause: 'link-flap',
    };
    const digest = createHash('sha256')
      .update(canonicalize(asserted) ?? '')
      .digest();
    const qualifyingData = choice.foreign ? Buffer.alloc(32) : digest;
    const capPcr = choice.cap ?? '14'.repeat(32);
    const quote = forgeQuote({
      akPublic: ak.public,
      qualifyingData,
      selections: [[0x000b, [14]]],
      values: [Buffer.from(capPcr, 'hex')],
    });
    const counted = forgeNvCertification(
      writtenName(0x01810021, counterDefinition),
      counter(4),
      qualifyingData,
      ak.public,
    );
    const proven = {
      attest: base64(quote),
      signature: base64(ak.sign(quote)),
      pcrs: { '14': capPcr },
      armedCounter: { attest: base64(counted), signature: base64(ak.sign(counted)) },
    };
    const bytes = Buffer.from(JSON.stringify({ asserted, proven: choice.unsigned ? null : proven }));
    return { digest, bytes };
  }
  const certificate = zeroizeCertificate(choices.certificate);
  const enrolment = endorsed(written, await genuine);

  using custody = CustodyLog.open(custodyLog, () => at);
  if (custody.head().sequence === 0) custody.append('provisioned', {});
  for (const [event, detail] of choices.events ?? []) custody.append(event, detail);
  if (choices.certificate !== undefined && choices.certificate.untold !== true) {
    custody.append('zeroize-certified', { sha256: hex(certificate.digest) });
  }
  for (const [event, detail] of choices.since ?? []) custody.append(event, detail);
  for (const number of choices.begun ?? [sequence]) custody.append(bundleBegun, { sequence: number, reason });
  const head = custody.head();
  const anchors = anchorsOf(checkChain(readFileSync(custodyLog)));
  const told = anchors.at(-1);
  if (told === undefined) throw new Error('provisioned is anchored');

  const redactor = new Redactor({ rules, hosts: ['alpha.example'], key: caseKey });
  const staging = join(directory, 'staging');
  const collected = await collectInto(
    { path: staging },
    collectors(custodyLog, log, choices, certificate.bytes),
    {
      timeoutMilliseconds: 5000,
      ...(choices.redact === false ? {} : { redactor }),
    },
  );
  const manifest = (choices.manifest ?? same)({
    format: bundleFormat,
    node: 'alpha',
    sequence,
    created: at,
    reason,
    assurance,
    ...collected,
    redaction: choices.redact === false ? null : { keyId: redactor.keyId },
  });
  const path = join(directory, archiveName('alpha', sequence, at));
  const packed = await packBundle(staging, manifest, path);
  const quoted = Object.keys(pcrs).map(Number);
  const quote = forgeQuote({
    akPublic: ak.public,
    qualifyingData: Buffer.from(packed.sha256, 'hex'),
    selections: [[0x000b, quoted]],
    values: Object.values(pcrs).map((value) => Buffer.from(value, 'hex')),
    clock: BigInt(clock),
  });
  const archiveDigest = Buffer.from(packed.sha256, 'hex');
  const certifyNv = (index: number, use: NvDefinition, contents: Uint8Array, qualifying: Uint8Array) => {
    const attest = forgeNvCertification(writtenName(index, use), contents, qualifying, ak.public);
    return { attest: base64(attest), signature: base64(ak.sign(attest)) };
  };
  const predicate: BundlePredicate = (choices.predicate ?? same)({
    node: 'alpha',
    sequence,
    created: at,
    reason,
    assurance,
    manifestDigest: { sha256: packed.manifestSha256 },
    quote: {
      attest: base64(quote),
      signature: base64(ak.sign(quote)),
      pcrs: { bank: 'sha256', values: pcrs },
    },
    eventLog: choices.withoutEventLog ? null : { path: 'evidence/eventlog.bin', sha256: sha256(log) },
    clock: { clock: String(clock), resetCount: 2, restartCount: 3, safe: true },
    signingKeyCertification: certification,
    nv: {
      sequence: certifyNv(0x01810020, counterDefinition, counter(choices.counted ?? sequence), archiveDigest),
      armed: certifyNv(0x01810021, counterDefinition, counter(choices.armed ?? 1), archiveDigest),
      custody: certifyNv(0x01810022, custodyDefinition, told.value, told.hash),
    },
    custodyHead: { ...head },
  });
  if (choices.history !== undefined)
    custody.append(bundleMade, { sequence, sha256: packed.sha256, signed: 'tpm' });
  const statement = makeStatement({ archiveName: 'alpha.tar.gz', archiveSha256: packed.sha256, predicate });
  const signatureOfStatement = sign(preAuthEncoding(statementPayloadType, statement));
  return {
    path,
    staging,
    predicate,
    archive: new Uint8Array(readFileSync(path)),
    sigstoreBundle: bareBundle({
      statement,
      signatureDer: signatureOfStatement,
      publicKeyPem: publicKeyPem(signer.public),
    }) as unknown,
    proofOfPossession: { subject, signatureDer: sign(fulcioChallenge(subject)) },
    publicKeyPem: pem,
    enrolment,
    manifest,
    packed,
    head,
  };
}

function collectors(
  custodyLog: string,
  log: Uint8Array,
  choices: SampleChoices,
  certificate: Uint8Array,
): Collector[] {
  const collector = (path: string, redact: boolean, gather: Collector['gather']): Collector => ({
    name: path,
    path,
    source: 'the sample',
    volatility: 'disk',
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
    collector(custodyPath, false, async () => readFileSync(custodyLog)),
    ...(choices.certificate === undefined
      ? []
      : [collector(certificatePath, false, async () => certificate)]),
    ...(choices.pastCertificates === undefined
      ? []
      : [collector(pastCertificatesPath, false, async () => choices.pastCertificates ?? '')]),
    ...(choices.withoutEventLog ? [] : [collector('evidence/eventlog.bin', false, async () => log)]),
    ...(choices.collectors ?? []),
  ];
}

const counter = (value: number) => new Writer().u64(BigInt(value)).done();
const same = <T>(value: T): T => value;
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
