// Appraisal: evidence of a real simulator is proven, and nothing that differs from it by one bit, key, PCR or purpose is.
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  appraiseCertification,
  appraiseQuote,
  compareClock,
  type QuoteEvidence,
} from '../../src/attestation/appraisal.ts';
import { signingKeyQualifyingData } from '../../src/attestation/enrolment.ts';
import { parseEventLog } from '../../src/attestation/eventlog.ts';
import { appraiseEventLog } from '../../src/attestation/eventlog-appraisal.ts';
import { nameOf, type ObjectAttribute } from '../../src/tpm/structures.ts';
import { syntheticEventLog } from '../lab/eventlog.ts';
import {
  attestationAttributes,
  ecdsaSignature,
  type ForgedKey,
  forgeCertification,
  forgeKey,
  forgeQuote,
  type QuoteChoices,
} from './forged-evidence.ts';
import { makeRealEvidence, quotedPcrs, type RealEvidence, type SignedAttest } from './real-evidence.ts';

let real: RealEvidence;
beforeAll(async () => {
  real = await makeRealEvidence();
}, 20_000);

const quoteEvidence = (changes: Partial<QuoteEvidence> = {}): QuoteEvidence => ({
  ...real.quote,
  akPublic: real.ak.public,
  expectedQualifyingData: real.qualifyingData,
  pcrValues: real.pcrValues,
  requiredPcrs: quotedPcrs,
  ...changes,
});

const certificationEvidence = (changes: Partial<SignedAttest> = {}) => ({
  ...real.certification,
  akPublic: real.ak.public,
  certifiedPublic: real.signingKey.public,
  expectedQualifyingData: signingKeyQualifyingData,
  ...changes,
});

/** Each byte with one bit flipped, each byte inverted, and each shorter prefix. */
function* damaged(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1) {
    for (const flipped of [1 << (at % 8), 0xff]) {
      const copy = new Uint8Array(bytes);
      copy[at] = (copy[at] ?? 0) ^ flipped;
      yield copy;
    }
    yield bytes.subarray(0, at);
  }
}

