#!/usr/bin/env node
// The entry. `--version` is answered before anything is loaded; everything else goes to the program.
import { readFileSync } from 'node:fs';

if (process.argv.some((word) => word === '--version' || word === '-V')) {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  process.stdout.write(`${(JSON.parse(manifest) as { version: string }).version}\n`);
} else {
  const { runProgram } = await import('./program.ts');
  process.exitCode = await runProgram(process.argv.slice(2));
}
