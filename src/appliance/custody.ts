// The custody log as an operator reads it, and a head of it that somebody else holds.
import { existsSync, readFileSync } from 'node:fs';
import { type CustodyHead, type CustodyRecord, compareHead, emptyHead } from '../custody/chain.ts';
import { checkParts, findIn, type LogCheck } from '../custody/check.ts';
import { CustodyNames } from '../custody/names.ts';
import { LogFiles } from '../custody/segments.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { unprovisioned } from '../keys/lifecycle.ts';
import type { Config } from './config.ts';
import { askNode, isRunning } from './control.ts';
import { CustodyFollower } from './custody-anchor.ts';
import { NodeKeys } from './node-keys.ts';
import { readNodeRecord } from './node-record.ts';
import { stateLayout } from './state-layout.ts';

/**
 * The records up to the first broken line. Names are those that the node knows, unless they are to be `raw`.
 * @throws Failure `unprovisioned` where there is no log.
 */
export function readCustody(config: Config, raw = false): CustodyRecord[] {
  const records: CustodyRecord[] = [];
  using files = openLog(config);
  checkParts(files.parts, {}, (record) => records.push(record));
  return raw ? records : named(config, records);
}

/** The records of certain events up to the first line that is none, with the names that the node knows. @throws as `readCustody`. */
export function findCustody(config: Config, events: Iterable<string>): CustodyRecord[] {
  using files = openLog(config);
  return named(config, findIn(files.parts, { events: [...events] }).records);
}

/** What its chain says of the whole log; with `known`, also whether it still holds that head. @throws as `readCustody`. */
function checkChainOf(config: Config, known?: CustodyHead): LogCheck {
  using files = openLog(config);
  let held = known?.sequence === emptyHead.sequence ? emptyHead.hash : undefined; // Of a node that had no record yet.
  const { check } = checkParts(files.parts, {}, ({ sequence }, hash) => {
    if (sequence === known?.sequence) held = hash;
  });
  return check.ok && known !== undefined ? { ...check, ...compareHead(check.head, known, held) } : check;
}

function openLog({ node }: Config): LogFiles {
  const { custody, directory } = stateLayout(node.state_dir);
  const files = new LogFiles(custody);
  if (files.parts.length > 0) return files;
  throw unprovisioned(directory);
}

function named({ node }: Config, records: readonly CustodyRecord[]): CustodyRecord[] {
  const names = new CustodyNames(stateLayout(node.state_dir).custody);
  return records.map((record) => ({ ...record, detail: names.resolve(record.detail) }));
}

export interface CustodyCheck extends Omit<LogCheck, 'standing'> {
  /**
   * Up to which record the TPM has followed the log, 0 for none yet; `why` where it cannot be asked; null without a TPM, and where it was
   * not asked because the log is broken as it is.
   */
  readonly tpm: { readonly followed: number } | { readonly why: string } | null;
}

/** The log by itself, against a head that was kept elsewhere, and against what the node's own TPM was told. @throws as `readCustody`. */
export async function checkCustody(config: Config, known?: CustodyHead): Promise<CustodyCheck> {
  const { standing: _, ...check } = checkChainOf(config, known);
  if (!check.ok) return { ...check, tpm: null };
  try {
    const followed = await followedByTpm(config);
    return { ...check, tpm: followed === null ? null : { followed } };
  } catch (error) {
    const why = reasonOf(error);
    if (error instanceof Failure && error.code === 'custody-rewritten')
      return { ...check, ok: false, problem: why, tpm: null };
    return { ...check, tpm: { why } };
  }
}

async function followedByTpm(config: Config): Promise<number | null> {
  const layout = stateLayout(config.node.state_dir);
  if (await isRunning(layout.control))
    return await askNode<number | null>(layout.control, 'custody-followed');
  if (config.tpm.mode === 'none' || !existsSync(layout.node)) return null;
  const { tpm } = readNodeRecord(layout);
  if (tpm === null) return null;
  await using keys = await NodeKeys.open(config, tpm, 'leave');
  return await new CustodyFollower(
    layout,
    () => keys,
    () => {},
  ).followed();
}

/**
 * A head that was kept elsewhere: `SEQUENCE:HASH`, or a file that holds one (an enrolment record, `status --json`,
 * `custody check --json`, or the signature file of a bundle, whose signature `verify` checks and this does not).
 * @throws Failure `head-unreadable`, usage.
 */
export function headFrom(text: string): CustodyHead {
  const [, sequence, hash] = /^(\d{1,15}):([0-9a-fA-F]{64})$/.exec(text) ?? [];
  if (sequence !== undefined && hash !== undefined)
    return { sequence: Number(sequence), hash: hash.toLowerCase() };
  try {
    const found = headIn(JSON.parse(readFileSync(text, 'utf8')));
    if (found !== undefined) return found;
  } catch {}
  throw new Failure('head-unreadable', `"${text}" is no head of a custody log, and no file that holds one.`, {
    remedy: 'Give SEQUENCE:HASH, an enrolment record, or the .sigstore.json of a bundle.',
    status: exitStatus.usage,
  });
}

/** Pure: the head in a document, wherever these documents have it. */
function headIn(value: unknown): CustodyHead | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { sequence, hash, payload, ...rest } = value as Record<string, unknown>;
  if (typeof sequence === 'number' && typeof hash === 'string' && /^[0-9a-f]{64}$/.test(hash))
    return { sequence, hash };
  const inner =
    typeof payload === 'string' ? parsed(Buffer.from(payload, 'base64').toString('utf8')) : payload;
  for (const part of [
    inner,
    ...['custodyHead', 'custody', 'head', 'predicate', 'dsseEnvelope'].map((key) => rest[key]),
  ]) {
    const found = headIn(part);
    if (found !== undefined) return found;
  }
  return undefined;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
