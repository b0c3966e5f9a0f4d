// What people and programs read: one JSON document on stdout with --json, tables and colour on a terminal, plain text in a pipe.
// Logs and failures go to stderr.
import { stripVTControlCharacters, styleText } from 'node:util';
import { type ExitStatus, Failure, reasonOf } from '../host/failure.ts';

type Style = Parameters<typeof styleText>[0];

/** Coloured where the stream is a terminal and NO_COLOR is not set. */
export const paint = (style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string =>
  styleText(style, text, { stream });

export function printJson(document: unknown): void {
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
}

/**
 * What others wrote, in a form that does nothing to a terminal: no control characters, no ends of lines or paragraphs, and nothing
 * that turns the direction of what follows it (Unicode Standard Annex 9, section 2).
 */
export const plain = (text: string): string => text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, '?');

/** As `plain`, of every string in a document: it is cheaper to do so for all than to know which of them others wrote. */
export function plainly<T>(document: T): T;
export function plainly(document: unknown): unknown {
  if (typeof document === 'string') return plain(document);
  if (Array.isArray(document)) return document.map((each) => plainly(each));
  if (typeof document !== 'object' || document === null) return document;
  return Object.fromEntries(Object.entries(document).map(([name, each]) => [name, plainly(each)]));
}

export const printLine = (line = ''): void => {
  process.stdout.write(`${line}\n`);
};

export const logLine = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

/** What is left for it is narrower than this: a last column is not broken there. */
const narrowest = 24;

/**
 * Rows in columns, two spaces apart. The last column is as long as it is; on a terminal it is broken between words at the right edge,
 * and goes on below itself. Lengths are counted without colour.
 */
export function table(
  rows: readonly (readonly string[])[],
  // A terminal that does not tell its width has 0.
  width = (process.stdout.isTTY && process.stdout.columns) || Number.POSITIVE_INFINITY,
): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => stripVTControlCharacters(row[column] ?? '').length)),
  );
  return rows.flatMap((row) => {
    const before = row
      .slice(0, -1)
      .map((cell, column) => `${padded(cell, widths[column] ?? 0)}  `)
      .join('');
    const indent = stripVTControlCharacters(before).length;
    const [first = '', ...more] = broken(row.at(-1) ?? '', width - indent);
    return [before + first, ...more.map((line) => ' '.repeat(indent) + line)];
  });
}

const padded = (cell: string, width: number): string =>
  cell + ' '.repeat(width - stripVTControlCharacters(cell).length);

/** Lines of at most `width`, broken at spaces; a word that is longer, such as a path, stays whole. What has colour stays as it is. */
function broken(text: string, width: number): string[] {
  if (width < narrowest || text.length <= width || stripVTControlCharacters(text) !== text) return [text];
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line === undefined || line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines;
}

/** Says what failed, what was kept and what to do next; a stack only for what is our own mistake. Returns the exit status. */
export function reportFailure(thrown: unknown, json: boolean): ExitStatus {
  const failure = failureOf(thrown);
  if (json) printJson({ error: failure.toJSON() });
  else {
    logLine(`${paint(['red', 'bold'], 'error', process.stderr)}  ${plainLines(failure.message)}`);
    if (failure.kept !== undefined) logLine(`kept   ${plainLines(failure.kept)}`);
    if (failure.remedy !== undefined) logLine(`next   ${plainLines(failure.remedy)}`);
  }
  if (process.env.ESOTERIC_DEBUG === '1' && thrown instanceof Error) logLine(thrown.stack ?? '');
  return failure.status;
}

/** What the kernel refused is not our mistake. */
function failureOf(thrown: unknown): Failure {
  if (thrown instanceof Failure) return thrown;
  const reason = reasonOf(thrown);
  switch (thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined) {
    case 'EACCES':
    case 'EPERM':
      return new Failure('permission-denied', `This takes rights that you do not have: ${reason}.`, {
        remedy: 'Repeat the command as the user that the files belong to (root, for those of a node).',
      });
    case 'ENOSPC':
    case 'EDQUOT':
      return new Failure('disk-full', `There is no room left where this is written: ${reason}.`, {
        remedy: 'Make room, or write elsewhere, and repeat the command.',
      });
    default:
      return new Failure('internal', `Something unexpected happened: ${reason}`, {
        remedy: 'Please report this, with the command and what ESOTERIC_DEBUG=1 prints.',
      });
  }
}

/** Failures have lines of their own, and may name what others wrote. */
const plainLines = (text: string): string => text.split('\n').map(plain).join('\n');

/** Progress of long work: one line that changes on a terminal, nothing in a pipe. */
export function progressLine(): { readonly step: (text: string) => void; readonly done: () => void } {
  const { stderr } = process;
  if (!stderr.isTTY) return { step: () => {}, done: () => {} };
  const clear = '\r\u001b[2K';
  return {
    step: (text) => {
      stderr.write(`${clear}${paint('dim', `… ${text}`.slice(0, (stderr.columns || 80) - 1), stderr)}`);
    },
    done: () => {
      stderr.write(clear);
    },
  };
}
