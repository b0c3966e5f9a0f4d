// The watcher thread: rehearses, arms itself, and watches until it is stopped or has zeroized. It waits in poll(2) for a
// message, a word from the main thread (eventfd), or the next millisecond, in which it asks for the counters as a
// backstop, since the kernel may delay or merge carrier events.
import { parentPort, workerData } from 'node:worker_threads';
import { type ArenaRegion, SecretArena } from '../host/arena.ts';
import { type Interface, NetlinkSocket } from '../host/netlink.ts';
import { runFirst } from '../host/scheduling.ts';
import { Board, moment, nowMicros, phase, word } from './board.ts';
import { rehearse } from './rehearsal.ts';
import { type StagePlan, Stages } from './stages.ts';
import { arm, Watch, type WatcherEvent } from './watch.ts';

export interface WatcherInput {
  readonly arena: ArenaRegion;
  readonly board: SharedArrayBuffer;
  readonly wakeup: number;
  readonly tamper: readonly number[];
  readonly interfaces: readonly Interface[];
  readonly adopt: string | null;
  readonly plan: StagePlan;
  readonly pollMilliseconds: number;
  readonly heartbeatMilliseconds: number;
}

const input = workerData as WatcherInput;
const board = new Board(input.board);
const post = (event: WatcherEvent): void => parentPort?.postMessage(event);
using stages = new Stages(SecretArena.attach(input.arena), board, input.plan);
stages.connect();
using queries = new NetlinkSocket({ events: false });
{
  using events = new NetlinkSocket({ events: true });
  rehearse({ ...input, events, queries });
}
using events = new NetlinkSocket({ events: true });
const watch = new Watch({ ...input, board, stages, events, queries, post });
const first = runFirst();
watch.askForCounters();
board.moments[moment.armed] = nowMicros();
Atomics.store(board.words, word.watcherBeat, board.now());
if (arm(board)) post({ kind: 'armed', first });
while (watch.lasts) watch.turn();
Atomics.compareExchange(board.words, word.phase, phase.armed, phase.stopped);
