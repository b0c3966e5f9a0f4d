// What the TPM's counters, its custody head and a zeroize certificate add to a verdict, and what is said when they do not fit.
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import canonicalize from 'canonicalize';
import { afterAll, describe, expect, it } from 'vitest';
import type { Appraisal } from '../../src/forensics/claims.ts';
import type { BundlePredicate } from '../../src/forensics/format.ts';
import { verifyBundle } from '../../src/forensics/verify.ts';
import { defaultVerifyPolicy } from '../../src/forensics/verify-policy.ts';
import {
  appraisers,
  beginHistory,
  type CertificateChoices,
  makeSample,
  type Sample,
  type SampleChoices,
} from './sample.ts';

const scratch: string[] = [];
afterAll(() => {
  for (const directory of scratch) rmSync(directory, { recursive: true, force: true });
});
async function sampleOf(choices: SampleChoices = {}): Promise<Sample> {
  const directory = mkdtempSync(join(tmpdir(), 'ea-verify-nv-'));
  scratch.push(directory);
  return await makeSample(directory, choices);
}

async function claimOf(
  name: string,
  { archive, sigstoreBundle, enrolment }: Sample,
  changed: Partial<Sample> = {},
): Promise<Appraisal> {
  const report = await verifyBundle(
    {
      archive,
      sigstoreBundle,
      enrolment,
      trustedRoot: null,
      policy: defaultVerifyPolicy,
      allowBypassed: false,
      ...changed,
    },
    appraisers,
  );
  const claim = report.claims.find((one) => one.claim === name);
  if (claim === undefined) throw new Error(`no claim ${name}`);
  return claim;
}

type Nv = NonNullable<BundlePredicate['nv']>;
/** A predicate whose certifications are changed, and signed all the same. */
const withNv = (change: (nv: Nv) => Nv) => ({
  predicate: (predicate: BundlePredicate): BundlePredicate => {
    if (predicate.nv == null) throw new Error('the sample certifies its indices');
    return { ...predicate, nv: change(predicate.nv) };
  },
});

describe('the bundle counter', () => {
  it('stands at the number of the bundle', async () => {
    expect(await claimOf('sequence', await sampleOf())).toMatchObject({
      result: 'proven',
      detail: expect.stringContaining('The TPM’s counter stood at it.'),
    });
  });

  it.each([6, 8])('contradicts a bundle of number 7 when it stands at %i', async (counted) => {
    expect(await claimOf('sequence', await sampleOf({ counted }))).toMatchObject({
      result: 'failed',
      detail: expect.stringContaining(`the TPM’s counter stood at ${counted}`),
    });
  });

  it('may be behind where the custody log says that the TPM did not count, and never ahead', async () => {
    const events = [['sequence-uncounted', { sequence: 6 }]] as const;
    expect(await claimOf('sequence', await sampleOf({ counted: 6, events }))).toMatchObject({
      result: 'not-proven',
    });
    expect(await claimOf('sequence', await sampleOf({ counted: 8, events }))).toMatchObject({
      result: 'failed',
    });
  });

  it('is not another index, and not one over another archive', async () => {
    const swapped = await sampleOf(withNv((nv) => ({ ...nv, sequence: nv.armed })));
    expect(await claimOf('sequence', swapped)).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/not the counter of the node/),
    });
    const other = await sampleOf({ reason: 'another' });
    const borrowed = await sampleOf(
      withNv((nv) => ({ ...nv, sequence: { ...nv.sequence, attest: attestOf(other) } })),
    );
    expect(await claimOf('sequence', borrowed)).toMatchObject({ result: 'failed' });
  });

  it('says nothing where the node was enrolled without it', async () => {
    const sample = await sampleOf();
    const { tpm } = sample.enrolment;
    if (tpm === null) throw new Error('the sample has a TPM');
    const { nv: _nv, ...without } = tpm;
    const older = { ...sample.enrolment, tpm: without };
    const detail = expect.not.stringContaining('counter');
    expect(await claimOf('sequence', sample, { enrolment: older })).toMatchObject({
      result: 'proven',
      detail,
    });
  });

  it('is missed, with the custody head, where the node was enrolled with them: nobody gets rid of them by leaving them out', async () => {
    for (const nv of [null, undefined]) {
      const silent = await sampleOf({ predicate: (predicate) => ({ ...predicate, nv }) });
      const found = [];
      for (const claim of ['custody chain', 'sequence', 'zeroize'] as const)
        found.push(await claimOf(claim, silent));
      expect(found).toMatchObject([
        { result: 'not-proven', detail: expect.stringContaining('does not say what the TPM was told of it') },
        { result: 'not-proven', detail: expect.stringContaining('not proven to be the whole history') },
        { result: 'not-proven' },
      ]);
    }
  });
});

