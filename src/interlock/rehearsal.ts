// The rehearsal: before the watcher is armed, a pulled cable on memory that guards nothing, again and again, so that the code
// which must be fast once in a node's life has been compiled by then. Neither TPM, disk nor kernel links are touched.
import { SecretArena } from '../host/arena.ts';
import type { Interface } from '../host/netlink.ts';
import { Board, moment, word } from './board.ts';
import { causes } from './causes.ts';
import { Stages } from './stages.ts';
import { Watch, type WatchOptions } from './watch.ts';

/** Quiet turns, and pulls; a young engine takes its time to find a function worth compiling. */
const quietTurns = 300;
const pulls = 60;

export function rehearse(
  options: Pick<WatchOptions, 'events' | 'queries' | 'interfaces' | 'wakeup' | 'tamper'>,
): void {
  using arena = SecretArena.allocate({ byteLength: 4096, allowSwappable: true });
  const plan = { levels: causes.map(() => 'purge' as const), tpm: null, disk: { statePath: '', blobs: [] } };
  const watchOf = (interfaces: readonly Interface[], board: Board, stages: Stages): Watch => {
    Atomics.store(board.words, word.mainBeat, board.now());
    return new Watch({
      ...options,
      interfaces,
      board,
      stages,
      tamper: [],
      adopt: null,
      pollMilliseconds: 0,
      heartbeatMilliseconds: 60_000,
      post: () => {},
    });
  };
  {
    const board = new Board();
    using stages = new Stages(arena, board, plan, true);
    const watch = watchOf(options.interfaces, board, stages);
    for (let n = 0; n < quietTurns && watch.lasts; n += 1) watch.turn(0);
  }
  // As if each interface had gone since: its counter is one behind what the kernel will say.
  const behind = options.interfaces.map((link) => ({ ...link, downCount: link.downCount - 1 }));
  for (let n = 0; n < pulls; n += 1) {
    const board = new Board();
    using stages = new Stages(arena, board, plan, true);
    watchOf(behind, board, stages).turn(0);
    if (board.moments[moment.memory] === 0) return; // Nothing is watched.
  }
}
