// Verification over whole bundles, with the real appraisers: what is proven, what is not, and that nothing forged passes.
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countersign } from '../../src/attestation/countersign.ts';
import type { EnrolmentRecord } from '../../src/attestation/enrolment.ts';
import { acceptable, claimNames, notProven, type VerifyReport } from '../../src/forensics/claims.ts';
import type { Assurance, BundlePredicate } from '../../src/forensics/format.ts';
import { type VerifyInput, verifyBundle } from '../../src/forensics/verify.ts';
import { defaultVerifyPolicy } from '../../src/forensics/verify-policy.ts';
import { Failure } from '../../src/host/failure.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';
import { appraisers, caseKey, makeSample, type Sample, type SampleChoices, subject } from './sample.ts';

const bypassed: Assurance = { tpm: 'bypassed', sigstore: 'bypassed', standIns: [], notes: [] };
const scratch: string[] = [];
async function sampleOf(choices: SampleChoices = {}): Promise<Sample> {
  const directory = mkdtempSync(join(tmpdir(), 'ea-verify-'));
  scratch.push(directory);
  return await makeSample(directory, choices);
}
let plain: Sample;
let sigstore: LocalSigstore;
beforeAll(async () => {
  plain = await sampleOf();
  sigstore = await startSigstore();
});
afterAll(async () => {
  await sigstore.stop();
  for (const directory of scratch) rmSync(directory, { recursive: true, force: true });
});

function inputOf(
  sample: Sample,
  changes: Partial<VerifyInput<EnrolmentRecord>> = {},
): VerifyInput<EnrolmentRecord> {
  const { archive, sigstoreBundle, enrolment } = sample;
  const policy = defaultVerifyPolicy;
  return { archive, sigstoreBundle, enrolment, trustedRoot: null, policy, allowBypassed: false, ...changes };
}
const verify = (sample: Sample, changes: Partial<VerifyInput<EnrolmentRecord>> = {}) =>
  verifyBundle(inputOf(sample, changes), appraisers);
const of = (report: VerifyReport, name: string) => report.claims.find(({ claim }) => claim === name);
const unproven = (report: VerifyReport) =>
  report.claims.filter(({ result }) => result === 'not-proven').map(({ claim }) => claim);
const failures = (report: VerifyReport) =>
  report.claims.filter(({ result }) => result === 'failed').map(({ claim }) => claim);

describe('a bundle countersigned by every service', () => {
  it('is proven in every claim, and accepted', async () => {
    const sigstoreBundle = await countersign({
      bundle: plain.sigstoreBundle,
      publicKeyPem: plain.publicKeyPem,
      proofOfPossession: plain.proofOfPossession,
      services: { fulcio: sigstore.fulcio, rekor: sigstore.rekor, tsa: sigstore.tsa },
      identityToken: sigstore.identityToken(subject),
      timeoutMilliseconds: 5000,
    });
    const policy = { ...defaultVerifyPolicy, identity: { subject, issuer: sigstore.issuer } };
    const trustedRoot = sigstore.trustedRoot;
    const report = await verify(plain, {
      sigstoreBundle,
      trustedRoot,
      policy,
      knownHead: plain.head,
      caseKey,
    });
    expect(report.claims.filter(({ result }) => result !== 'proven')).toEqual([]);
    expect(report.verdict).toBe('proven');
    expect(report.claims.map(({ claim }) => claim)).toEqual([...claimNames]);
    expect(report.bundle).toEqual({
      node: 'alpha',
      sequence: 7,
      created: plain.manifest.created,
      reason: 'operator',
      assurance: plain.manifest.assurance,
    });
    expect(acceptable(report, policy, false)).toBe(true);
  });
});

