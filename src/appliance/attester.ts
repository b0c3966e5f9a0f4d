// The node's side of attestation (RFC 9334: the attester): evidence for a request, and the answer to a challenge. By the running
// node where there is one, through its control socket; else here, with the TPM opened for it.
import { readFileSync, statSync } from 'node:fs';
import {
  type AttestAnswer,
  type AttestChallenge,
  type AttestEvidence,
  type AttestRequest,
  type EvidenceStatement,
  quotedDigest,
} from '../attestation/documents.ts';
import { CustodyLog } from '../custody/log.ts';
import { Failure } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { utcNow } from '../host/time.ts';
import type { Tpm } from '../tpm/context.ts';
import { normalizedResponse, TpmError } from '../tpm/responses.ts';
import { type PcrBank, pcrBankNames } from '../tpm/structs.ts';
import { assuranceNow } from './assurance.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { readEndorsement } from './endorsement.ts';
import { enrolmentOf } from './enrolment.ts';
import { NodeKeys } from './node-keys.ts';
import { type NodeRecord, readNodeRecord } from './node-record.ts';
import { type StateLayout, stateLayout } from './state-layout.ts';

/** What of a node is needed to attest it; the running node and the command line have it alike. */
export interface Attester {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly custody: Pick<CustodyLog, 'head' | 'append'>;
  /** Null without a TPM. */
  readonly keys: NodeKeys | null;
}

const largestEventLog = 4 << 20;

/** @throws Failure `tpm-bypassed` on a node without a TPM; TpmError. */
export async function makeEvidence(node: Attester, request: AttestRequest): Promise<AttestEvidence> {
  const { anchors, keys } = tpmOf(node);
  return await keys.use(async (tpm) => {
    const statement = await statementOf(node, anchors, tpm, request);
    const banks = (await tpm.pcrBanks()).filter((bank): bank is PcrBank =>
      pcrBankNames.includes(bank as PcrBank),
    );
    const values = new Map<PcrBank, Record<string, string>>();
    for (const bank of banks) values.set(bank, hexOf(await tpm.pcrRead(bank, request.pcrs)));
    await using ak = await tpm.at(anchors.ak.handle);
    const { attest, signature } = await tpm.quote(ak, quotedDigest(statement), request.pcrs, banks);
    return {
      format: 'esoteric-appliance-attest-evidence/1',
      statement,
      quote: {
        attest: base64(attest),
        signature: base64(signature),
        pcrs: { ...Object.fromEntries(values), sha256: values.get('sha256') ?? {} },
      },
    };
  });
}

async function statementOf(
  { config, layout, record, custody }: Attester,
  anchors: NonNullable<NodeRecord['tpm']>,
  tpm: Tpm,
  request: AttestRequest,
): Promise<EvidenceStatement> {
  const { simulator } = await tpm.properties();
  const { keys, intermediates } = anchors.endorsement ?? (await readEndorsement(tpm));
  return {
    nonce: request.nonce,
    created: utcNow(),
    enrolment: { ...enrolmentOf(record, layout, custody.head()), endorsement: { keys, intermediates } },
    simulator,
    eventLog: readEventLog(config.tpm.event_log),
  };
}

/** Without a log, or with one beyond any that firmware writes, the verifier says what is not proven. */
function readEventLog(path: string): string | null {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found?.isFile()) return null;
  const log = readFileSync(path); // The kernel's file tells no size beforehand.
  return log.length === 0 || log.length > largestEventLog ? null : base64(log);
}

/**
 * Hands the challenge to the TPM. That it was asked is noted in the custody log: somebody enrolled this node.
 * @throws Failure `tpm-bypassed`, `challenge-refused` where the credential is for another TPM or another attestation key.
 */
export async function activate(node: Attester, challenge: AttestChallenge): Promise<AttestAnswer> {
  const { anchors, keys } = tpmOf(node);
  const secret = await keys.use(async (tpm) => {
    await using ek = await tpm.endorsementKey(challenge.kind);
    await using ak = await tpm.at(anchors.ak.handle);
    const credential = {
      idObject: Buffer.from(challenge.idObject, 'base64'),
      encryptedSecret: Buffer.from(challenge.encryptedSecret, 'base64'),
    };
    return await tpm.activateCredential(ek, ak, credential).catch((error: unknown) => {
      throw error instanceof TpmError && error.layer === 'tpm' ? refused(error) : error;
    });
  });
  node.custody.append('credential-activated', { kind: challenge.kind, nonce: challenge.nonce });
  return { format: 'esoteric-appliance-attest-answer/1', nonce: challenge.nonce, secret: base64(secret) };
}

/** What swtpm answers to a credential for another RSA key, by which it does not mean that it failed. */
const failureMode = 0x101;

function refused(cause: TpmError): Failure {
  const why = normalizedResponse(cause.rc) === failureMode ? '' : ` ${cause.message}`;
  return new Failure(
    'challenge-refused',
    `The TPM did not open the challenge: it was made for another TPM or another attestation key.${why}`,
    {
      kept: 'Nothing was given away.',
      remedy: 'Begin again with new evidence of this node: `esoteric-appliance attest enrol`.',
      ...(why === '' ? {} : { cause }),
    },
  );
}

function tpmOf({ record, keys }: Attester): { anchors: NonNullable<NodeRecord['tpm']>; keys: NodeKeys } {
  if (record.tpm !== null && keys !== null) return { anchors: record.tpm, keys };
  throw new Failure(
    'tpm-bypassed',
    'This node has no TPM, or bypasses it: there is nothing that could attest it.',
    {
      remedy: 'Provision it with a TPM (--tpm), in another state directory if need be.',
    },
  );
}

/**
 * What the node answers: by the daemon, where one runs, else by this process under the state's lock.
 * @throws Failure `unprovisioned`, `state-in-use`, `tpm-swapped`, and as the two above.
 */
export async function attestHere<T>(
  config: Config,
  method: 'attest-evidence' | 'attest-activate',
  document: AttestRequest | AttestChallenge,
  work: (node: Attester) => Promise<T>,
): Promise<T> {
  const layout = stateLayout(config.node.state_dir);
  if (await isRunning(layout.control)) return await askNode<T>(layout.control, method, { document });
  const known = readNodeRecord(layout);
  const record = { ...known, assurance: assuranceNow(config, known) };
  using _lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
  using custody = CustodyLog.open(layout.custody);
  const bypassed = record.tpm === null || config.tpm.mode === 'none';
  await using keys = bypassed || record.tpm === null ? null : await NodeKeys.open(config, record.tpm);
  return await work({ config, layout, record, custody, keys });
}

const hexOf = (values: ReadonlyMap<number, Uint8Array>): Record<string, string> =>
  Object.fromEntries([...values].map(([pcr, value]) => [String(pcr), Buffer.from(value).toString('hex')]));
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
