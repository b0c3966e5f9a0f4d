// Tests run as Node runs the program: modules unbundled and untransformed (type stripping), each file in a process of
// its own, so that coverage of processes and threads is counted alike (scripts/coverage.ts).
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    experimental: { viteModuleRunner: false },
    pool: 'forks',
    maxWorkers: 2,
    fileParallelism: true,
    globals: false,
    testTimeout: 180_000,
    hookTimeout: 180_000,
    teardownTimeout: 20_000,
    globalSetup: ['test/lab/leftovers.ts'],
    setupFiles: ['test/lab/coverage.ts'],
    reporters: ['default', './test/lab/outcome.ts'],
  },
});
