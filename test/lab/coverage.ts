// Vitest ends its test processes by SIGTERM, before Node writes coverage at exit. So each test file writes its own when its
// last hook has run; child processes and worker threads that end by themselves do so without help.
import { takeCoverage } from 'node:v8';
import { afterAll } from 'vitest';

if (process.env.NODE_V8_COVERAGE !== undefined) afterAll(() => takeCoverage());
