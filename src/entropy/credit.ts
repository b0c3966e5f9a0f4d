// What each noise source is trusted to deliver (policies/entropy.toml): bits of min-entropy per 8-bit sample, with the
// reason. A source that no assessment supports has credit 0; it is tested and mixed in all the same.
import { readFileSync } from 'node:fs';
import { parse } from 'smol-toml';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';

export interface SourceCredit {
  /** Bits of min-entropy counted for one sample. */
  readonly credit: number;
  /** Bits of min-entropy per sample from which the cutoffs of the health tests follow. */
  readonly expected: number;
  readonly reason: string;
  /** Where the number comes from; undefined where nothing was measured. */
  readonly measured: string | undefined;
}
/** By name of source. */
export type CreditPolicy = ReadonlyMap<string, SourceCredit>;

/** For a source that the policy does not name. */
export const uncredited: SourceCredit = {
  credit: 0,
  expected: 0.1,
  reason: 'the policy does not name it',
  measured: undefined,
};

/** The source's own entry, or that of all sources whose names begin alike (`device`, `serial`, `packets`). */
export const creditFor = (policy: CreditPolicy, name: string): SourceCredit =>
  policy.get(name) ?? policy.get(name.split(':')[0] ?? '') ?? uncredited;

export const defaultCreditPolicyPath = new URL('../../policies/entropy.toml', import.meta.url);

/** @throws Failure `policy-invalid` that names the file and the key. */
export function loadCreditPolicy(path: string | URL = defaultCreditPolicyPath): CreditPolicy {
  try {
    return parseCreditPolicy(readFileSync(path, 'utf8'), String(path));
  } catch (error) {
    throw error instanceof Failure ? error : invalid(String(path), reasonOf(error), error);
  }
}

/** `file` is for messages only. @throws Failure `policy-invalid`. */
export function parseCreditPolicy(text: string, file: string): CreditPolicy {
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    throw invalid(file, reasonOf(error).split('\n')[0] ?? '', error);
  }
  const { source, ...others } = table(document) ?? {};
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) throw invalid(file, `"${unknown}" is not a known key; the only one is "source"`);
  const sources = table(source);
  if (sources === undefined) throw invalid(file, 'the table "source" is missing');
  return new Map(Object.entries(sources).map(([name, entry]) => [name, sourceCredit(entry, name, file)]));
}

const keys = ['credit', 'assumed', 'reason', 'measured'];

function sourceCredit(entry: unknown, name: string, file: string): SourceCredit {
  const refuse = (what: string): never => {
    throw invalid(file, `source.${name}: ${what}`);
  };
  const { credit, assumed, reason, measured, ...others } = table(entry) ?? refuse('is not a table');
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) refuse(`"${unknown}" is not a known key; the known ones are ${keys.join(', ')}`);
  if (!isBits(credit)) return refuse('"credit" is not a number from 0 to 8');
  const expected = assumed ?? credit;
  if (!isBits(expected)) return refuse('"assumed" is not a number above 0, to 8');
  if (expected === 0) return refuse('a source without credit needs "assumed", above 0, for its health tests');
  if (expected < credit) return refuse('"assumed" is below "credit"');
  if (typeof reason !== 'string' || reason === '') return refuse('"reason" is missing');
  if (measured !== undefined && typeof measured !== 'string') return refuse('"measured" is not a text');
  if (credit > 0 && !measured)
    return refuse('a source with credit needs "measured", the origin of the number');
  return { credit, expected, reason, measured: measured || undefined };
}

const table = (value: unknown): Record<string, unknown> | undefined =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;

const isBits = (value: unknown): value is number => typeof value === 'number' && value >= 0 && value <= 8;

function invalid(file: string, what: string, cause?: unknown): Failure {
  return new Failure('policy-invalid', `The entropy policy ${file} is not usable: ${what}.`, {
    remedy: 'Correct the file; policies/entropy.toml of the distribution is an example.',
    status: exitStatus.usage,
    cause,
  });
}