describe('a pending bundle', () => {
  it('is incomplete in what the services would have testified and what the relying party did not bring', async () => {
    const report = await verify(plain);
    expect(unproven(report)).toEqual([
      'signer identity',
      'transparency',
      'time',
      'custody rollback',
      'redaction',
    ]);
    expect(report.verdict).toBe('incomplete');
  });

  it('is accepted only where the policy allows what is missing', async () => {
    const report = await verify(plain);
    const allowing = { ...defaultVerifyPolicy, mayBeUnproven: [...claimNames] };
    expect(acceptable(report, defaultVerifyPolicy, false)).toBe(false);
    expect(acceptable(report, { ...defaultVerifyPolicy, mayBeUnproven: ['time'] }, false)).toBe(false);
    expect(acceptable(report, allowing, false)).toBe(true);
    expect(acceptable(report, defaultVerifyPolicy, true)).toBe(true);
    const broken = await verify(plain, { archive: plain.archive.slice(0, -1) });
    expect(acceptable(broken, allowing, true)).toBe(false);
  });

  it('can be read as a stream, opened anew each time', async () => {
    const archive = () => createReadStream(plain.path, { highWaterMark: 100 });
    expect(await verify(plain, { archive })).toEqual(await verify(plain));
  });

  it('gives the same verdict every time', async () => {
    expect(await verify(plain)).toEqual(await verify(plain));
  });
});

describe('without an enrolment record', () => {
  it('nothing about the node is proven, and nothing has failed', async () => {
    const report = await verify(plain, { enrolment: null });
    expect(report.verdict).toBe('incomplete');
    for (const claim of ['archive integrity', 'signature', 'TPM identity', 'quote', 'PCR policy', 'clock']) {
      expect(unproven(report)).toContain(claim);
    }
  });
});

describe('a changed archive', () => {
  it('fails in archive integrity at every single byte', async () => {
    for (let at = 0; at < plain.archive.length; at += 1) {
      const archive = Uint8Array.from(plain.archive);
      archive[at] = (archive[at] ?? 0) ^ (1 << (at % 8));
      // With an enrolment it takes longer and comes to the same.
      const report = await verify(plain, { archive, ...(at % 16 === 0 ? {} : { enrolment: null }) });
      expect(report.verdict, `byte ${at}`).toBe('rejected');
      expect(of(report, 'archive integrity')?.result, `byte ${at}`).toBe('failed');
    }
  }, 60_000);

  it('is rejected even where nothing was signed, wherever the byte changes what is inside', async () => {
    const sample = await sampleOf({ assurance: bypassed });
    const unsigned = { sigstoreBundle: null, enrolment: null, allowBypassed: true };
    expect((await verify(sample, unsigned)).verdict).toBe('incomplete');
    let meaningless = 0;
    for (let at = 0; at < sample.archive.length; at += 1) {
      const archive = Uint8Array.from(sample.archive);
      archive[at] = (archive[at] ?? 0) ^ 1;
      const { verdict } = await verify(sample, { ...unsigned, archive });
      // Some bits of deflate mean nothing: the content is then the very same.
      if (verdict !== 'rejected') {
        expect(Buffer.compare(gunzipSync(archive), gunzipSync(sample.archive)), `byte ${at}`).toBe(0);
        meaningless += 1;
      }
    }
    expect(meaningless).toBeLessThan(sample.archive.length / 50);
  }, 60_000);

  it('is rejected when cut off, extended, empty or no archive at all', async () => {
    const { archive } = plain;
    const changed = [
      archive.slice(0, 100),
      Buffer.concat([archive, Buffer.alloc(1)]),
      Buffer.concat([archive, archive]),
      new Uint8Array(),
      Buffer.from('PK\u0003\u0004'),
    ];
    for (const bytes of changed) {
      const report = await verify(plain, { archive: bytes });
      expect(failures(report)).toContain('archive integrity');
      expect(report.verdict).toBe('rejected');
    }
  });
});

