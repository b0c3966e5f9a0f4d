import { generateKeyPairSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Failure } from '../../src/host/failure.ts';
import {
  approvalRequest,
  checkApproval,
  concernsAbout,
  type Expectation,
  signApproval,
} from '../../src/keys/approval.ts';
import {
  type Approval,
  type ApprovalRequest,
  parseApproval,
  parseApprovalRequest,
} from '../../src/keys/approval-format.ts';
import { approvalMessage, fingerprintOf, policyRefOf, signRecovery } from '../../src/keys/policy.ts';
import { marshalNvPublic } from '../../src/tpm/nv-public.ts';
import { policySignedMessage } from '../../src/tpm/session.ts';

const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = authority.publicKey.export({ type: 'spki', format: 'pem' }).toString();
const created = new Date('2026-11-20T00:00:00Z');
const keys = [
  { name: 'wg0', purpose: 'wireguard' },
  { name: 'seed', purpose: 'seed' },
];
const area = {
  index: 0x01800010,
  kind: 'counter',
  attributes: ['ownerWrite', 'ownerRead', 'noDA', 'written'],
  authPolicy: new Uint8Array(),
  byteLength: 8,
} as const;
const counterPublic = marshalNvPublic(area);
const pcrs = new Map([0, 7, 14].map((pcr) => [pcr, new Uint8Array(32).fill(pcr === 14 ? 0 : pcr + 1)]));
const rules = { requiredPcrs: [0, 7, 14], created };

const request: ApprovalRequest = approvalRequest({
  node: 'alpha',
  keys,
  pcrs,
  counter: 5n,
  counterPublic,
  created,
});
const approval: Approval = signApproval(request, authority.privateKey, rules);
const expected: Expectation = { node: 'alpha', signer: pem, keys, counterPublic, counter: 5n, pcrs };

const refusal = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof Failure) return error.code;
    throw error;
  }
  return 'accepted';
};

