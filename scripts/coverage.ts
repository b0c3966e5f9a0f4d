// Line coverage of src/ from what V8 wrote in every process and thread of a test run (NODE_V8_COVERAGE). Only lines with
// code count: not comments, blank lines, types, or closing brackets, which would flatter the figure.
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join, relative } from 'node:path';
import { Report } from 'c8';

/** What cannot run without hardware or a desktop, and why. Everything else counts. */
export const needsHardware: Readonly<Record<string, string>> = {
  'src/alerts/channels/desktop.ts': 'needs a desktop session to notify',
};

export interface FileCoverage {
  readonly file: string;
  readonly lines: number;
  readonly covered: number;
  /** Line numbers, from 1. */
  readonly missed: readonly number[];
}

/** What c8's json reporter writes for a file: one statement a line, and how often it ran. */
interface IstanbulFile {
  readonly statementMap: Readonly<Record<string, { readonly start: { readonly line: number } }>>;
  readonly s: Readonly<Record<string, number>>;
}

/**
 * Coverage of each file below `root`/src that holds code, in the order of their names. `rawDirectory` is what
 * NODE_V8_COVERAGE named; the merged form is written to `reportDirectory`.
 */
export async function coverageOf(
  root: string,
  rawDirectory: string,
  reportDirectory: string,
): Promise<FileCoverage[]> {
  await new Report({
    all: true,
    src: [join(root, 'src')],
    include: ['src/**/*.ts'],
    tempDirectory: rawDirectory,
    reportsDirectory: reportDirectory,
    reporter: ['json'],
    resolve: '',
    excludeNodeModules: true,
  }).run();
  const merged = JSON.parse(readFileSync(join(reportDirectory, 'coverage-final.json'), 'utf8')) as Record<
    string,
    IstanbulFile
  >;
  return Object.entries(merged)
    .map(([path, { statementMap, s }]) => {
      const unreached = Object.entries(statementMap).filter(([id]) => s[id] === 0);
      const missed = new Set(unreached.map(([, { start }]) => start.line));
      const lines = linesWithCode(readFileSync(path, 'utf8'));
      return {
        file: relative(root, path),
        lines: lines.length,
        covered: lines.filter((line) => !missed.has(line)).length,
        missed: lines.filter((line) => missed.has(line)),
      };
    })
    .filter(({ file, lines }) => lines > 0 && !Object.hasOwn(needsHardware, file))
    .sort((a, b) => (a.file < b.file ? -1 : 1));
}

/** Numbers of the lines that hold code once types are gone. */
export function linesWithCode(source: string): number[] {
  return stripTypeScriptTypes(source)
    .split('\n')
    .flatMap((line, index) => (/^\s*(\/\/.*|\/?\*.*|[\])};,]*)$/.test(line) ? [] : [index + 1]));
}

export const percentage = (files: readonly FileCoverage[]): number => {
  const lines = files.reduce((sum, file) => sum + file.lines, 0);
  return lines === 0 ? 0 : (100 * files.reduce((sum, file) => sum + file.covered, 0)) / lines;
};

/** `[1, 2, 3, 7]` as `1-3, 7`. */
export function ranges(lines: readonly number[]): string {
  const found: { from: number; to: number }[] = [];
  for (const line of lines) {
    const last = found.at(-1);
    if (last !== undefined && last.to === line - 1) last.to = line;
    else found.push({ from: line, to: line });
  }
  return found.map(({ from, to }) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
}