describe('a changed statement', () => {
  it('fails whatever kind of nonsense stands in its place', async () => {
    for (const nonsense of [
      {},
      [],
      7,
      'text',
      true,
      { mediaType: 'x' },
      { dsseEnvelope: { payload: '!' } },
    ]) {
      const report = await verify(plain, { sigstoreBundle: nonsense });
      expect(report.verdict, JSON.stringify(nonsense)).toBe('rejected');
      expect(of(report, 'signature')?.result).toBe('failed');
    }
  });

  it('cannot be left away to hide what it says', async () => {
    const report = await verify(plain, { sigstoreBundle: null });
    expect(report.verdict).toBe('rejected');
    expect(of(report, 'signature')?.detail).toMatch(/missing/);
  });

  it('of another bundle is rejected', async () => {
    const other = await sampleOf({ reason: 'another' });
    const report = await verify(plain, { sigstoreBundle: other.sigstoreBundle });
    expect(failures(report)).toEqual(
      expect.arrayContaining(['archive integrity', 'signature', 'quote', 'manifest']),
    );
  });

  it('is held against manifest and enrolment', async () => {
    const changing = async (predicate: (predicate: BundlePredicate) => BundlePredicate) =>
      failures(await verify(await sampleOf({ predicate })));
    expect(await changing((stated) => ({ ...stated, sequence: 8 }))).toEqual(['manifest']);
    expect(await changing((stated) => ({ ...stated, manifestDigest: { sha256: '0'.repeat(64) } }))).toEqual([
      'manifest',
    ]);
    expect(
      await changing((stated) => ({ ...stated, custodyHead: { sequence: 2, hash: '0'.repeat(64) } })),
    ).toEqual(['custody chain']);
    expect(
      await changing((stated) => ({
        ...stated,
        eventLog: { path: 'evidence/none', sha256: '0'.repeat(64) },
      })),
    ).toEqual(['event log']);
    expect(
      await changing((stated) => ({
        ...stated,
        clock: { clock: '999', resetCount: 2, restartCount: 3, safe: true },
      })),
    ).toEqual(['clock']);
    const { enrolment } = plain;
    // The record itself is signed too, by whoever enrolled the node.
    expect(failures(await verify(plain, { enrolment: { ...enrolment, node: 'beta' } }))).toEqual([
      'manifest',
      'TPM identity',
    ]);
  });

  it('without a quote proves nothing of the TPM', async () => {
    const report = await verify(await sampleOf({ predicate: (stated) => ({ ...stated, quote: null }) }));
    expect(of(report, 'quote')).toMatchObject({
      result: 'not-proven',
      detail: 'The bundle carries no quote.',
    });
    expect(of(report, 'archive integrity')?.result).toBe('proven');
  });

  it('with a quote that leaves out a PCR of the policy is rejected', async () => {
    const { enrolment } = plain;
    const { tpm } = enrolment;
    if (tpm === null) throw new Error('the sample has a TPM');
    const pcrPolicy = { ...tpm.pcrPolicy, pcrs: { ...tpm.pcrPolicy.pcrs, '9': '0'.repeat(64) } };
    const report = await verify(plain, { enrolment: { ...enrolment, tpm: { ...tpm, pcrPolicy } } });
    expect(of(report, 'quote')).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/leaves out PCR 9/),
    });
  });
});

describe('a statement that is not proven to be signed', () => {
  const unbound = ['archive integrity', 'manifest', 'TPM identity', 'custody chain', 'sequence', 'redaction'];
  const withoutQuote = () => sampleOf({ predicate: (stated) => ({ ...stated, quote: null }) });
  const nobody = notProven('Nobody signed it.');
  /** The appraisers, but the signature comes to nothing. */
  const unsigned: typeof appraisers = {
    ...appraisers,
    sigstore: async (evidence) => {
      const { statement, claims } = await appraisers.sigstore(evidence);
      return { statement, claims: { ...claims, signature: nobody } };
    },
  };

  it('proves nothing of what leans on it, however well it agrees', async () => {
    const sample = await withoutQuote();
    const known = { caseKey, knownHead: sample.head };
    const signed = await verify(sample, known);
    const report = await verifyBundle(inputOf(sample, known), unsigned);
    expect(failures(report)).toEqual([]);
    for (const claim of unbound) {
      expect(of(signed, claim)?.result, claim).toBe('proven');
      expect(of(report, claim)?.result, claim).toBe('not-proven');
    }
    expect(of(report, 'manifest')?.detail).toMatch(/not proven that anybody signed/);
    // The relying party brought the head itself.
    expect(of(report, 'custody rollback')?.result).toBe('proven');
  });

  it('is bound by the quote over the archive as well', async () => {
    const report = await verifyBundle(inputOf(plain, { caseKey }), unsigned);
    for (const claim of unbound) expect(of(report, claim)?.result, claim).toBe('proven');
  });
});

