// Evidence between two nodes with real simulators: what a verifier believes, and that nothing exchanged, replayed or edited passes.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { appraiseAnswer, appraiseNewIdentity, challengeFor } from '../../src/attestation/admission.ts';
import {
  type AttestEvidence,
  type AttestRequest,
  parseAnswer,
  parseChallenge,
  parseEvidence,
  parseRequest,
  quotedDigest,
} from '../../src/attestation/documents.ts';
import type { EnrolmentRecord } from '../../src/attestation/enrolment.ts';
import type { EnrolmentTrust } from '../../src/attestation/enrolment-appraisal.ts';
import {
  type AttestClaimName,
  type AttestInput,
  type AttestReport,
  appraiseEvidence,
  appraiseNewcomer,
  type Known,
} from '../../src/attestation/evidence-appraisal.ts';
import { proven } from '../../src/attestation/verdict.ts';
import { Failure } from '../../src/host/failure.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { AttestedNode, askedPcrs, enrol } from './attested-node.ts';
import { type Issued, Maker } from './ek-authority.ts';
import { type Enroller, makeEnroller } from './endorsed.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-attest-'));
const maker = new Maker(directory);
/** After the certificates that the tests make. */
const now = new Date(Date.now() + 60_000);
let root: Issued;
let stranger: Issued;
let alpha: AttestedNode;
let beta: AttestedNode;
let enroller: Enroller;
let trust: EnrolmentTrust;
let record: EnrolmentRecord;
let evidence: AttestEvidence;
const request = requestOf('a1');