describe('the custody head in the TPM', () => {
  it('has followed the log up to this bundle', async () => {
    expect(await claimOf('custody chain', await sampleOf())).toMatchObject({
      result: 'proven',
      detail: expect.stringContaining('The TPM was told of it up to record 2.'),
    });
  });

  it('is not what it was when an earlier bundle was made', async () => {
    const history = beginHistory(mkdtempSync(join(tmpdir(), 'ea-verify-nv-')));
    scratch.push(dirname(history.custody));
    const { nv: earlier } = (await sampleOf({ history, sequence: 7 })).predicate;
    const replayed = withNv((nv) => ({ ...nv, custody: earlier?.custody ?? nv.custody }));
    expect(
      await claimOf('custody chain', await sampleOf({ history, sequence: 8, ...replayed })),
    ).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(/told of it up to record 2\. But .* here record 4\./),
    });
  });

  it('contradicts a log of which it was told another history', async () => {
    const forged = await sampleOf({ events: [['stopped', {}]] });
    const genuine = await sampleOf();
    const contradicted = await sampleOf(
      withNv((nv) => ({ ...nv, custody: { ...nv.custody, attest: custodyOf(forged) } })),
    );
    expect((await claimOf('custody chain', contradicted)).result).toBe('failed');
    expect((await claimOf('zeroize', contradicted)).result).toBe('not-proven');
    expect((await claimOf('custody chain', genuine)).result).toBe('proven');
  });
});