describe('another node', () => {
  it('cannot pass its bundle off as that of the enrolled one', async () => {
    const other = await sampleOf();
    const report = await verify(other, { enrolment: plain.enrolment });
    expect(failures(report)).toEqual(expect.arrayContaining(['signature', 'TPM identity', 'quote']));
  });
});

describe('PCR policy', () => {
  it('is broken when the firmware is not as enrolled', async () => {
    const { enrolment } = plain;
    if (enrolment.tpm === null) throw new Error('the sample has a TPM');
    const pcrs = { ...enrolment.tpm.pcrPolicy.pcrs, '7': 'ab'.repeat(32) };
    const tpm = { ...enrolment.tpm, pcrPolicy: { ...enrolment.tpm.pcrPolicy, pcrs } };
    const report = await verify(plain, { enrolment: { ...enrolment, tpm } });
    expect(of(report, 'PCR policy')).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/PCR 7 is not/),
    });
  });

  it.each<[string, NonNullable<SampleChoices['events']>]>([
    ['a lock', [['zeroized', { level: 'lock' }]]],
    ['a destroy', [['zeroized', { level: 'destroy' }]]],
    [
      'a purge that was deepened',
      [
        ['zeroized', { level: 'purge' }],
        ['zeroize-deepened', { from: 'purge', to: 'lock' }],
      ],
    ],
    ['a zeroize that was killed', [['zeroize-interrupted', { cause: 'link-flap' }]]],
  ])('takes %s in the custody log for the cause of a capped PCR', async (_, events) => {
    const report = await verify(await sampleOf({ capped: true, events }));
    expect(of(report, 'PCR policy')).toMatchObject({
      result: 'proven',
      detail: expect.stringMatching(`record ${events.length + 1} of the custody log`),
    });
  });

  it.each<[string, SampleChoices]>([
    ['nothing', {}],
    ['the reason alone', { reason: 'zeroize: unplanned flap of eth1' }],
    ['a purge', { events: [['zeroized', { level: 'purge' }]] }],
    ['a mere request', { events: [['zeroize-requested', { level: 'lock' }]] }],
    [
      'a zeroize before the node was armed anew',
      {
        events: [
          ['zeroized', { level: 'lock' }],
          ['re-armed', {}],
        ],
      },
    ],
  ])('does not take %s for the cause of a capped PCR', async (_, choices) => {
    const report = await verify(await sampleOf({ capped: true, ...choices }));
    expect(of(report, 'PCR policy')).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/tells of no zeroize/),
    });
  });
});

describe('stand-ins', () => {
  it('a simulator proves nothing of the TPM although its quote agrees', async () => {
    const assurance = { tpm: 'simulator' as const, sigstore: 'on' as const, standIns: ['swtpm'], notes: [] };
    const report = await verify(await sampleOf({ assurance }));
    expect(failures(report)).toEqual([]);
    expect(unproven(report)).toEqual(
      expect.arrayContaining(['TPM identity', 'quote', 'PCR policy', 'event log', 'clock']),
    );
    expect(of(report, 'TPM identity')?.detail).toMatch(/simulator/);
    expect(of(report, 'archive integrity')?.result).toBe('proven');
  });

  it('a node that calls its TPM hardware and wrote the record itself proves nothing of it either', async () => {
    const { endorsement, ...record } = plain.enrolment;
    if (endorsement === undefined) throw new Error('the record has no endorsement');
    const { activation: _activation, ...told } = endorsement;
    const created = new Date(Date.now() + 60_000).toISOString(); // The certificate is younger than the sample.
    for (const enrolment of [record, { ...record, created, endorsement: told }]) {
      const report = await verify(plain, { enrolment });
      expect(enrolment.assurance.tpm).toBe('hardware');
      expect(failures(report)).toEqual([]);
      expect(unproven(report)).toEqual(
        expect.arrayContaining(['TPM identity', 'quote', 'PCR policy', 'event log', 'clock']),
      );
      expect(of(report, 'signature')?.result).toBe('proven');
    }
  });

  it('a synthetic event log is not proven although it replays', async () => {
    const assurance = {
      tpm: 'hardware' as const,
      sigstore: 'on' as const,
      standIns: ['synthetic event log'],
      notes: [],
    };
    const report = await verify(await sampleOf({ assurance }));
    expect(of(report, 'event log')).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(/synthetic/),
    });
    expect(of(report, 'quote')?.result).toBe('proven');
  });

  it('a bundle without an event log says so', async () => {
    const report = await verify(await sampleOf({ withoutEventLog: true }));
    expect(of(report, 'event log')).toMatchObject({ result: 'not-proven' });
  });
});

