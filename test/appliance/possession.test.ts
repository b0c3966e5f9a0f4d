// Which of the node's proofs serves to have a bundle countersigned.
import { generateKeyPairSync, sign } from 'node:crypto';
import { expect, it } from 'vitest';
import { possessionFor } from '../../src/appliance/possession.ts';
import { fulcioChallenge } from '../../src/attestation/dsse.ts';

const now = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const before = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const proof = (subject: string, { privateKey } = now) => ({
  subject,
  signature: sign('sha256', fulcioChallenge(subject), privateKey).toString('base64'),
});
const identity = 'ops@example.org';
const own = proof(identity);
const asked = { identity, publicKeyPem: now.publicKey.export({ type: 'spki', format: 'pem' }).toString() };
const jobs = (...proofs: (typeof own | null)[]) => proofs.map((each) => ({ proofOfPossession: each }));

it.each([
  ['its own', own, jobs(proof(identity)), own],
  ['one that came with another bundle', null, jobs(null, proof('dev@example.org'), own), own],
  ['that of the identity which is configured now', proof('dev@example.org'), jobs(own), own],
  ['none by a key that the node had before', null, jobs(proof(identity, before)), null],
  ['none where no other came', null, jobs(null), null],
])('is %s', (_which, proofOfPossession, others, expected) => {
  expect(possessionFor({ proofOfPossession }, asked, () => others)).toEqual(expected);
});

it('is its own where no identity is configured for the courier, and the others are not looked at', () => {
  const others = () => expect.unreachable();
  expect(possessionFor({ proofOfPossession: own }, { ...asked, identity: '' }, others)).toEqual(own);
  expect(possessionFor({ proofOfPossession: own }, asked, others)).toEqual(own);
});
