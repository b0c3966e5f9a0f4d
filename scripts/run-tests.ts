// Behind scripts/test: static checks, all tests, coverage; then why anything was skipped, and `N passed, N failed`.
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Outcome } from '../test/lab/outcome.ts';
import { coverageOf, needsHardware, percentage, ranges } from './coverage.ts';

const root = resolve(import.meta.dirname, '..');
const leastCoverage = 90;
const isLongSuite = process.env.ESOTERIC_LONG !== undefined;
/** A test that loops without end cannot be interrupted from within its process. The long suite has hundreds of runs of a daemon in it. */
const longestRunMilliseconds = (isLongSuite ? 240 : 45) * 60_000;
const timedOut = 124;
process.chdir(root);

const filters = process.argv.slice(2);
sweep();
const scratch = mkdtempSync(join(tmpdir(), `ea-test-${process.pid}-`));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(1));

const checks = [
  await check('format and lint', 'biome', 'check', '.'),
  await check('types', 'tsc'),
  await check('unused code', 'knip'),
];
const outcome = await runTests();
// The long suite is of few files, and what only computes takes eight times as long where it is measured.
const covered = isLongSuite ? undefined : await judgeCoverage();

const verdicts = covered === undefined ? checks : [...checks, covered];
const passed = outcome.passed + verdicts.filter((ok) => ok).length;
const failed = outcome.failed + verdicts.filter((ok) => !ok).length;
for (const { name, reason } of outcome.skipped) {
  console.log(`skipped: ${name}${reason === '' ? '' : ` (${reason})`}`);
}
if (outcome.skipped.length > 0) console.log(`${outcome.skipped.length} skipped`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

/** Removes what earlier runs left behind that were killed. */
function sweep(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^ea-test-([0-9]+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

/** Runs one of the checks; what it printed is shown only when it fails. */
async function check(what: string, tool: string, ...args: string[]): Promise<boolean> {
  const began = performance.now();
  const { status, output } = await run(tool, args, { capture: true });
  console.log(
    `${status === 0 ? 'passed' : 'FAILED'}: ${what} (${[tool, ...args].join(' ')}), ${secondsSince(began)}`,
  );
  if (status !== 0) console.log(output.trimEnd());
  return status === 0;
}

async function runTests(): Promise<Outcome> {
  const outcomeFile = join(scratch, 'outcome.json');
  const raw = join(scratch, 'coverage');
  const compiled = join(scratch, 'compiled');
  chmodSync(scratch, 0o755);
  for (const place of [raw, compiled]) {
    mkdirSync(place);
    chmodSync(place, 0o1777); // Processes of other users write there too.
  }
  const { status } = await run('vitest', ['run', ...filters], {
    capture: false,
    // Hundreds of processes would strip the same types. Lines are counted alike with it and without (a difference of 0.03 %).
    env: {
      TEST_OUTCOME: outcomeFile,
      NODE_COMPILE_CACHE: compiled,
      ...(isLongSuite ? {} : { NODE_V8_COVERAGE: raw }),
    },
  });
  if (status === timedOut)
    console.log(`The tests did not end within ${longestRunMilliseconds / 60_000} minutes.`);
  const written = readOutcome(outcomeFile);
  // A failure that belongs to no test: vitest itself, or processes that were left running.
  return status !== 0 && written.failed === 0 ? { ...written, failed: 1 } : written;
}

function readOutcome(path: string): Outcome {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Outcome;
  } catch {
    console.log('vitest ended without a result.');
    return { passed: 0, failed: 1, skipped: [] };
  }
}

/** Prints what no test reaches; false below the threshold, undefined where only some tests ran. */
async function judgeCoverage(): Promise<boolean | undefined> {
  const began = performance.now();
  const raw = join(scratch, 'coverage');
  const processes = readdirSync(raw).length;
  const files = await coverageOf(root, raw, join(scratch, 'report'));
  const total = percentage(files);
  console.log(
    `coverage: ${total.toFixed(1)} % of the lines of src/ (at least ${leastCoverage} % are asked for), of ${processes} processes and threads, ${secondsSince(began)}`,
  );
  if (filters.length > 0) return undefined;
  for (const file of files.filter(({ missed }) => missed.length > 0)) {
    console.log(`${percentage([file]).toFixed(0).padStart(4)} %  ${file.file}: ${ranges(file.missed)}`);
  }
  for (const [file, why] of Object.entries(needsHardware)) console.log(`   not counted: ${file} (${why})`);
  if (total >= leastCoverage) return true;
  console.log('FAILED: the tests reach too little of src/; no test runs the lines listed above.');
  return false;
}

function secondsSince(began: number): string {
  return `${((performance.now() - began) / 1000).toFixed(0)} s`;
}

interface RunOptions {
  readonly capture: boolean;
  readonly env?: NodeJS.ProcessEnv;
}

/** Runs a tool of node_modules/.bin on this Node; it ends with this process, however that ends. */
function run(
  tool: string,
  args: readonly string[],
  options: RunOptions,
): Promise<{ status: number; output: string }> {
  const { promise, resolve: settle } = Promise.withResolvers<{ status: number; output: string }>();
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', join(root, 'node_modules', '.bin', tool), ...args], {
    cwd: root,
    env: {
      ...process.env,
      ...options.env,
      PATH: `${join(process.execPath, '..')}:${process.env.PATH ?? ''}`,
    },
    stdio: options.capture ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
  });
  let output = '';
  const keep = (chunk: Buffer): void => {
    output += chunk.toString('utf8');
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  const limit = setTimeout(() => {
    child.kill('SIGKILL'); // vitest's watchdogs end its workers.
    settle({ status: timedOut, output });
  }, longestRunMilliseconds);
  child.on('error', (error) => settle({ status: 1, output: error.message }));
  child.on('close', (status) => {
    clearTimeout(limit);
    settle({ status: status ?? 1, output });
  });
  return promise;
}