describe('a bypass', () => {
  const assurance = bypassed;

  it('is rejected unless it is allowed, with the reason', async () => {
    const sample = await sampleOf({ assurance });
    const unsigned = { sigstoreBundle: null, enrolment: null };
    const refused = await verify(sample, unsigned);
    expect(refused.verdict).toBe('rejected');
    expect(failures(refused)).toEqual([]);
    expect(refused.reasons).toEqual([
      expect.stringMatching(/the TPM bypassed/),
      expect.stringMatching(/Sigstore bypassed/),
    ]);
    const allowed = await verify(sample, { ...unsigned, allowBypassed: true });
    expect(allowed.verdict).toBe('incomplete');
    expect(acceptable(allowed, defaultVerifyPolicy, true)).toBe(true);
    expect(of(allowed, 'custody chain')?.result).toBe('not-proven');
    expect(of(allowed, 'quote')?.detail).toMatch(/bypassed/);
  });

  it('that only the enrolment admits counts as well', async () => {
    const enrolment: EnrolmentRecord = {
      ...plain.enrolment,
      assurance,
      tpm: null,
      signingKey: { publicKey: plain.publicKeyPem },
    };
    const report = await verify(plain, { enrolment });
    expect(report.verdict).toBe('rejected');
    expect(report.reasons).toHaveLength(2);
    expect(of(report, 'signature')?.result).toBe('proven');
    expect(of(report, 'TPM identity')?.result).toBe('not-proven');
  });
});

describe('custody and sequence', () => {
  it('a known head that is gone shows a rollback', async () => {
    const cut = await verify(plain, { knownHead: { sequence: 9, hash: '0'.repeat(64) } });
    expect(of(cut, 'custody rollback')?.result).toBe('failed');
    const enrolled = { ...plain.enrolment, custodyHead: { sequence: 1, hash: 'f'.repeat(64) } };
    expect(of(await verify(plain, { enrolment: enrolled }), 'custody rollback')?.result).toBe('failed');
  });

  it('an enrolled head beyond the log is a rollback, unless the record is younger than the bundle', async () => {
    const custodyHead = { sequence: 9, hash: 'f'.repeat(64) };
    const rollback = async (createdThen: string) => {
      const enrolment = { ...plain.enrolment, custodyHead, created: createdThen };
      return of(await verify(plain, { enrolment }), 'custody rollback');
    };
    expect(await rollback('2026-11-20T16:29:59Z')).toMatchObject({ result: 'failed' });
    expect(await rollback('2026-11-20T16:30:00Z')).toMatchObject({ result: 'failed' });
    expect(await rollback('2026-11-20T17:30:00.5+01:00')).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(/younger/),
    });
  });

  it('a number that was seen before, or that the log did not give out, fails', async () => {
    expect(of(await verify(plain), 'sequence')).toMatchObject({ result: 'proven' });
    expect(of(await verify(plain, { previousSequence: 7 }), 'sequence')?.result).toBe('failed');
    const other = await sampleOf({ counted: 9, manifest: (manifest) => ({ ...manifest, sequence: 9 }) });
    expect(of(await verify(other), 'sequence')).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/began bundle 7/),
    });
  });
});

