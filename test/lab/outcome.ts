// A vitest reporter that counts: what passed and failed, and why anything was skipped. Written as JSON to the file named
// by TEST_OUTCOME, for scripts/run-tests.ts, which prints the last line.
import { writeFileSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';

export interface Outcome {
  passed: number;
  failed: number;
  skipped: { name: string; reason: string }[];
}

export default class OutcomeReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const path = process.env.TEST_OUTCOME;
    if (path === undefined) return;
    const outcome: Outcome = { passed: 0, failed: unhandled.length, skipped: [] };
    for (const module of modules) {
      // A file that could not be loaded has no tests to count, and a hook that failed is no test.
      outcome.failed += module.errors().length;
      for (const suite of module.children.allSuites()) outcome.failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed') outcome.passed++;
        else if (result.state === 'failed') outcome.failed++;
        else outcome.skipped.push({ name: test.fullName, reason: ('note' in result && result.note) || '' });
      }
    }
    writeFileSync(path, JSON.stringify(outcome));
  }
}
