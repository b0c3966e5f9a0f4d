// The watcher thread: hears of carrier changes on its own rtnetlink socket, decides on shared memory alone, and runs the
// zeroize stages itself. It waits in poll(2) for a message, a word from the main thread (eventfd), or the next
// millisecond, in which it asks for the counters as a backstop, since the kernel may delay or merge carrier events.
import { parentPort, workerData } from 'node:worker_threads';
import { type ArenaRegion, SecretArena } from '../host/arena.ts';
import { poll, read } from '../host/libc.ts';
import {
  EAGAIN,
  ENOBUFS,
  emptyReport,
  type Interface,
  type LinkReport,
  linkQuery,
  messageType,
  NetlinkSocket,
  readLinkMessage,
} from '../host/netlink.ts';
import { Board, moment, nowMicros, phase, windowState, word } from './board.ts';
import { causeNumber } from './causes.ts';
import { decide, isOlder } from './decide.ts';
import { type StagePlan, Stages } from './stages.ts';

export interface WatcherInput {
  readonly arena: ArenaRegion;
  readonly board: SharedArrayBuffer;
  readonly wakeup: number;
  readonly interfaces: readonly Interface[];
  readonly plan: StagePlan;
  readonly pollMilliseconds: number;
  /** A main thread that has been silent this long is a cause. */
  readonly heartbeatMilliseconds: number;
}

/** Posted to the main thread; the zeroize itself waits for no one to read it. */
export type WatcherEvent =
  | { readonly kind: 'armed' }
  | { readonly kind: 'zeroized' }
  | {
      readonly kind: 'planned-flap';
      readonly interface: string;
      readonly flaps: number;
      readonly micros: number;
    }
  | { readonly kind: 'carrier'; readonly interface: string; readonly up: boolean; readonly micros: number };

const POLLIN = 1;
const input = workerData as WatcherInput;
const board = new Board(input.board);
const { words } = board;
using stages = new Stages(SecretArena.attach(input.arena), board, input.plan);
stages.connect();
using events = new NetlinkSocket({ events: true });
using queries = new NetlinkSocket({ events: false });

const links = input.interfaces.map((link, position) => ({
  position,
  bit: 1 << position,
  index: link.index,
  name: Buffer.from(link.name),
  shownName: link.name,
  address: Buffer.from(link.address.replaceAll(':', ''), 'hex'),
  carrier: link.carrier ? 1 : 0,
  upCount: link.upCount,
  downCount: link.downCount,
  query: linkQuery(link.index),
  shared: board.watched(position),
  /** It has lost its carrier inside the window that is open. */
  fell: false,
}));
type Watched = (typeof links)[number];

const report = emptyReport();
const descriptors = new Uint8Array(16);
const descriptorsView = new DataView(descriptors.buffer);
descriptorsView.setInt32(0, events.fd, true);
descriptorsView.setInt16(4, POLLIN, true);
descriptorsView.setInt32(8, input.wakeup, true);
descriptorsView.setInt16(12, POLLIN, true);
const wakeupCount = new Uint8Array(8);
const window = { open: false, flapsLeft: 0 };

const post = (event: WatcherEvent): void => parentPort?.postMessage(event);

function zeroize(cause: number, interfaceIndex: number, detected: number): void {
  if (stages.run(cause, interfaceIndex, detected)) post({ kind: 'zeroized' });
}

/** Whether the bytes at `at` of the message differ from what is known. Absent means unchanged. */
function differs(netlink: NetlinkSocket, at: number, length: number, known: Uint8Array): boolean {
  if (length === 0) return false;
  if (length !== known.length) return true;
  for (let n = 0; n < length; n += 1) if (netlink.buffer[at + n] !== known[n]) return true;
  return false;
}

function windowLasts(): boolean {
  return Atomics.load(words, word.window) === windowState.open && board.since(word.windowUntil) < 0;
}