describe('the sequence', () => {
  it.each([
    [[3, 6, 7], 'proven', /each number once/],
    [[7, 7], 'not-proven', /twice/],
    [[8, 7], 'failed', /go back/],
    [['x', 7], 'failed', /go back/],
    [[6], 'failed', /began bundle 6/],
    [[], 'not-proven', /Only one bundle/],
  ])('that the custody log tells as %j is %s', async (begun, result, detail) => {
    const report = await verify(await sampleOf({ begun }));
    expect(of(report, 'sequence')).toMatchObject({ result, detail: expect.stringMatching(detail) });
  });

  it('above the last that was seen is proven without the log', async () => {
    const report = await verify(await sampleOf({ begun: [] }), { previousSequence: 6 });
    expect(of(report, 'sequence')).toMatchObject({
      result: 'proven',
      detail: expect.stringMatching(/above 6/),
    });
  });
});

describe('what the relying party brings', () => {
  it('is its own to correct: a trusted root that is none is a usage failure, not a verdict', async () => {
    await expect(verify(plain, { trustedRoot: { not: 'a root' } })).rejects.toMatchObject({ status: 2 });
  });

  it('is judged where it cannot be read, and only an identity that is none is a usage failure', async () => {
    const unreadable = (error: Error) => () => {
      async function* nothing(): AsyncGenerator<Uint8Array> {
        yield await Promise.reject(error);
      }
      return nothing();
    };
    const denied = await verify(plain, { archive: unreadable(new Error('EACCES: permission denied')) });
    expect(of(denied, 'archive integrity')).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/^EACCES/),
    });
    const usage = new Failure('identity-invalid', 'no identity', { status: 2 });
    await expect(verify(plain, { archive: unreadable(usage) })).rejects.toBe(usage);
  });

  it('but an enrolled key that is none makes the signature fail', async () => {
    const { tpm } = plain.enrolment;
    if (tpm === null) throw new Error('the sample has a TPM');
    const signingKey = { ...tpm.signingKey, publicKey: 'no key' };
    const report = await verify(plain, { enrolment: { ...plain.enrolment, tpm: { ...tpm, signingKey } } });
    expect(of(report, 'signature')?.result).toBe('failed');
    expect(report.verdict).toBe('rejected');
  });
});

describe('redaction', () => {
  it('agrees with its records under the key of the case', async () => {
    const report = await verify(plain, { caseKey });
    expect(of(report, 'redaction')).toMatchObject({
      result: 'proven',
      detail: expect.stringMatching(/All 4 redactions in 1 files/),
    });
    expect(of(await verify(plain, { caseKey: Buffer.alloc(32) }), 'redaction')?.result).toBe('failed');
  });

  it('that did not happen is not proven', async () => {
    const report = await verify(await sampleOf({ redact: false }), { caseKey });
    expect(of(report, 'redaction')).toMatchObject({ result: 'not-proven', detail: 'Nothing was redacted.' });
  });

  it('of the custody log is refused', async () => {
    const manifest: SampleChoices['manifest'] = (made) => ({
      ...made,
      files: made.files.map((file) =>
        file.path.startsWith('custody/')
          ? { ...file, redactions: [{ rule: 'ipv4-address', count: 1 }] }
          : file,
      ),
    });
    const report = await verify(await sampleOf({ manifest }), { caseKey });
    expect(failures(report)).toEqual(expect.arrayContaining(['custody chain', 'redaction']));
  });
});

describe('a manifest that does not tell the truth', () => {
  const changing = async (manifest: SampleChoices['manifest']) =>
    of(await verify(await sampleOf(manifest === undefined ? {} : { manifest })), 'manifest');

  it('about a file is found out', async () => {
    const wrongHash = await changing((made) => ({
      ...made,
      files: made.files.map((file) => ({ ...file, sha256: '0'.repeat(64) })),
    }));
    expect(wrongHash).toMatchObject({ result: 'failed', detail: expect.stringMatching(/SHA-256 of/) });
    const wrongSize = await changing((made) => ({
      ...made,
      files: made.files.map((file) => ({ ...file, size: file.size + 1 })),
    }));
    expect(wrongSize).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/bytes, the manifest says/),
    });
  });

  it('about which bundle it is in is found out', async () => {
    const sample = await sampleOf({ manifest: (made) => ({ ...made, node: 'beta' }) });
    expect(of(await verify(sample), 'manifest')?.result).toBe('failed');
  });
});
