// `provision --what-if`: which sealed keys will open after an update, told before anything is applied. A prediction from an event
// log (what the new firmware will measure) or from single PCR values, held against the approvals that are there. Changes nothing.
import { readFileSync } from 'node:fs';
import { parseEventLog, replay } from '../attestation/eventlog.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { pinnedStorageRoot } from '../keys/anchors.ts';
import { openTpm } from '../tpm/context.ts';
import {
  expectationOf,
  nearestRefusal,
  presentState,
  refusalOf,
  requestFor,
  storedApprovals,
  writeRequest,
} from './approvals.ts';
import type { Config } from './config.ts';
import { readNodeRecord } from './node-record.ts';
import { stateLayout } from './state-layout.ts';

export interface Prediction {
  /** Path of an event log in the TCG format, such as the kernel's binary_bios_measurements. */
  readonly eventLog: string | undefined;
  /** Values by PCR number, which stand above the log. */
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** Where to write the request for the predicted state. */
  readonly request: string | undefined;
}

export interface WhatIf {
  readonly node: string;
  /** The PCRs that keys are sealed to, values in hex. */
  readonly pcrs: readonly { readonly pcr: number; readonly now: string; readonly predicted: string }[];
  /** Of the armed counter, decimal. */
  readonly counter: string;
  readonly keys: readonly {
    readonly name: string;
    readonly purpose: string;
    readonly survives: boolean;
    readonly why: string;
  }[];
  /** Whether all of them do. */
  readonly survives: boolean;
  readonly request: string | null;
}

/** @throws Failure `unprovisioned`, `no-tpm`, `event-log-invalid`, `what-if-pcr`, `tpm-unreachable`, `tpm-swapped`. */
export async function whatIf(config: Config, prediction: Prediction): Promise<WhatIf> {
  const layout = stateLayout(config.node.state_dir);
  const record = readNodeRecord(layout);
  const anchors = record.tpm;
  if (anchors === null || config.tpm.mode === 'none') {
    throw new Failure('no-tpm', 'Without a TPM nothing is sealed, so there is nothing to predict.', {
      remedy: 'Repeat the command on a node that was provisioned with a TPM.',
    });
  }
  const replayed = prediction.eventLog === undefined ? undefined : replayOf(prediction.eventLog);
  await using tpm = await openTpm({ tcti: config.tpm.tcti });
  await using _srk = await pinnedStorageRoot(tpm, anchors); // Else another TPM's counter is predicted from.
  const state = await presentState(tpm, anchors);
  const sealedTo = [...state.pcrs.keys()];
  const stranger = [...prediction.pcrs.keys()].find((pcr) => !sealedTo.includes(pcr));
  if (stranger !== undefined) throw notSealedTo(stranger, sealedTo);
  const predicted = new Map(
    sealedTo.map((pcr) => [pcr, prediction.pcrs.get(pcr) ?? afterReset(pcr, state.pcrs, replayed)]),
  );
  const then = { ...state, pcrs: predicted };
  const approvals = storedApprovals(layout);
  const keys = record.keys.map(({ name, purpose }) => {
    const expected = expectationOf(record.node, [{ name, purpose }], anchors.authorities, then);
    const survives = approvals.some((approval) => refusalOf(approval, expected) === undefined);
    const why = survives
      ? 'an approval covers the predicted state'
      : (nearestRefusal(approvals, expected)?.message ?? 'nothing is approved');
    return { name, purpose, survives, why };
  });
  if (prediction.request !== undefined) {
    writeRequest(prediction.request, requestFor(record.node, record.keys, then, new Date()));
  }
  return {
    node: record.node,
    pcrs: sealedTo.map((pcr) => ({ pcr, now: hex(state.pcrs.get(pcr)), predicted: hex(predicted.get(pcr)) })),
    counter: String(state.counter),
    keys,
    survives: keys.every(({ survives }) => survives),
    request: prediction.request ?? null,
  };
}

/** `N=HEX`, as --what-if-pcr takes it. @throws Failure `usage`. */
export function parsePrediction(text: string): readonly [pcr: number, value: Uint8Array] {
  const [, pcr, value] = /^(\d|1\d|2[0-3])=([0-9a-f]{64})$/i.exec(text) ?? [];
  if (pcr !== undefined && value !== undefined) return [Number(pcr), Buffer.from(value, 'hex')];
  throw new Failure('usage', `--what-if-pcr takes N=HEX with 64 hexadecimal digits, not "${text}".`, {
    remedy:
      'Give the value that the SHA-256 bank will have, as `tpm2_pcrread sha256:7` prints it without 0x.',
    status: exitStatus.usage,
  });
}

/** By PCR number, hex. */
function replayOf(path: string): Readonly<Record<string, string>> {
  let bank: Record<string, string> | undefined;
  try {
    bank = replay(parseEventLog(readFileSync(path))).sha256;
  } catch (cause) {
    throw unreadableLog(path, reasonOf(cause));
  }
  if (bank === undefined) throw unreadableLog(path, 'it has no SHA-256 digests');
  return bank;
}

/** What the log says; without one as it is now, and a PCR that no firmware extends is zero after a reset. */
function afterReset(
  pcr: number,
  now: ReadonlyMap<number, Uint8Array>,
  replayed: Readonly<Record<string, string>> | undefined,
): Uint8Array {
  const zero = new Uint8Array(32);
  if (replayed === undefined) return now.get(pcr) ?? zero;
  const value = replayed[pcr];
  return value === undefined ? zero : Buffer.from(value, 'hex');
}

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');

const unreadableLog = (path: string, why: string): Failure =>
  new Failure('event-log-invalid', `The event log ${path} cannot be replayed: ${why}.`, {
    kept: 'Nothing was changed.',
    remedy:
      'Give a log in the TCG binary format, such as /sys/kernel/security/tpm0/binary_bios_measurements.',
    status: exitStatus.usage,
  });

const notSealedTo = (pcr: number, sealedTo: readonly number[]): Failure =>
  new Failure('what-if-pcr', `No key of this node is sealed to PCR ${pcr}.`, {
    remedy: `Predict one of ${sealedTo.join(', ')}.`,
    status: exitStatus.usage,
  });