describe('a zeroize', () => {
  const certified = (certificate: CertificateChoices, more: SampleChoices = {}) =>
    sampleOf({ capped: true, events: [['zeroized', { level: 'lock' }]], certificate, ...more });

  it('is not needed: a log that tells of none is enough', async () => {
    expect(await claimOf('zeroize', await sampleOf())).toMatchObject({
      result: 'proven',
      detail: expect.stringMatching(/no zeroize since/),
    });
    const over = await sampleOf({
      events: [
        ['zeroized', { level: 'lock' }],
        ['re-armed', {}],
      ],
    });
    expect(await claimOf('zeroize', over)).toMatchObject({ result: 'proven' });
  });

  it('that the log tells of wants a certificate', async () => {
    const sample = await sampleOf({ capped: true, events: [['zeroized', { level: 'lock' }]] });
    expect(await claimOf('zeroize', sample)).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(/record 2.*no certificate/),
    });
  });

  it('is proven by the capped PCR and the armed counter, and calls the rest the node’s word', async () => {
    expect(await claimOf('zeroize', await certified({}))).toMatchObject({
      result: 'proven',
      detail: expect.stringMatching(/PCR 14 was capped and the armed counter stood at 4.*the node’s word/),
    });
  });

  it.each<[string, CertificateChoices, Appraisal['result'], RegExp]>([
    ['of another node', { node: 'beta' }, 'failed', /of node beta/],
    ['that the log does not tell of', { untold: true }, 'failed', /tells of no zeroize certificate/],
    ['over another digest', { foreign: true }, 'failed', /qualifying data/],
    ['with the PCR open', { cap: '0'.repeat(64) }, 'failed', /PCR 14 was not capped/],
    ['that the TPM did not sign', { unsigned: true }, 'not-proven', /did not sign/],
  ])('has no certificate %s', async (_, choices, result, detail) => {
    expect(await claimOf('zeroize', await certified(choices))).toMatchObject({
      result,
      detail: expect.stringMatching(detail),
    });
  });

  it.each<readonly [event: string, detail: Record<string, unknown>]>([
    ['zeroize-deepened', { from: 'lock', to: 'destroy' }],
    ['zeroize-finished', { level: 'destroy' }],
    ['zeroize-certified', { sha256: '00'.repeat(32) }],
    ['re-armed', {}],
    ['zeroized', { level: 'lock' }],
  ])('is not of what came after it: %s', async (event, detail) => {
    const claim = await claimOf('zeroize', await certified({}, { since: [[event, detail]] }));
    expect(claim).toMatchObject({
      result: 'not-proven',
      detail: expect.stringContaining(`tells of ${event} (record 4)`),
    });
  });

  it('is rejected where its signature is bad, also when it is an older one', async () => {
    const claim = await claimOf('zeroize', await certified({ foreign: true }, { since: [['re-armed', {}]] }));
    expect(claim).toMatchObject({ result: 'failed', detail: expect.stringMatching(/qualifying data/) });
  });

  it('leaves a certificate for later bundles, of which the custody log must tell', async () => {
    const asserted = { format: 'esoteric-appliance-zeroize/1', node: 'alpha', level: 'lock' };
    const sha256 = createHash('sha256')
      .update(canonicalize(asserted) ?? '')
      .digest('hex');
    const pastCertificates = `${JSON.stringify({ asserted, proven: null })}\n`;
    const told: SampleChoices['events'] = [
      ['zeroized', { level: 'lock' }],
      ['zeroize-certified', { sha256 }],
      ['re-armed', {}],
    ];
    const claim = async (choices: SampleChoices) => claimOf('zeroize', await sampleOf(choices));
    expect(await claim({ pastCertificates, events: told })).toMatchObject({ result: 'proven' });
    expect(await claim({ pastCertificates })).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/^Line 1 of the earlier .* does not tell/),
    });
    const garbage = `${pastCertificates}{}\n`;
    expect(await claim({ pastCertificates: garbage, events: told })).toMatchObject({
      result: 'failed',
      detail: expect.stringMatching(/^Line 2 of the earlier .* cannot be read/),
    });
  });

  it('may come before it is told that the zeroize had been interrupted', async () => {
    const claim = await claimOf('zeroize', await certified({}, { since: [['zeroize-interrupted', {}]] }));
    expect(claim).toMatchObject({ result: 'proven' });
  });

  it('to purge caps nothing', async () => {
    const purge = await certified(
      { level: 'purge', cap: '0'.repeat(64) },
      { capped: false, events: [['zeroized', { level: 'purge' }]] },
    );
    expect(await claimOf('zeroize', purge)).toMatchObject({
      result: 'proven',
      detail: expect.not.stringContaining('PCR'),
    });
  });

  it('is proven by nothing that a simulator signs', async () => {
    const simulator = await certified(
      {},
      { assurance: { tpm: 'simulator', sigstore: 'on', standIns: ['swtpm'], notes: [] } },
    );
    expect(await claimOf('zeroize', simulator)).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(/simulator/),
    });
  });
});

const statementOf = ({ sigstoreBundle }: Sample) => {
  const { payload } = (sigstoreBundle as { dsseEnvelope: { payload: string } }).dsseEnvelope;
  return JSON.parse(Buffer.from(payload, 'base64').toString()) as { predicate: { nv: Nv } };
};
const attestOf = (sample: Sample): string => statementOf(sample).predicate.nv.sequence.attest;
const custodyOf = (sample: Sample): string => statementOf(sample).predicate.nv.custody.attest;
