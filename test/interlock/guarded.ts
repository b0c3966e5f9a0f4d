// A process that guards interfaces until it is told to end (its standard input closes), so that a test can stop it as a whole:
// `node guarded.ts FLAPS NAME…`, with a maintenance window for that many flaps. Writes "armed", then the outcome of a
// zeroize or the number of planned flaps, one a line.
import { setTimeout as sleep } from 'node:timers/promises';
import { Guard } from './guard.ts';

const [flaps, ...interfaces] = process.argv.slice(2);
const guard = await Guard.start({
  interfaces,
  heartbeatMilliseconds: 60_000,
  plannedFlapsPerHour: 1_000_000,
});
if (Number(flaps) > 0)
  guard.interlock.openWindow({ interfaces: [], seconds: 60, flaps: Number(flaps), reason: 'a test' });
let ended = false;
process.stdin.on('end', () => {
  ended = true;
});
process.stdin.resume();
process.stdout.write('armed\n');
while (!ended && guard.outcomes.length === 0) await sleep(5);
const planned = guard.heard('planned-flap').reduce((sum, event) => sum + event.flaps, 0);
process.stdout.write(`${JSON.stringify(guard.outcomes[0] ?? { planned })}\n`);
await guard[Symbol.asyncDispose]();
process.stdin.destroy();