describe('a quote of a real TPM', () => {
  it('is proven, check by check, and tells the clock', () => {
    const appraisal = appraiseQuote(quoteEvidence());
    expect(appraisal.result).toBe('proven');
    expect(Object.keys(appraisal.checks)).toEqual([
      ...[
        'attestation key',
        'structure',
        'signature',
        'signer',
        'qualifying data',
        'selection',
        'PCR values',
      ],
    ]);
    for (const check of Object.values(appraisal.checks)) expect(check.result).toBe('proven');
    expect(appraisal.clock).toMatchObject({ safe: true, restartCount: 0 });
  });

  it('is proven whatever the order of required PCRs and the case of hexadecimal digits', () => {
    const upper = Object.fromEntries(
      Object.entries(real.pcrValues).map(([pcr, hex]) => [pcr, hex.toUpperCase()]),
    );
    expect(appraiseQuote(quoteEvidence({ pcrValues: upper })).result).toBe('proven');
    expect(appraiseQuote(quoteEvidence({ requiredPcrs: quotedPcrs.toReversed() })).result).toBe('proven');
  });

  it('is never proven after any changed byte or cut of the attestation or the signature', () => {
    let tried = 0;
    for (const attest of damaged(real.quote.attest)) {
      expect(appraiseQuote(quoteEvidence({ attest })).result).toBe('failed');
      tried += 1;
    }
    for (const signature of damaged(real.quote.signature)) {
      expect(appraiseQuote(quoteEvidence({ signature })).result).toBe('failed');
      tried += 1;
    }
    expect(tried).toBe((real.quote.attest.length + real.quote.signature.length) * 3);
  }, 30_000);

  it('is never proven by an attestation key that differs in a byte', () => {
    for (const akPublic of damaged(real.ak.public)) {
      expect(appraiseQuote(quoteEvidence({ akPublic })).result).toBe('failed');
    }
  }, 30_000);

  const failing = (changes: Partial<QuoteEvidence>): string[] =>
    Object.entries(appraiseQuote(quoteEvidence(changes)).checks)
      .filter(([, { result }]) => result === 'failed')
      .map(([name]) => name);

  it('fails for other qualifying data, a part of it, or none', () => {
    const other = new Uint8Array(32).fill(0xa4);
    expect(failing({ expectedQualifyingData: other })).toEqual(['qualifying data']);
    expect(failing({ expectedQualifyingData: real.qualifyingData.subarray(1) })).toEqual(['qualifying data']);
    expect(failing({ expectedQualifyingData: new Uint8Array() })).toEqual(['qualifying data']);
  });

  it('fails for a PCR too many, one too few, and values that are not of the selection', () => {
    const { '14': capped = '', ...firmware } = real.pcrValues;
    expect(failing({ requiredPcrs: [...quotedPcrs, 16] })).toEqual(['selection']);
    expect(failing({ requiredPcrs: quotedPcrs.slice(1) })).toEqual(['selection']);
    expect(failing({ requiredPcrs: [] })).toEqual(['selection']);
    expect(failing({ pcrValues: { ...real.pcrValues, '16': capped } })).toEqual(['selection']);
    expect(failing({ pcrValues: firmware })).toEqual(['selection', 'PCR values']);
    expect(failing({ pcrValues: { ...firmware, '014': capped } })).toEqual(['selection', 'PCR values']);
    expect(failing({ ...real.twoBankQuote })).toEqual(['selection', 'PCR values']);
  });

  it('fails for any other PCR value, and for what is not a value', () => {
    for (const pcr of quotedPcrs) {
      const value = real.pcrValues[pcr] ?? '';
      const other = value.replace(/^./, (digit) => ((Number.parseInt(digit, 16) + 1) % 16).toString(16));
      expect(failing({ pcrValues: { ...real.pcrValues, [pcr]: other } })).toEqual(['PCR values']);
      for (const broken of ['', value.slice(2), `${value}00`, `0x${value.slice(2)}`]) {
        expect(failing({ pcrValues: { ...real.pcrValues, [pcr]: broken } })).toEqual(['PCR values']);
      }
    }
  });

  it('fails for another key of the same TPM, and for a certification shown as a quote', () => {
    expect(failing({ akPublic: real.signingKey.public })).toEqual(['attestation key', 'signature', 'signer']);
    const { checks, result } = appraiseQuote(quoteEvidence({ ...real.certification }));
    expect(result).toBe('failed');
    expect(checks.structure?.result).toBe('failed');
    expect(checks['PCR values']?.result).toBe('not-proven');
  });
});

describe('the clocks of two quotes', () => {
  it('of one TPM go forward', () => {
    const earlier = appraiseQuote(quoteEvidence()).clock;
    const later = appraiseQuote(quoteEvidence({ ...real.laterQuote })).clock;
    expect(earlier).not.toBeNull();
    expect(later).not.toBeNull();
    if (earlier === null || later === null) return;
    expect(compareClock(earlier, later).result).toBe('proven');
    expect(compareClock({ ...later, clock: later.clock + 1n }, earlier).result).toBe('failed');
  });
});

