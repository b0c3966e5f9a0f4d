// How long programs take from start to end, as somebody at a shell sees it: bash starts them and reads the clock. Timed from here, each
// would cost two milliseconds more, because Node's process is large to fork, and that would flatter what is compared with them.
import { requireChild } from '../../src/host/child.ts';

const longestMilliseconds = 60_000;
/** EPOCHREALTIME has microseconds, behind a dot or a comma. What the programs print goes nowhere. */
const loop = `set -e
source "$1"
for ((round = 0; round < $2; round++)); do
  began=\${EPOCHREALTIME/[.,]/}
  work "$round" >/dev/null
  ended=\${EPOCHREALTIME/[.,]/}
  echo $((ended - began))
  if declare -F between >/dev/null; then between >/dev/null; fi
done`;

/**
 * Milliseconds of each run of the function `work` that a bash script defines; its argument is the number of the run, from 0. Where
 * the script defines `between`, that runs after each and is not timed.
 * @throws Failure `program-failed` when a program in it fails.
 */
export async function timeScript(
  script: string,
  runs: number,
  options: { readonly cwd: string; readonly env?: Readonly<Record<string, string>> },
): Promise<number[]> {
  const { stdout } = await requireChild('bash', ['-c', loop, 'bash', script, String(runs)], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    timeoutMilliseconds: longestMilliseconds,
  });
  return stdout
    .toString('latin1')
    .trim()
    .split('\n')
    .map((micros) => Number(micros) / 1000);
}