describe('an approval', () => {
  it('answers a request key by key, and reads the same after it was written', () => {
    expect(parseApprovalRequest(JSON.stringify(request))).toEqual(request);
    expect(parseApproval(JSON.stringify(approval))).toEqual(approval);
    expect(approval).toMatchObject({
      node: 'alpha',
      counter: '5',
      signer: fingerprintOf(pem),
      pcrs: request.pcrs,
    });
    expect(new Set(approval.keys.map(({ policyRef }) => policyRef)).size).toBe(2);
    expect(refusal(() => checkApproval(approval, expected))).toBe('accepted');
  });

  const otherCounter = marshalNvPublic({ ...area, index: 0x01800011 });
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const changed = (change: Partial<Approval>): Approval => ({ ...approval, ...change });
  const firstKey = approval.keys[0] as Approval['keys'][number];
  const firstKeyChanged = (change: object) =>
    changed({ keys: [{ ...firstKey, ...change }, ...approval.keys.slice(1)] });
  const otherValue = { ...approval.pcrs.values, 7: '00'.repeat(32) };

  it.each<[string, Approval, Partial<Expectation>, string]>([
    ['for another node', approval, { node: 'beta' }, 'approval-foreign'],
    ['renamed to this node', changed({ node: 'beta' }), { node: 'beta' }, 'approval-forged'],
    ['by another signer', signApproval(request, stranger.privateKey, rules), {}, 'approval-unknown-signer'],
    [
      'by another signer under this one’s name',
      { ...signApproval(request, stranger.privateKey, rules), signer: fingerprintOf(pem) },
      {},
      'approval-forged',
    ],
    ['for another counter', approval, { counterPublic: otherCounter }, 'approval-other-counter'],
    ['for an old value of the counter', approval, { counter: 6n }, 'approval-stale'],
    ['moved to another value of the counter', changed({ counter: '6' }), { counter: 6n }, 'approval-forged'],
    [
      'with another PCR value',
      changed({ pcrs: { bank: 'sha256', values: otherValue } }),
      {},
      'approval-forged',
    ],
    ['with another purpose', firstKeyChanged({ purpose: 'macsec' }), {}, 'approval-forged'],
    [
      'with the signature of another key',
      firstKeyChanged({ signature: approval.keys[1]?.signature }),
      {},
      'approval-forged',
    ],
    ['with a signature of garbage', firstKeyChanged({ signature: 'AAAA' }), {}, 'approval-forged'],
    ['that leaves a key out', changed({ keys: [firstKey] }), {}, 'approval-incomplete'],
    [
      'for other PCRs than there are',
      approval,
      { pcrs: new Map(pcrs).set(7, new Uint8Array(32)) },
      'approval-pcrs',
    ],
    ['for PCRs that cannot be read', approval, { pcrs: new Map() }, 'approval-pcrs'],
  ])('%s is refused', (_, document, change, code) => {
    expect(refusal(() => checkApproval(document, { ...expected, ...change }))).toBe(code);
  });

  it('is refused in words for one PCR and for several, with what to do on a node that was never zeroized', () => {
    const without = (...numbers: number[]) => ({
      ...expected,
      pcrs: new Map(
        [...pcrs].map(([pcr, value]) => [pcr, numbers.includes(pcr) ? new Uint8Array(32) : value]),
      ),
    });
    expect(() => checkApproval(approval, without(7))).toThrow('PCR 7 is not as it was approved.');
    expect(() => checkApproval(approval, without(0, 7))).toThrow('PCR 0, 7 are not as they were approved.');
    expect(() => checkApproval(approval, without(7))).toThrow(
      expect.objectContaining({ remedy: expect.stringContaining('provision --approval APPROVAL`') }),
    );
  });

  it('is not signed for a state that would not hold a lock', () => {
    const ask = (change: object) =>
      refusal(() =>
        signApproval(
          approvalRequest({ node: 'alpha', keys, pcrs, counter: 5n, counterPublic, created, ...change }),
          authority.privateKey,
          rules,
        ),
      );
    expect(ask({})).toBe('accepted');
    expect(ask({ pcrs: new Map([...pcrs].slice(0, 2)) })).toBe('approval-unsafe');
    expect(ask({ pcrs: new Map(pcrs).set(3, new Uint8Array(32)) })).toBe('approval-unsafe');
    expect(ask({ counterPublic: marshalNvPublic({ ...area, kind: 'ordinary' }) })).toBe('approval-unsafe');
    expect(ask({ counterPublic: marshalNvPublic({ ...area, attributes: ['ownerRead'] }) })).toBe(
      'approval-unsafe',
    );
    expect(ask({ counterPublic: new Uint8Array(3) })).toBe('tpm-wire-truncated');
  });

  it('comes with what the signer should look at twice', () => {
    expect(concernsAbout(request, 14)).toEqual([]);
    const odd = new Map(pcrs)
      .set(0, new Uint8Array(32))
      .set(7, new Uint8Array(32).fill(0xff))
      .set(14, new Uint8Array(32).fill(1));
    const concerns = concernsAbout(
      approvalRequest({ node: 'alpha', keys, pcrs: odd, counter: 5n, counterPublic, created }),
      14,
    );
    expect(concerns).toHaveLength(3);
    expect(concerns.join(' ')).toMatch(/PCR 0 has never.*PCR 7 has never.*PCR 14 is capped/);
  });

  it.each([
    ['not JSON', 'approval', 'is not JSON'],
    ['of another format', JSON.stringify(request), 'format'],
    [
      'with a counter that is no number',
      JSON.stringify({ ...approval, counter: '1Z' }),
      'counter: expected a decimal number',
    ],
    [
      'with a counter beyond 64 bits',
      JSON.stringify({ ...approval, counter: '18446744073709551616' }),
      'counter: expected a number of 64 bits',
    ],
    [
      'with a PCR that does not exist',
      JSON.stringify({ ...approval, pcrs: { bank: 'sha256', values: { 24: '00'.repeat(32) } } }),
      'pcrs.values',
    ],
    ['without keys', JSON.stringify({ ...approval, keys: [] }), 'keys'],
    ['that is too long', ' '.repeat((1 << 20) + 1), 'longer than'],
  ])('%s is told what is wrong with it', (_, json, words) => {
    expect(() => parseApproval(json)).toThrow(
      expect.objectContaining({ code: 'approval-invalid', message: expect.stringContaining(words) }),
    );
  });

  it('whose text is changed anywhere is refused or means the same', () => {
    const json = JSON.stringify(approval);
    fc.assert(
      fc.property(fc.nat(json.length - 1), fc.constantFrom(...'0a9Z}"'), (at, character) => {
        const text = json.slice(0, at) + character + json.slice(at + 1);
        let parsed: Approval;
        try {
          parsed = parseApproval(text);
        } catch (error) {
          expect((error as Failure).code).toBe('approval-invalid');
          return;
        }
        if (refusal(() => checkApproval(parsed, expected)) !== 'accepted') return;
        expect({ ...parsed, created: '' }).toEqual({ ...approval, created: '' });
      }),
      { numRuns: 400 },
    );
  });
});

describe('a message for the recovery key', () => {
  const key = { node: 'alpha', name: 'wg0', purpose: 'wireguard' };
  const nonce = new Uint8Array(32).fill(9);
  const message = policySignedMessage(nonce, policyRefOf(key));

  it('is signed for the key it opens and for no other', () => {
    expect(signRecovery(message, key, authority.privateKey).length).toBeGreaterThan(60);
    for (const other of [
      { ...key, node: 'beta' },
      { ...key, purpose: 'macsec' },
      { ...key, name: 'wg1' },
    ]) {
      expect(refusal(() => signRecovery(message, other, authority.privateKey))).toBe('recovery-foreign');
    }
  });

  it('is not signed when it is longer, shorter, limited in time, or an approval in disguise', () => {
    const disguised = approvalMessage(new Uint8Array(32), policyRefOf(key));
    const limited = Uint8Array.from(message);
    limited[35] = 1;
    for (const other of [
      Buffer.concat([message, nonce]),
      message.subarray(1),
      new Uint8Array(),
      limited,
      disguised,
    ]) {
      expect(refusal(() => signRecovery(other, key, authority.privateKey))).toBe('recovery-foreign');
    }
  });
});
