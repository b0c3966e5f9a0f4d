// Enrolment, on the relying party's side: the endorsement key is judged, a challenge is made that only its TPM can answer while it
// holds the attestation key, and what follows is the record that the relying party keeps (RFC 9334, section 3; TPM 2.0 Library,
// Part 1, section 24). Pure but for the challenge's randomness.
import type { KeyObject } from 'node:crypto';
import { nameOf } from '../tpm/structures.ts';
import { signActivation } from './activation.ts';
import { answers, makeCredential, newChallenge } from './credential.ts';
import type { AttestAnswer, AttestChallenge, AttestEvidence } from './documents.ts';
import { appraiseKey, bestKey, type KeyAppraisal, keyOfKind, type Pins, tpmKindOf } from './endorsement.ts';
import type { Endorsement } from './endorsement-format.ts';
import type { EnrolmentRecord } from './enrolment.ts';
import { type Appraisal, conclude, failed, notProven, proven } from './verdict.ts';

/** What the verifier keeps to itself until the answer is there. */
export interface Expected {
  readonly kind: AttestChallenge['kind'];
  readonly secret: Uint8Array;
}

/**
 * A challenge for the best endorsement key of the evidence, made for the attestation key in it.
 * @throws Failure `endorsement-key-unsuitable`, `tpm-structure-invalid`; RangeError without an endorsement or a TPM.
 */
export function challengeFor(
  { statement }: AttestEvidence,
  pins: Pins,
): { readonly challenge: AttestChallenge; readonly expected: Expected } {
  const { endorsement, tpm } = statement.enrolment;
  if (endorsement === undefined || tpm === null)
    throw new RangeError('There is no endorsement key to challenge.');
  const { key } = bestKey(endorsement, pins);
  const secret = newChallenge();
  const credential = makeCredential(bytes(key.public), nameOf(bytes(tpm.ak.public)), secret);
  return {
    challenge: {
      format: 'esoteric-appliance-attest-challenge/1',
      nonce: statement.nonce,
      kind: key.kind,
      idObject: base64(credential.idObject),
      encryptedSecret: base64(credential.encryptedSecret),
    },
    expected: { kind: key.kind, secret },
  };
}

/** Whether the TPM of the endorsement key holds the attestation key. */
export function appraiseAnswer(
  evidence: AttestEvidence,
  answer: AttestAnswer,
  expected: Expected,
): Appraisal {
  if (answer.nonce !== evidence.statement.nonce) return failed('The answer is to another challenge.');
  return answers(expected.secret, bytes(answer.secret))
    ? proven('The TPM of the endorsement key holds the attestation key: it activated the credential.')
    : failed('The credential was not activated: the answer is not what was hidden in the challenge.');
}

export interface Admission extends Appraisal {
  readonly tpm: 'hardware' | 'simulator';
  readonly notes: readonly string[];
  readonly checks: Readonly<Record<string, Appraisal>>;
}

/**
 * The TPM's identity as it stands: before the challenge, by the endorsement key that would be challenged; after it, by the one that
 * was, whatever is pinned by then: an activation says nothing about the node's other keys.
 */
export function appraiseNewIdentity(
  { statement }: AttestEvidence,
  pins: Pins,
  challenged?: { readonly kind: AttestChallenge['kind']; readonly activation: Appraisal },
): Admission {
  const { endorsement, assurance } = statement.enrolment;
  const judged = endorsement === undefined ? undefined : judgedKey(endorsement, pins, challenged?.kind);
  if (judged === undefined) {
    const none = notProven('The node names no endorsement key of its TPM: provision it again.');
    return { ...none, tpm: 'simulator', notes: [], checks: { endorsement: none } };
  }
  const { key, result, detail } = judged;
  const chain = { result, detail };
  const activation = challenged?.activation ?? notProven('The TPM has not been challenged yet.');
  const simulator = statement.simulator || assurance.standIns.includes('swtpm');
  const kind = tpmKindOf({ simulator, chain, activation, certificate: key.certificate });
  const genuine =
    kind.tpm === 'hardware' || chain.result !== 'proven' || activation.result !== 'proven'
      ? proven('Nothing says that the TPM is a simulator.')
      : notProven(`No more is proven than of a simulator: ${kind.notes.join('; ')}.`);
  const whole = conclude(
    { endorsement: chain, activation, TPM: genuine },
    'A pinned TPM maker certified the endorsement key, and its TPM holds the attestation key.',
  );
  return { ...whole, ...kind };
}

function judgedKey(
  endorsement: Endorsement,
  pins: Pins,
  kind: AttestChallenge['kind'] | undefined,
): KeyAppraisal | undefined {
  if (kind === undefined) return bestKey(endorsement, pins);
  const key = keyOfKind(endorsement, kind);
  return key === undefined ? undefined : appraiseKey(endorsement, key, pins);
}

/** Notes of a node about its own TPM; those of the relying party take their place. */
const ownTie = /^the (?:TPM|attestation key) was not tied to/;

/**
 * The record that the relying party keeps, signed by it. Reference values are those that were quoted; what is in the record beside
 * them is what the node says of itself, such as its name, its role and the public halves of its link keys.
 */
export function admit(
  { statement, quote }: AttestEvidence,
  admission: Admission,
  word: { readonly by: string; readonly at: string; readonly kind: AttestChallenge['kind'] },
  clock: {
    readonly clock: string;
    readonly resetCount: number;
    readonly restartCount: number;
    readonly safe: boolean;
  },
  privateKey: KeyObject,
): EnrolmentRecord {
  const { endorsement, tpm, assurance, ...stated } = statement.enrolment;
  if (endorsement === undefined || tpm === null) throw new RangeError('There is no TPM to enrol.');
  const { clock: _earlier, ...anchors } = tpm;
  const policy = Object.keys(tpm.pcrPolicy.pcrs).map((pcr) => [
    pcr,
    (quote.pcrs.sha256[pcr] ?? '').toLowerCase(),
  ]);
  const { activation: _theirs, ...told } = endorsement;
  const record: EnrolmentRecord & { endorsement: Endorsement } = {
    ...stated,
    created: word.at,
    assurance: {
      ...assurance,
      tpm: admission.tpm,
      notes: [...assurance.notes.filter((note) => !ownTie.test(note)), ...admission.notes],
    },
    tpm: {
      ...anchors,
      pcrPolicy: { bank: 'sha256', pcrs: Object.fromEntries(policy) },
      resetCount: clock.resetCount,
      restartCount: clock.restartCount,
      ...(clock.safe ? { clock: clock.clock } : {}),
    },
    endorsement: told,
  };
  return signActivation(record, word, privateKey);
}

const bytes = (text: string): Uint8Array => Buffer.from(text, 'base64');
const base64 = (content: Uint8Array): string => Buffer.from(content).toString('base64');