beforeAll(async () => {
  root = await maker.authority('maker');
  stranger = await maker.authority('stranger');
  alpha = await AttestedNode.make(join(directory, 'alpha'), 'alpha', maker, root);
  beta = await AttestedNode.make(join(directory, 'beta'), 'beta', maker, root);
  enroller = makeEnroller();
  trust = { pinned: [root.pem], enrollers: [enroller.publicKey] };
  ({ record } = await enrol(alpha, requestOf('e0'), { ...trust, enroller, at: now }));
  evidence = await alpha.evidence(request);
});
afterAll(async () => {
  await alpha?.[Symbol.asyncDispose]();
  await beta?.[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

function requestOf(nonce: string, changes: Partial<AttestRequest> = {}): AttestRequest {
  return {
    format: 'esoteric-appliance-attest-request/1',
    nonce: nonce.repeat(32),
    pcrs: askedPcrs,
    created: new Date(now.getTime() - 5000).toISOString(),
    ...changes,
  };
}

const inputOf = (text: string, changes: Partial<AttestInput> = {}): AttestInput => ({
  ...parseEvidence(text),
  request,
  at: now,
  maxAge: 600,
  ...changes,
});
const appraise = (
  shown: AttestEvidence,
  changes: Partial<AttestInput> = {},
  known: Partial<Known> = {},
): AttestReport => appraiseEvidence(inputOf(JSON.stringify(shown), changes), { record, trust, ...known });
const of = (report: AttestReport, name: AttestClaimName) => report.claims.find(({ claim }) => claim === name);
const failures = (report: AttestReport) =>
  report.claims.filter(({ result }) => result === 'failed').map(({ claim }) => claim);
const unproven = (report: AttestReport) =>
  report.claims.filter(({ result }) => result === 'not-proven').map(({ claim }) => claim);

describe('enrolment', () => {
  it('proves a TPM that a pinned maker certified and that answers the challenge', async () => {
    const { report, admission } = await enrol(alpha, requestOf('e1'), { ...trust, enroller, at: now });
    expect(report.verdict).toBe('proven');
    expect(report.claims.map(({ claim }) => claim)).toEqual([
      ...['freshness', 'quote', 'TPM identity', 'signing key', 'PCR policy', 'event log'],
    ]);
    expect(admission).toMatchObject({ tpm: 'hardware', notes: [] });
    expect(record.assurance.tpm).toBe('hardware');
    expect(record.endorsement?.activation).toMatchObject({
      by: 'auditor',
      kind: 'ecc',
      at: now.toISOString(),
    });
    expect(record.tpm).toMatchObject({ clock: expect.stringMatching(/^\d+$/) });
  });

  it('takes a TPM that says that it is a simulator for one, although all else holds', async () => {
    const told = { simulator: true };
    const {
      report,
      admission,
      record: kept,
    } = await enrol(alpha, requestOf('e2'), { ...trust, enroller, at: now }, told);
    expect(report.verdict).toBe('incomplete');
    expect(admission.tpm).toBe('simulator');
    expect(kept.assurance).toMatchObject({
      tpm: 'simulator',
      notes: [expect.stringContaining('says that it is a simulator')],
    });
    const later = appraise(await alpha.evidence(request), {}, { record: kept });
    expect(failures(later)).toEqual([]);
    expect(unproven(later)).toEqual(expect.arrayContaining(['TPM identity', 'quote', 'PCR policy']));
  });

  it('believes a simulator that lies no further than a pinned maker vouches for it', async () => {
    const by = { enroller, at: now, pinned: [stranger.pem] };
    const { report, admission } = await enrol(alpha, requestOf('e3'), by);
    expect(failures(report)).toEqual(['TPM identity']);
    expect(admission).toMatchObject({
      tpm: 'simulator',
      notes: [expect.stringContaining('not tied to its maker')],
    });
    const none = await enrol(alpha, requestOf('e4'), { ...by, pinned: [] });
    expect(none.report.verdict).toBe('incomplete');
    expect(none.admission.tpm).toBe('simulator');
  });

  it('fails under a maker’s certificate that has expired, and under a CA that has', async () => {
    const later = (days: number) => new Date(now.getTime() + days * 86_400_000);
    const enrolledIn = async (days: number) => {
      const asked = requestOf('e5', { created: later(days).toISOString() });
      const { report } = await enrol(alpha, asked, { ...trust, enroller, at: later(days) });
      return [failures(report), of(report, 'TPM identity')?.detail];
    };
    expect(await enrolledIn(1)).toEqual([[], expect.stringContaining('A pinned TPM maker certified')]);
    expect(await enrolledIn(400)).toEqual([['TPM identity'], 'The pinned CN=maker is not valid now.']);
    expect(await enrolledIn(4000)).toEqual([['TPM identity'], 'The certificate is not valid now.']);
  });

  it('is refused to a node that shows the certificate of another TPM: it cannot answer the challenge', async () => {
    const borrowed = { ...record.endorsement, keys: beta.record.endorsement?.keys ?? [], intermediates: [] };
    const shown = await alpha.evidence(request, {
      edit: (statement) => ({ ...statement, enrolment: { ...statement.enrolment, endorsement: borrowed } }),
    });
    const pins = { pinned: trust.pinned, at: now };
    const { challenge, expected } = challengeFor(shown, pins);
    // Neither TPM opens it: the one has not the endorsement key, the other not the attestation key.
    await expect(alpha.activate(challenge)).rejects.toMatchObject({ layer: 'tpm' });
    await expect(beta.activate(challenge)).rejects.toMatchObject({ layer: 'tpm' });
    const guessed = {
      format: 'esoteric-appliance-attest-answer/1',
      nonce: request.nonce,
      secret: 'AAAA',
    } as const;
    const activation = appraiseAnswer(shown, guessed, expected);
    expect(activation.result).toBe('failed');
    expect(appraiseNewIdentity(shown, pins, { kind: expected.kind, activation })).toMatchObject({
      result: 'failed',
      tpm: 'simulator',
    });
  });

  it('is of the key that was challenged, whatever else is certified or pinned by then', async () => {
    const own = record.endorsement?.keys[0];
    const theirs = beta.record.endorsement?.keys[0];
    if (own === undefined || theirs === undefined) throw new Error('no keys');
    const keys = [
      { ...own, certificate: null },
      { ...theirs, kind: 'rsa' as const },
    ];
    const shown = await alpha.evidence(request, {
      edit: (statement) => ({
        ...statement,
        enrolment: { ...statement.enrolment, endorsement: { keys, intermediates: [] } },
      }),
    });
    const activation = proven('The key without a certificate answered.');
    const admission = appraiseNewIdentity(
      shown,
      { pinned: trust.pinned, at: now },
      { kind: 'ecc', activation },
    );
    expect(admission).toMatchObject({ result: 'not-proven', tpm: 'simulator' });
    expect(admission.checks.endorsement?.detail).toContain('holds no endorsement key certificate');
  });

  it('takes no answer to another challenge', async () => {
    const { challenge, expected } = challengeFor(evidence, { pinned: trust.pinned, at: now });
    const answer = await alpha.activate(challenge);
    expect(appraiseAnswer(evidence, answer, expected).result).toBe('proven');
    expect(appraiseAnswer(evidence, { ...answer, nonce: 'b2'.repeat(32) }, expected).result).toBe('failed');
    const second = challengeFor(evidence, { pinned: trust.pinned, at: now });
    expect(appraiseAnswer(evidence, answer, second.expected).result).toBe('failed');
  });

  it('is refused to a node that is locked, and not proven of one whose boot nothing measured', async () => {
    const policy = (pcrs: Record<string, string>) =>
      alpha.evidence(request, {
        edit: ({ enrolment, ...statement }) => ({
          ...statement,
          enrolment: {
            ...enrolment,
            tpm: enrolment.tpm && { ...enrolment.tpm, pcrPolicy: { bank: 'sha256', pcrs } },
          },
        }),
      });
    const newcomer = async (pcrs: Record<string, string>) =>
      of(
        appraiseNewcomer(inputOf(JSON.stringify(await policy(pcrs))), proven('It is genuine.')),
        'PCR policy',
      );
    expect(await newcomer({ '0': 'ab'.repeat(32), '14': 'cd'.repeat(32) })).toMatchObject({
      result: 'failed',
      detail: expect.stringContaining('PCR 14 is capped'),
    });
    expect(await newcomer({ '23': '00'.repeat(32) })).toMatchObject({ result: 'failed' });
    expect(await newcomer({ '6': 'ab'.repeat(32), '0': 'ab'.repeat(32) })).toMatchObject({
      result: 'proven',
    });
  });
});

describe('evidence of an enrolled node', () => {
  it('is proven in every claim', () => {
    const report = appraise(evidence);
    expect(report.claims.filter(({ result }) => result !== 'proven')).toEqual([]);
    expect(report).toMatchObject({ verdict: 'proven', node: 'alpha', eventLog: { findings: [] } });
    expect(Object.keys(report.pcrs)).toContain('sha256');
    expect(() => JSON.stringify(report)).not.toThrow();
  });

  it('proves nothing without a record, and nothing under a record that the node wrote itself', () => {
    const unknown = appraise(evidence, {}, { record: null });
    expect(failures(unknown)).toEqual([]);
    expect(unproven(unknown)).toContain('node');
    expect(unknown.claims.every(({ result }) => result === 'not-proven')).toBe(true);
    const own = appraise(evidence, {}, { record: alpha.record });
    expect(own.verdict).toBe('incomplete');
    expect(of(own, 'TPM identity')?.detail).toContain('Only the node itself says');
    expect(appraise(evidence, {}, { trust: { ...trust, enrollers: [] } }).verdict).toBe('incomplete');
  });

  it('is rejected when it was made for another request, or too long ago', async () => {
    const other = requestOf('b2');
    expect(failures(appraise(evidence, { request: other }))).toEqual(['freshness']);
    const made = new Date(now.getTime() - 601_000).toISOString();
    expect(of(appraise(evidence, { request: { ...request, created: made } }), 'freshness')?.detail).toContain(
      '601 seconds',
    );
    const future = new Date(now.getTime() + 1000).toISOString();
    expect(failures(appraise(evidence, { request: { ...request, created: future } }))).toEqual(['freshness']);
    // A nonce that is put into old evidence is not what was quoted.
    const renamed = { ...evidence, statement: { ...evidence.statement, nonce: other.nonce } };
    expect(failures(appraise(renamed, { request: other }))).toEqual(['quote']);
  });

  it('is rejected when it is of another node, whatever that calls itself', async () => {
    const theirs = await beta.evidence(request);
    expect(failures(appraise(theirs))).toContain('node');
    const posing = await beta.evidence(request, {
      edit: (statement) => ({ ...statement, enrolment: { ...alpha.record, tpm: statement.enrolment.tpm } }),
    });
    expect(failures(appraise(posing))).toEqual(['node']);
    // With alpha's keys in the statement, beta's TPM has not signed for them.
    const borrowed = await beta.evidence(request, {
      edit: (statement) => ({ ...statement, enrolment: alpha.record }),
    });
    expect(failures(appraise(borrowed))).toEqual(['quote']);
    const renamed = await alpha.evidence(request, {
      edit: (statement) => ({ ...statement, enrolment: { ...statement.enrolment, node: 'gamma' } }),
    });
    expect(failures(appraise(renamed))).toEqual(['node']);
  });

  it('is rejected with PCRs too few or too many, and in other banks than were quoted', async () => {
    for (const pcrs of [askedPcrs.slice(1), [...askedPcrs, 16], [7]]) {
      expect(failures(appraise(await alpha.evidence(request, { pcrs })))).toContain('quote');
    }
    expect(failures(appraise(await alpha.evidence(request, { banks: ['sha1'] })))).toContain('quote');
    const two = await alpha.evidence(request, { banks: ['sha256', 'sha1'] });
    expect(appraise(two).verdict).toBe('proven');
    const { sha256, sha1 } = two.quote.pcrs;
    if (sha1 === undefined) throw new Error('SHA-1 was not quoted');
    const left = { ...two, quote: { ...two.quote, pcrs: { sha256 } } };
    expect(of(appraise(left), 'quote')?.detail).toContain('selects the banks');
    const added = { ...two, quote: { ...two.quote, pcrs: { sha256, sha1, sha384: sha256 } } };
    expect(failures(appraise(added))).toContain('quote');
  });

  it('is rejected when a PCR of the policy changed, or the cap was set', async () => {
    await using tpm = await openTpm({ tcti: beta.swtpm.tcti });
    const by = { ...trust, enroller, at: now };
    await tpm.close();
    const { record: kept } = await enrol(beta, requestOf('e6'), by);
    const changed = async (pcr: number) => {
      await using again = await openTpm({ tcti: beta.swtpm.tcti });
      await again.pcrExtend(pcr, { sha256: new Uint8Array(32).fill(pcr) });
      await again.close();
      return appraise(await beta.evidence(request), {}, { record: kept });
    };
    expect(of(appraise(await beta.evidence(request), {}, { record: kept }), 'PCR policy')?.result).toBe(
      'proven',
    );
    const capped = await changed(14);
    expect(failures(capped)).toEqual(['PCR policy']);
    expect(of(capped, 'PCR policy')?.detail).toContain('PCR 14 is capped');
    expect(failures(await changed(7))).toEqual(['PCR policy', 'event log']);
  });

  it('only goes forward in time', () => {
    const told = appraise(evidence).clock;
    if (told === null) throw new Error('no clock');
    const { clock, resetCount, restartCount } = told;
    const seen = (lastSeen: Known['lastSeen']) =>
      of(appraise(evidence, {}, lastSeen === undefined ? {} : { lastSeen }), 'clock')?.result;
    expect(seen({ clock, resetCount, restartCount })).toBe('proven');
    expect(seen({ clock: String(BigInt(clock) + 1n), resetCount, restartCount })).toBe('failed');
    expect(seen({ clock, resetCount: resetCount + 1, restartCount: 0 })).toBe('failed');
    expect(seen({ clock, resetCount, restartCount: restartCount + 1 })).toBe('failed');
  });

  it('proves no clock where the TPM calls its own unsafe, and rejects nothing for it', async () => {
    alpha.swtpm.kill();
    await alpha.swtpm.restart();
    const report = appraise(
      await alpha.evidence(request, { edit: (statement) => ({ ...statement, eventLog: null }) }),
    );
    expect(report.clock?.safe).toBe(false);
    expect(of(report, 'clock')).toMatchObject({
      result: 'not-proven',
      detail: expect.stringContaining('not safe'),
    });
    expect(of(report, 'quote')?.result).toBe('proven');
    expect(failures(report)).toEqual(['PCR policy']); // Nothing measured this boot.
  });
});

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Paths of all leaves of a JSON document. */
function* leaves(
  value: unknown,
  path: readonly (string | number)[] = [],
): Generator<readonly (string | number)[]> {
  if (typeof value !== 'object' || value === null) yield path;
  else
    for (const [key, member] of Object.entries(value))
      yield* leaves(member, [...path, Array.isArray(value) ? Number(key) : key]);
}

function changedAt(document: unknown, [key, ...rest]: readonly (string | number)[]): unknown {
  if (key === undefined) return changed(document);
  const copy = structuredClone(document) as Record<string | number, unknown>;
  copy[key] = changedAt(copy[key], rest);
  return copy;
}

/** Another value of the same kind, in a form that the schema takes where there is one. */
function changed(value: unknown): unknown {
  if (typeof value === 'boolean') return !value;
  if (typeof value === 'number') return value === 14 ? 13 : value + 1;
  if (value === null) return 'x';
  const text = String(value);
  if (/^\d{4}-\d\d-\d\dT/.test(text)) return text.replace(/^\d{4}/, '2020');
  const at = Math.floor(text.length / 2);
  const swapped = text[at] === 'a' ? 'b' : 'a';
  return `${text.slice(0, at)}${swapped}${text.slice(at + 1)}`;
}

describe('evidence in which one member was changed', () => {
  it('is never accepted, whichever member it is', () => {
    const text = JSON.stringify(evidence);
    let tried = 0;
    for (const path of leaves(evidence)) {
      const edited = JSON.stringify(changedAt(evidence, path));
      expect(edited, path.join('.')).not.toBe(text);
      tried += 1;
      let parsed: AttestInput;
      try {
        parsed = inputOf(edited);
      } catch (error) {
        expect(error, path.join('.')).toBeInstanceOf(Failure);
        expect((error as Failure).status).toBe(3);
        continue;
      }
      const report = appraiseEvidence(parsed, { record, trust });
      expect([path.join('.'), report.verdict]).toEqual([path.join('.'), 'rejected']);
    }
    expect(tried).toBeGreaterThan(60);
  });

  it('is never accepted either after any other edit of its text', () => {
    const text = JSON.stringify(evidence);
    const verdictOf = (edited: string): string => {
      try {
        return appraiseEvidence(inputOf(edited), { record, trust }).verdict;
      } catch (error) {
        if (error instanceof Failure && error.status === 3) return 'rejected';
        throw error;
      }
    };
    const edit = fc.tuple(fc.nat(text.length - 1), fc.nat(20), fc.string({ maxLength: 8 }));
    fc.assert(
      fc.property(edit, ([at, removed, put]) => {
        const edited = text.slice(0, at) + put + text.slice(at + removed);
        fc.pre(!isDeepStrictEqual(jsonOf(edited), evidence));
        expect(verdictOf(edited)).toBe('rejected');
      }),
      { numRuns: 300 },
    );
  });

  it('is refused with members that nobody knows outside of the record, and bound to those within it', async () => {
    const parse = (document: object) => () => parseEvidence(JSON.stringify(document));
    expect(parse({ ...evidence, more: 1 })).toThrow(/not valid/);
    expect(parse({ ...evidence, statement: { ...evidence.statement, more: 1 } })).toThrow(/not valid/);
    const later = { ...evidence.statement, enrolment: { ...evidence.statement.enrolment, more: 1 } };
    expect(failures(appraise({ ...evidence, statement: later }))).toEqual(['quote']);
    const quoted = await beta.evidence(request, {
      edit: (statement) => ({
        ...statement,
        enrolment: { ...statement.enrolment, more: 1 } as EnrolmentRecord,
      }),
    });
    expect(appraise(quoted).claims.find(({ claim }) => claim === 'quote')?.result).toBe('proven');
  });
});

describe('the documents', () => {
  const parsers = [parseRequest, parseEvidence, parseChallenge, parseAnswer];
  const refusal = (work: () => unknown): string => {
    try {
      work();
    } catch (thrown) {
      if (thrown instanceof Failure && /^attest-.*-invalid$/.test(thrown.code)) return thrown.message;
      throw thrown;
    }
    return 'accepted';
  };

  it('are read back as they were written', () => {
    expect(parseRequest(JSON.stringify(request))).toEqual(request);
    expect(parseEvidence(JSON.stringify(evidence))).toEqual({
      evidence,
      digest: quotedDigest(evidence.statement),
    });
    const { challenge } = challengeFor(evidence, { pinned: [], at: now });
    expect(parseChallenge(JSON.stringify(challenge))).toEqual(challenge);
  });

  it('are refused with a failure, never with a crash, whatever the text', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.json(), fc.constantFrom('', 'null', '[]', '{"format":1}')),
        (text) => {
          for (const parse of parsers) expect(refusal(() => parse(text))).toMatch(/is not valid/);
        },
      ),
      { numRuns: 300 },
    );
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const within = JSON.stringify(evidence).replace('"role"', `"deep":${deep},"role"`);
    expect(refusal(() => parseEvidence(deep))).toMatch(/is not valid/);
    expect(refusal(() => parseEvidence(within))).toMatch(/is not valid|accepted/); // Covered by the quote, as any member.
    expect(refusal(() => parseEvidence('x'.repeat((8 << 20) + 1)))).toContain('longer than');
    expect(refusal(() => parseAnswer(`"${'x'.repeat(1 << 16)}"`))).toContain('longer than');
  });

  it('ask for PCRs that exist, in order, once each', () => {
    for (const pcrs of [[], [24], [-1], [1, 0], [1, 1], [0.5]]) {
      expect(refusal(() => parseRequest(JSON.stringify({ ...request, pcrs })))).toContain('pcrs');
    }
  });

  it('are quoted by a digest that no bundle has: the nonce is not the qualifying data', () => {
    const nonce = Buffer.from(request.nonce, 'hex');
    expect(Buffer.from(evidence.quote.attest, 'base64').includes(nonce)).toBe(false);
    expect(quotedDigest(evidence.statement)).toHaveLength(32);
  });
});