describe('a quote made in software', () => {
  const qualifyingData = new Uint8Array(32).fill(1);
  const value = (fill: number) => new Uint8Array(32).fill(fill);
  const pcrValues = { '0': '00'.repeat(32), '7': '07'.repeat(32) };

  const appraiseForged = (
    changes: Partial<QuoteChoices> = {},
    key: ForgedKey = forgeKey(),
    signature?: (attest: Uint8Array) => Uint8Array,
  ) => {
    const selections = [[0x000b, [0, 7]]] as const;
    const values = [value(0), value(7)];
    const attest = forgeQuote({ qualifyingData, selections, values, akPublic: key.public, ...changes });
    return appraiseQuote({
      attest,
      signature: (signature ?? key.sign)(attest),
      akPublic: key.public,
      expectedQualifyingData: qualifyingData,
      pcrValues,
      requiredPcrs: [0, 7],
    });
  };

  it('is like a real one when it claims everything, so that the refusals below have one cause each', () => {
    const appraisal = appraiseForged();
    expect(appraisal.result).toBe('proven');
    expect(appraisal.clock).toEqual({ clock: 1000n, resetCount: 2, restartCount: 3, safe: true });
  });

  it('fails for every attribute that an attestation key must have', () => {
    for (const missing of ['restricted', 'sign', 'fixedTPM', 'fixedParent', 'sensitiveDataOrigin'] as const) {
      const attributes = attestationAttributes.filter((name) => name !== missing);
      const { result, detail } = appraiseForged({}, forgeKey({ attributes }));
      expect([result, detail]).toEqual(['failed', `The attestation key is not ${missing}.`]);
    }
    const attributes: ObjectAttribute[] = [...attestationAttributes, 'decrypt'];
    expect(appraiseForged({}, forgeKey({ attributes })).detail).toContain('decrypt');
  });

  it('fails for weak hashes in the name, the scheme, the bank or the signature', () => {
    expect(appraiseForged({}, forgeKey({ nameAlg: 0x0004 })).detail).toContain('SHA-1');
    expect(appraiseForged({}, forgeKey({ schemeHash: 0x0004 })).detail).toContain(
      'not bound to ECDSA with SHA-256',
    );
    expect(appraiseForged({ selections: [[0x0004, [0, 7]]] }).checks.selection?.result).toBe('failed');
    const key = forgeKey();
    const relabelled = (attest: Uint8Array) => {
      const signature = key.sign(attest);
      return ecdsaSignature(signature.subarray(6, 38), signature.subarray(40), 0x0004);
    };
    expect(appraiseForged({}, key, relabelled).detail).toContain('over sha1');
  });

  it('fails for a selection made of several parts, even when they add up', () => {
    const parts = [
      [0x000b, [0]],
      [0x000b, [7]],
    ] as const;
    const appraisal = appraiseForged({ selections: parts });
    expect(appraisal.checks['PCR values']?.result).toBe('proven');
    expect(appraisal.result).toBe('failed');
  });

  it('fails for another magic, and for the signature of another key', () => {
    expect(appraiseForged({ magic: 0xff544346 }).detail).toContain('magic');
    const stranger = forgeKey();
    expect(appraiseForged({}, forgeKey(), stranger.sign).checks.signature?.result).toBe('failed');
    expect(appraiseForged({ akPublic: stranger.public }).checks.signer?.result).toBe('failed');
  });

  it('never throws and is never proven, whatever the bytes', () => {
    const bytes = fc.uint8Array({ maxLength: 160 });
    fc.assert(
      fc.property(bytes, bytes, bytes, bytes, (attest, signature, akPublic, expectedQualifyingData) => {
        const evidence = { attest, signature, akPublic, expectedQualifyingData };
        expect(appraiseQuote({ ...evidence, pcrValues, requiredPcrs: [0, 7] }).result).toBe('failed');
        expect(appraiseCertification({ ...evidence, certifiedPublic: akPublic }).result).toBe('failed');
        expect(appraiseEventLog({ log: attest, pcrValues }).result).not.toBe('proven');
      }),
      { numRuns: 500 },
    );
  });
});

