// Numbers as options take them.
import { exitStatus, Failure } from '../host/failure.ts';

const multiples: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** A number of bytes in a range, with K, M or G for binary multiples. @throws Failure `usage`. */
export function parseBytes(option: string, text: string, low = 0, high = Number.POSITIVE_INFINITY): number {
  const [, digits, unit] = /^(\d{1,12})([KMG]?)$/i.exec(text) ?? [];
  const multiple = multiples[unit?.toUpperCase() ?? 'none'];
  if (digits !== undefined && multiple !== undefined) {
    const bytes = Number(digits) * multiple;
    if (bytes >= low && bytes <= high) return bytes;
    const range = bytes < low ? `at least ${low}` : `at most ${high}`;
    throw new Failure('usage', `${option} takes ${range} bytes, not "${text}".`, {
      status: exitStatus.usage,
    });
  }
  throw new Failure('usage', `${option} takes a number, with K, M or G, not "${text}".`, {
    status: exitStatus.usage,
  });
}

/** A whole number in a range; undefined where the option was not given. @throws Failure `usage`. */
export function parseCount(
  option: string,
  text: string | undefined,
  low: number,
  high: number,
): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,12}$/.test(text.replaceAll('_', '')) ? Number(text.replaceAll('_', '')) : -1;
  if (value >= low && value <= high) return value;
  throw new Failure('usage', `${option} takes a number from ${low} to ${high}, not "${text}".`, {
    status: exitStatus.usage,
  });
}

/** Names with commas between; undefined where the option was not given. */
export const parseNames = (text: string | undefined): string[] | undefined =>
  text?.split(',').flatMap((name) => (name.trim() === '' ? [] : [name.trim()]));
