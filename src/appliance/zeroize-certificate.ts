// The zeroize certificate, made when all stages have run: what the node asserts of a zeroize and of each sensitive security parameter,
// and beside it what the TPM signed over the digest of that. docs/bundle-format.md describes it.
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import canonicalize from 'canonicalize';
import type { CustodyLog } from '../custody/log.ts';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import type { ZeroizeLevel } from '../interlock/causes.ts';
import type { ZeroizeOutcome } from '../interlock/outcome.ts';
import type { Announcer } from './announce.ts';
import type { NodeKeys, Quoted } from './node-keys.ts';
import { signedText } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import { recordPast } from './record.ts';
import type { StateLayout } from './state-layout.ts';

/** A key that was in the arena, or that a zeroize takes away at rest. */
export interface HeldKey {
  readonly name: string;
  readonly purpose: string;
  /** A link has it: in the kernel, or in the helper that stands for it. */
  readonly linked: boolean;
}

export interface CertifiedNode {
  readonly record: NodeRecord;
  readonly layout: StateLayout;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
  /** Null without a TPM, or where it does not answer. */
  readonly keys: NodeKeys | null;
  readonly held: readonly HeldKey[];
  /** Whether a courier holds delivery credentials, which a zeroize leaves alone. */
  readonly retained: boolean;
}

/** Null where the process that ran the stages was killed before it could tell their times: all of them were done. */
export type KnownStages = ZeroizeOutcome['stages'] | null;

interface Told {
  readonly at: string;
  readonly level: ZeroizeLevel;
  readonly stages: KnownStages;
}

interface Parameter {
  readonly name: string;
  readonly kind: string;
  readonly fate: string;
  /** Of what is kept outside of memory as well. */
  readonly atRest?: string;
}

/** Writes the certificate for later bundles, records its digest, and returns it. */
export async function certifyZeroize(
  node: CertifiedNode,
  told: Told & Readonly<Record<string, unknown>>,
): Promise<string> {
  const { record, layout, keys } = node;
  const asserted = {
    format: 'esoteric-appliance-zeroize/1',
    node: record.node,
    ...told,
    parameters: fatesOf(node, told),
  };
  const digest = createHash('sha256')
    .update(canonicalize(asserted) ?? '')
    .digest();
  const proven = keys === null ? null : await provenBy(keys, record, digest, told.level);
  const certificate = `${JSON.stringify({ asserted, proven }, null, 2)}\n`;
  recordPast(node, 'zeroize-certified', { sha256: digest.toString('hex'), quoted: proven !== null });
  putAside(layout); // Of the same zeroize, which went further.
  writeDurably(layout.zeroizeCertificate, certificate);
  return certificate;
}

/** How many certificates of earlier zeroizes are kept. */
const mostPast = 64;

/** Puts the last certificate with those of earlier zeroizes: the newest line is the last. Where that cannot be written, it stays. */
export function putAside({ zeroizeCertificate: path, pastCertificates }: StateLayout): void {
  const text = readIfPresent(path);
  if (text === undefined) return;
  const past = (readIfPresent(pastCertificates) ?? '').split('\n').filter((line) => line !== '');
  try {
    const line = JSON.stringify(JSON.parse(text));
    // It was put there before, if the process was killed between the two.
    const lines = [...past.filter((other) => other !== line), line].slice(-mostPast);
    writeDurably(pastCertificates, `${lines.join('\n')}\n`);
    rmSync(path);
  } catch {}
}

/** Null where the TPM does not answer, or has been reset since and so proves no cap. */
async function provenBy(keys: NodeKeys, record: NodeRecord, digest: Uint8Array, level: ZeroizeLevel) {
  const quoted = await keys.quote(digest).catch(() => undefined);
  const counters = await keys.certifyCounters(digest).catch(() => undefined);
  if (quoted === undefined || counters === undefined) return null;
  if (level !== 'purge' && !isCapped(quoted, record)) return null;
  return { ...signedText(quoted), pcrs: quoted.pcrs, armedCounter: signedText(counters.armed) };
}

/** A PCR that is not capped is as a TPM reset leaves it: nothing else extends it. */
const isCapped = ({ pcrs }: Quoted, { tpm }: NodeRecord): boolean =>
  tpm !== null && !/^0*$/.test(pcrs[String(tpm.capPcr)] ?? '');

/** What became of each sensitive security parameter. Pure. */
export function fatesOf(
  { record, held, retained }: Pick<CertifiedNode, 'record' | 'held' | 'retained'>,
  { level, stages }: Pick<Told, 'level' | 'stages'>,
): Parameter[] {
  const failures = stages?.kernel.failures ?? 0;
  const inLinks = failures === 0 ? ' and in its link' : `; ${failures} links could not be removed`;
  const sealed = record.tpm !== null;
  const seedKey = record.keys.find(({ purpose }) => purpose === 'seed')?.name;
  return [
    ...held.map(({ name, purpose, linked }) => ({
      name,
      kind: `${purpose} key`,
      fate: `destroyed in memory${linked ? inLinks : ''}`,
      atRest: sealed ? blobFate(level, stages) : 'nowhere: made for this run alone',
    })),
    { name: 'DRBG and pool', kind: 'DRBG state', fate: 'destroyed in memory' },
    {
      name: 'seed file',
      kind: 'DRBG seed',
      fate: 'destroyed in memory',
      atRest:
        level === 'destroy'
          ? fileFate(stages)
          : sealed && seedKey !== undefined
            ? `kept, encrypted under the key ${seedKey}`
            : 'kept in clear, for its owner alone; it counts for nothing',
    },
    ...(retained
      ? [{ name: 'delivery credentials', kind: "the courier's", fate: 'retained, in a process of its own' }]
      : []),
  ];
}

function blobFate(level: ZeroizeLevel, stages: KnownStages): string {
  const tpm = stages?.tpm.result ?? 'done';
  if (level === 'purge') return 'kept, sealed: it opens at the next start';
  if (level === 'lock')
    return tpm === 'done'
      ? 'kept, sealed: it opens under a new approval only'
      : `kept, sealed; locking the TPM ${tpm}`;
  const share = tpm === 'done' ? 'its share is gone from the TPM' : `taking its share from the TPM ${tpm}`;
  return `${fileFate(stages)}; ${share}`;
}

function fileFate(stages: KnownStages): string {
  const disk = stages?.disk.result ?? 'done';
  return disk === 'done' ? 'overwritten and removed' : `overwriting it ${disk}`;
}

/** All keys of a node, as a zeroize may find them. */
export const heldKeys = (
  { keys }: Pick<NodeRecord, 'keys'>,
  links: readonly { readonly key: string }[],
): HeldKey[] =>
  keys.map(({ name, purpose }) => ({ name, purpose, linked: links.some(({ key }) => key === name) }));

/** Whether a zeroize of the last run has been certified. */
export function isCertified(custody: CustodyLog): boolean {
  const certified = 'zeroize-certified';
  const events = [...custody.records({ events: ['started', 'provisioned', 're-armed', certified] })];
  return events.at(-1)?.event === certified;
}