describe('a certification', () => {
  it('of a real TPM is proven, check by check', () => {
    const appraisal = appraiseCertification(certificationEvidence());
    expect(appraisal.result).toBe('proven');
    for (const check of Object.values(appraisal.checks)) expect(check.result).toBe('proven');
  });

  it('is never proven after any changed byte or cut of attestation, signature or certified key', () => {
    for (const attest of damaged(real.certification.attest)) {
      expect(appraiseCertification(certificationEvidence({ attest })).result).toBe('failed');
    }
    for (const signature of damaged(real.certification.signature)) {
      expect(appraiseCertification(certificationEvidence({ signature })).result).toBe('failed');
    }
    for (const certifiedPublic of damaged(real.signingKey.public)) {
      expect(appraiseCertification({ ...certificationEvidence(), certifiedPublic }).result).toBe('failed');
    }
  }, 30_000);

  it('fails for another key, other qualifying data, and a quote in its place', () => {
    const another = { ...certificationEvidence(), certifiedPublic: real.ak.public };
    expect(appraiseCertification(another).checks.name?.detail).toContain('another key');
    const elsewhere = { ...certificationEvidence(), expectedQualifyingData: real.qualifyingData };
    expect(appraiseCertification(elsewhere).checks['qualifying data']?.result).toBe('failed');
    expect(appraiseCertification(certificationEvidence(real.quote)).checks.structure?.result).toBe('failed');
  });

  it('fails for a signing key that was made outside the TPM or may leave it', () => {
    const ak = forgeKey();
    for (const missing of ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin'] as const) {
      const attributes = (['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'sign'] as const).filter(
        (name) => name !== missing,
      );
      const key = forgeKey({ attributes });
      const attest = forgeCertification(nameOf(key.public), signingKeyQualifyingData, ak.public);
      const { detail, checks } = appraiseCertification({
        attest,
        signature: ak.sign(attest),
        akPublic: ak.public,
        certifiedPublic: key.public,
        expectedQualifyingData: signingKeyQualifyingData,
      });
      expect(detail).toBe(`The signing key is not ${missing}.`);
      expect(checks.name?.result).toBe('proven');
    }
  });
});

describe('an event log', () => {
  const { log } = syntheticEventLog();
  const appraise = (changes: Record<string, string> = {}, bytes = log) =>
    appraiseEventLog({ log: bytes, pcrValues: { ...real.pcrValues, ...changes } });

  it('explains the firmware PCRs of the TPM and says what was extended later', () => {
    const appraisal = appraise();
    expect(appraisal).toMatchObject({
      result: 'proven',
      explained: [0, 1, 2, 3, 4, 5, 6, 7],
      unexplained: [14],
    });
    expect(appraisal.detail).toContain('PCR 14 was extended beyond the log');
    expect(appraise({ '14': '0'.repeat(64) })).toMatchObject({ result: 'proven', unexplained: [] });
  });

  it('fails when one of its digests differs, or a firmware PCR does', () => {
    const copy = Buffer.from(log);
    for (const { pcr, type, digests } of parseEventLog(copy).events) {
      const digest = digests.sha256; // a view into the copy
      if (type === 3 || digest === undefined) continue;
      digest[pcr] = (digest[pcr] ?? 0) ^ 1;
      expect(appraise({}, copy)).toMatchObject({ result: 'failed', unexplained: [pcr, 14] });
      digest[pcr] = (digest[pcr] ?? 0) ^ 1;
    }
    expect(appraise({}, copy).result).toBe('proven');
    expect(appraise({ '7': '0'.repeat(64) })).toMatchObject({ result: 'failed', unexplained: [7, 14] });
    expect(appraise({ '07': real.pcrValues[7] ?? '' }).detail).toBe('`07` is not the number of a PCR.');
  });

  it('fails when malformed or without the bank', () => {
    expect(appraise({}, log.subarray(0, -1))).toMatchObject({ result: 'failed', explained: [] });
    expect(appraiseEventLog({ log, pcrValues: real.pcrValues, bank: 'sha384' }).detail).toContain(
      'no sha384 digests',
    );
  });

  it('proves nothing where nothing was measured', () => {
    const bootless = log.subarray(0, 32 + 46);
    const zero = '0'.repeat(64);
    const appraisal = appraiseEventLog({ log: bootless, pcrValues: { '0': zero, '7': zero } });
    expect(appraisal.result).toBe('not-proven');
    expect(appraisal.detail).toContain('no measured boot');
    expect(appraiseEventLog({ log, pcrValues: {} }).result).toBe('not-proven');
    expect(appraiseEventLog({ log, pcrValues: { '14': zero } }).detail).toContain('No PCR of the firmware');
  });
});

it('a PCR digest is SHA-256 over the values in ascending order of PCR', () => {
  const digest = createHash('sha256');
  for (const pcr of quotedPcrs) digest.update(Buffer.from(real.pcrValues[pcr] ?? '', 'hex'));
  expect(Buffer.from(real.quote.attest).includes(digest.digest())).toBe(true);
});
