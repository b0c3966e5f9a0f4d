import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type FileCoverage, linesWithCode, ranges } from '../../scripts/coverage.ts';

const coverageModule = resolve(import.meta.dirname, '../../scripts/coverage.ts');

describe('measuring coverage', () => {
  it('counts lines that ran in a child process or a worker thread, and names those that no process ran', () => {
    const root = mkdtempSync(join(tmpdir(), 'ea-coverage-'));
    try {
      mkdirSync(join(root, 'src'));
      const twoWays = (name: string) =>
        `// A comment.\nexport function ${name}(way: string): number {\n  if (way === 'taken') {\n    return 1;\n  }\n  return 2;\n}\n`;
      writeFileSync(join(root, 'package.json'), '{"type":"module"}');
      writeFileSync(join(root, 'src/child.ts'), `${twoWays('child')}child('taken');\n`);
      writeFileSync(join(root, 'src/thread.ts'), `${twoWays('thread')}thread('taken');\n`);
      writeFileSync(join(root, 'src/never.ts'), twoWays('never'));
      writeFileSync(join(root, 'src/shape.ts'), 'export interface Shape {\n  readonly side: number;\n}\n');
      writeFileSync(
        join(root, 'main.ts'),
        `import { execFileSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';
execFileSync(process.execPath, ['src/child.ts'], { env: { PATH: '/bin' } });
new Worker(new URL('./src/thread.ts', import.meta.url));
`,
      );
      const raw = join(root, 'raw');
      execFileSync(process.execPath, ['main.ts'], {
        cwd: root,
        env: { ...process.env, NODE_V8_COVERAGE: raw },
      });
      const measured = execFileSync(
        process.execPath,
        [
          '--input-type=module',
          '-e',
          `import { coverageOf } from ${JSON.stringify(coverageModule)};
           console.log(JSON.stringify(await coverageOf(${JSON.stringify(root)}, ${JSON.stringify(raw)}, 'report')));`,
        ],
        { cwd: root, encoding: 'utf8' },
      );
      const files = JSON.parse(measured) as FileCoverage[];
      expect(files).toEqual([
        { file: 'src/child.ts', lines: 5, covered: 4, missed: [6] },
        { file: 'src/never.ts', lines: 4, covered: 0, missed: [2, 3, 4, 6] },
        { file: 'src/thread.ts', lines: 5, covered: 4, missed: [6] },
      ]);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it('counts neither comments, blank lines, closing brackets nor types', () => {
    const source = `// comment
/** doc
 * more
 */
import type { A } from './a.ts';

export interface B {
  readonly c: A;
}

export const d = [
  1,
];
`;
    expect(linesWithCode(source)).toEqual([11, 12]);
  });

  it('writes line numbers as ranges', () => {
    expect(ranges([1, 2, 3, 7, 9, 10])).toBe('1-3, 7, 9-10');
    expect(ranges([])).toBe('');
  });
});
