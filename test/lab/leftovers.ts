// Tests leave nothing running: a process that carries the run's mark in its environment when all tests are over fails the
// run, and is killed. The mark tells this run from others on the same machine.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const mark = 'ESOTERIC_APPLIANCE_TEST_RUN';

/** Vitest's global setup: marks the run, and returns the teardown that looks for what is left. */
export default function watchForLeftovers(): () => Promise<void> {
  const run = `${process.pid}-${Date.now()}`;
  process.env[mark] = run;
  return async () => {
    let left = markedProcesses(run);
    // What has been told to end may need a moment.
    for (let wait = 0; left.length > 0 && wait < 40; wait++) {
      await sleep(50);
      left = markedProcesses(run);
    }
    if (left.length === 0) return;
    for (const { pid } of left) process.kill(pid, 'SIGKILL');
    const list = left.map(({ pid, command }) => `  ${pid} ${command}`).join('\n');
    throw new Error(`The tests left processes running (they have been killed):\n${list}`);
  };
}

/** The processes of the run, vitest's own left out. */
function markedProcesses(run: string): { pid: number; command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name) && name !== String(process.pid))
    .flatMap((pid) => {
      try {
        if (!readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`${mark}=${run}`)) return [];
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        return /^vitest|node_modules\/vitest\//.test(command) ? [] : [{ pid: Number(pid), command }];
      } catch {
        return []; // It ended meanwhile, or belongs to somebody else.
      }
    });
}