function observe(link: Watched, netlink: NetlinkSocket): void {
  const detected = nowMicros();
  window.open = windowLasts() && (Atomics.load(words, word.windowMask) & link.bit) !== 0;
  window.flapsLeft = Atomics.load(words, word.windowFlapsLeft);
  const verdict = decide(
    link,
    report,
    differs(netlink, report.nameAt, report.nameLength, link.name),
    differs(netlink, report.addressAt, report.addressLength, link.address),
    window,
  );
  if (verdict > 0) {
    zeroize(verdict, link.index, detected);
    return;
  }
  const wasUp = link.carrier === 1;
  link.carrier = report.carrier;
  link.upCount = report.upCount;
  link.downCount = report.downCount;
  link.shared[1] = report.carrier;
  link.shared[2] = report.upCount;
  link.shared[3] = report.downCount;
  if (verdict < 0) {
    link.fell = true;
    Atomics.sub(words, word.windowFlapsLeft, -verdict);
    post({ kind: 'planned-flap', interface: link.shownName, flaps: -verdict, micros: detected });
  }
  if (wasUp !== (link.carrier === 1)) {
    post({ kind: 'carrier', interface: link.shownName, up: link.carrier === 1, micros: detected });
  }
}

/** Reads all that is queued. Lost messages need no guess: the counters that are asked for next tell what was missed. */
function drain(netlink: NetlinkSocket): void {
  for (;;) {
    const received = netlink.receive();
    if (received === -EAGAIN) return;
    if (received === -ENOBUFS) {
      askForCounters();
      continue;
    }
    if (received <= 0) {
      zeroize(causeNumber('messages-lost'), 0, nowMicros());
      return;
    }
    for (let at = 0; at < received; ) {
      at = readLinkMessage(netlink.view, at, received, report);
      if (at === -1) {
        zeroize(causeNumber('state-unparsable'), 0, nowMicros());
        return;
      }
      const link = links.find((candidate) => candidate.index === report.index);
      if (link === undefined) continue;
      // What a bridge or a radio says of an interface tells no counters.
      if (report.family !== 0 || !tellsAll(report)) askForCounters();
      else if (report.type === messageType.deleteLink || !isOlder(link, report)) observe(link, netlink);
    }
  }
}

const tellsAll = ({ type, carrier, upCount, downCount }: LinkReport): boolean =>
  type === messageType.deleteLink || (carrier !== -1 && upCount !== -1 && downCount !== -1);

let asked = 0;
function askForCounters(): void {
  asked = board.now();
  for (const link of links) {
    if (!queries.send(link.query)) {
      zeroize(causeNumber('messages-lost'), link.index, nowMicros());
      return;
    }
    const received = queries.receive();
    if (received <= 0) {
      zeroize(causeNumber('messages-lost'), link.index, nowMicros());
      return;
    }
    if (readLinkMessage(queries.view, 0, received, report) === -1) {
      zeroize(causeNumber('state-unparsable'), link.index, nowMicros());
      return;
    }
    // An error answer means that the interface is not in this namespace any more: removed, or moved to another.
    if (report.type === messageType.error) {
      zeroize(causeNumber('interface-removed'), link.index, nowMicros());
      return;
    }
    observe(link, queries);
  }
}

/** An interface that fell in the window and has not come back when it ends counts as flapped. */
function checkWindowEnd(): void {
  const state = Atomics.load(words, word.window);
  if (state === windowState.closed || windowLasts()) return;
  askForCounters(); // The carrier may have come back since the last look.
  const down = links.find((link) => link.fell && link.carrier === 0);
  for (const link of links) link.fell = false;
  if (down !== undefined) zeroize(causeNumber('window-expired-down'), down.index, nowMicros());
  Atomics.compareExchange(words, word.window, state, windowState.closed);
}

askForCounters();
board.moments[moment.armed] = nowMicros();
Atomics.store(words, word.watcherBeat, board.now());
if (Atomics.compareExchange(words, word.phase, phase.starting, phase.armed) === phase.starting) {
  post({ kind: 'armed' });
}
while (Atomics.load(words, word.stop) === 0 && Atomics.load(words, word.cause) === 0) {
  const ready = poll(descriptors, 2, input.pollMilliseconds);
  Atomics.store(words, word.watcherBeat, board.now());
  const requested = Atomics.load(words, word.request);
  if (requested !== 0) zeroize(requested, 0, nowMicros());
  else {
    if (descriptorsView.getInt16(14, true) !== 0) read(input.wakeup, wakeupCount, 8);
    if (ready !== 0) drain(events);
    // Also while messages about other interfaces never cease.
    if (board.now() - asked >= input.pollMilliseconds) askForCounters();
  }
  checkWindowEnd();
  if (board.since(word.mainBeat) > input.heartbeatMilliseconds) {
    zeroize(causeNumber('main-lost'), 0, nowMicros());
  }
}
Atomics.compareExchange(words, word.phase, phase.armed, phase.stopped);
