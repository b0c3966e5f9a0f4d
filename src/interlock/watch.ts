// What the watcher thread watches, and the zeroize that follows: link messages read in place, counters asked for as a
// backstop, inputs that become readable, the window, the main thread's beat. Decides on shared memory alone. A rehearsal
// is another one of these, on memory that guards nothing.
import { poll, read } from '../host/libc.ts';
import {
  EAGAIN,
  ENOBUFS,
  emptyReport,
  type Interface,
  interfaceOf,
  type LinkReport,
  linkDump,
  messageType,
  type NetlinkSocket,
  readLinkMessage,
} from '../host/netlink.ts';
import { type Board, nowMicros, phase, watchedLimit, windowState, word } from './board.ts';
import { causeNumber } from './causes.ts';
import { decide, isOlder, learn } from './decide.ts';
import type { Stages } from './stages.ts';
import { isPhysical } from './watched.ts';
import { differs, tellsAll, type Watched, watchedOf } from './watched-link.ts';

/** Posted to the main thread; the zeroize itself waits for no one to read it. */
export type WatcherEvent =
  | { readonly kind: 'armed'; readonly first: boolean }
  | { readonly kind: 'zeroized' }
  | {
      readonly kind: 'planned-flap';
      readonly interface: string;
      readonly flaps: number;
      readonly micros: number;
    }
  | { readonly kind: 'carrier'; readonly interface: string; readonly up: boolean; readonly micros: number }
  /** A physical interface has come under `any`; `link` is undefined where there is no room to watch it. */
  | { readonly kind: 'appeared'; readonly interface: string; readonly link: Interface | undefined };

export interface WatchOptions {
  readonly board: Board;
  readonly stages: Stages;
  readonly events: NetlinkSocket;
  readonly queries: NetlinkSocket;
  readonly interfaces: readonly Interface[];
  /** Eventfd with which the main thread wakes this one. */
  readonly wakeup: number;
  /** Descriptors that are tampered with when they become readable. */
  readonly tamper: readonly number[];
  /** Where physical interfaces are recognised that appear later; null where they are none of its business. */
  readonly adopt: string | null;
  readonly pollMilliseconds: number;
  /** A main thread that has been silent this long is a cause. */
  readonly heartbeatMilliseconds: number;
  readonly post: (event: WatcherEvent) => void;
}

const POLLIN = 1;
const pollLength = 8;
const cause = {
  lost: causeNumber('messages-lost'),
  unparsable: causeNumber('state-unparsable'),
  removed: causeNumber('interface-removed'),
  expiredDown: causeNumber('window-expired-down'),
  mainLost: causeNumber('main-lost'),
  tamper: causeNumber('tamper'),
} as const;

export class Watch {
  readonly #options: WatchOptions;
  readonly #board: Board;
  readonly #words: Int32Array;
  readonly #links: Watched[];
  readonly #report: LinkReport = emptyReport();
  readonly #descriptors: Uint8Array;
  readonly #descriptorsView: DataView;
  readonly #wakeupCount = new Uint8Array(8);
  readonly #window = { open: false, flapsLeft: 0 };
  /** Interfaces that are not physical, by index. */
  readonly #others = new Set<number>();
  /** Made beforehand: nothing is allocated between decision and wipe. */
  readonly #lateCauses = (): void => this.#lookOnceMore();
  #asked = 0;
  /** The stages have run: what is found now is noted beside the cause that won. */
  #late = false;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#board = options.board;
    this.#words = options.board.words;
    this.#links = options.interfaces.map((link, position) => watchedOf(link, position, this.#board));
    const polled = [options.events.fd, options.wakeup, ...options.tamper];
    this.#descriptors = new Uint8Array(polled.length * pollLength);
    this.#descriptorsView = new DataView(this.#descriptors.buffer);
    polled.forEach((fd, n) => {
      this.#descriptorsView.setInt32(n * pollLength, fd, true);
      this.#descriptorsView.setInt16(n * pollLength + 4, POLLIN, true);
    });
  }

  /** True while there is something to watch for. */
  get lasts(): boolean {
    return Atomics.load(this.#words, word.stop) === 0 && Atomics.load(this.#words, word.cause) === 0;
  }

  /** Waits for a message, a word from the main thread, an input, or the next poll, and deals with it. */
  turn(waitMilliseconds = this.#options.pollMilliseconds): void {
    const { pollMilliseconds, heartbeatMilliseconds, events, stages, wakeup } = this.#options;
    const ready = poll(this.#descriptors, this.#descriptors.length / pollLength, waitMilliseconds);
    Atomics.store(this.#words, word.watcherBeat, this.#board.now());
    const requested = Atomics.load(this.#words, word.request);
    if (requested !== 0) {
      this.#zeroize(requested, 0);
      return;
    }
    if (ready !== 0) {
      if (this.#returned(1) !== 0) read(wakeup, this.#wakeupCount, 8);
      this.drain(events);
      for (let n = 0; n < this.#options.tamper.length; n += 1)
        if (this.#returned(n + 2) !== 0) this.#zeroize(cause.tamper, 0);
    }
    // Also while messages about other interfaces never cease.
    if (this.#board.now() - this.#asked >= pollMilliseconds) {
      this.askForCounters();
      stages.keepReady();
    }
    this.#checkWindowEnd();
    if (this.#board.since(word.mainBeat) > heartbeatMilliseconds) this.#zeroize(cause.mainLost, 0);
  }

  /** Reads all that is queued. Lost messages need no guess: the counters that are asked for next tell what was missed. */
  drain(netlink: NetlinkSocket): void {
    for (;;) {
      const received = netlink.receive();
      if (received === -EAGAIN) return;
      if (received === -ENOBUFS) {
        this.askForCounters();
        if (this.#options.adopt !== null) this.#lookForNew();
        continue;
      }
      if (received <= 0) {
        this.#zeroize(cause.lost, 0);
        return;
      }
      for (let at = 0; at < received; ) {
        at = readLinkMessage(netlink.view, at, received, this.#report);
        if (at === -1) {
          this.#zeroize(cause.unparsable, 0);
          return;
        }
        this.#hear(netlink);
      }
    }
  }

  /** Asks for the state of each watched interface. */
  askForCounters(): void {
    const { queries } = this.#options;
    this.#asked = this.#board.now();
    for (const link of this.#links) {
      if (!queries.send(link.query)) {
        this.#zeroize(cause.lost, link.index);
        return;
      }
      const received = queries.receive();
      if (received <= 0) {
        this.#zeroize(cause.lost, link.index);
        return;
      }
      if (readLinkMessage(queries.view, 0, received, this.#report) === -1) {
        this.#zeroize(cause.unparsable, link.index);
        return;
      }
      if (this.#report.type === messageType.error) this.#gone(link);
      else this.#observe(link, queries);
      if (!this.lasts && !this.#late) return;
    }
  }

  /** An error answer: removed, or moved to another namespace. A message that says which is in the queue by now. */
  #gone(link: Watched): void {
    const { events } = this.#options;
    for (let received = events.receive(); received > 0; received = events.receive()) {
      for (let at = 0; at < received && at !== -1; ) {
        at = readLinkMessage(events.view, at, received, this.#report);
        if (at !== -1 && this.#report.index === link.index) this.#observe(link, events);
        if (!this.lasts && !this.#late) return;
      }
    }
    this.#zeroize(cause.removed, link.index);
  }

  #hear(netlink: NetlinkSocket): void {
    const report = this.#report;
    const link = this.#links.find((candidate) => candidate.index === report.index);
    if (link === undefined) {
      if (this.#options.adopt !== null) this.#consider(netlink, this.#options.adopt);
      return;
    }
    // What a bridge or a radio says of an interface tells no counters.
    if (report.family !== 0 || !tellsAll(report)) this.askForCounters();
    else if (report.type === messageType.deleteLink || !isOlder(link, report)) this.#observe(link, netlink);
  }

  #observe(link: Watched, netlink: NetlinkSocket): void {
    const report = this.#report;
    const detected = nowMicros();
    this.#window.open = this.#windowLasts() && (Atomics.load(this.#words, word.windowMask) & link.bit) !== 0;
    this.#window.flapsLeft = Atomics.load(this.#words, word.windowFlapsLeft);
    const verdict = decide(
      link,
      report,
      differs(netlink, report.nameAt, report.nameLength, link.name),
      differs(netlink, report.addressAt, report.addressLength, link.address),
      this.#window,
    );
    if (verdict > 0) {
      this.#zeroize(verdict, link.index, detected);
      return;
    }
    const wasUp = link.carrier === 1;
    learn(link, report);
    link.shared[1] = report.carrier;
    link.shared[2] = report.upCount;
    link.shared[3] = report.downCount;
    if (verdict < 0) {
      link.fell = true;
      Atomics.sub(this.#words, word.windowFlapsLeft, -verdict);
      this.#board.note(verdict, link.index, detected);
      this.#options.post({
        kind: 'planned-flap',
        interface: link.shownName,
        flaps: -verdict,
        micros: detected,
      });
    }
    if (wasUp !== (link.carrier === 1)) {
      this.#options.post({
        kind: 'carrier',
        interface: link.shownName,
        up: link.carrier === 1,
        micros: detected,
      });
    }
  }

  #zeroize(number: number, interfaceIndex: number, detected = nowMicros()): void {
    const ours = this.#options.stages.run(number, interfaceIndex, detected, this.#lateCauses);
    this.#board.note(number, interfaceIndex, detected);
    if (ours) this.#options.post({ kind: 'zeroized' });
  }

  /** What has come while the stages ran belongs to the same zeroize. */
  #lookOnceMore(): void {
    this.#late = true;
    const requested = Atomics.load(this.#words, word.request);
    if (requested !== 0 && requested !== Atomics.load(this.#words, word.cause)) this.#zeroize(requested, 0);
    this.drain(this.#options.events);
    this.askForCounters();
  }

  #windowLasts(): boolean {
    return (
      Atomics.load(this.#words, word.window) === windowState.open && this.#board.since(word.windowUntil) < 0
    );
  }

  /** An interface that fell in the window and has not come back when it ends counts as flapped. */
  #checkWindowEnd(): void {
    const state = Atomics.load(this.#words, word.window);
    if (state === windowState.closed || this.#windowLasts()) return;
    this.askForCounters(); // The carrier may have come back since the last look.
    const down = this.#links.find((link) => link.fell && (link.carrier === 0 || link.admin === 0));
    for (const link of this.#links) link.fell = false;
    if (down !== undefined) this.#zeroize(cause.expiredDown, down.index);
    Atomics.compareExchange(this.#words, word.window, state, windowState.closed);
  }

  /** Under `any`: an interface that is new here. */
  #consider(netlink: NetlinkSocket, sysfs: string): void {
    const report = this.#report;
    const { index } = report;
    if (report.type === messageType.deleteLink) this.#others.delete(index);
    if (report.type !== messageType.newLink || report.family !== 0 || !tellsAll(report)) return;
    if (this.#others.has(index)) return;
    const link = interfaceOf(netlink.buffer, report);
    const position = this.#links.length;
    if (!isPhysical(link.name, sysfs)) this.#others.add(index);
    else if (position >= watchedLimit) {
      this.#others.add(index);
      this.#options.post({ kind: 'appeared', interface: link.name, link: undefined });
    } else {
      this.#board.watch(position, link);
      this.#links.push(watchedOf(link, position, this.#board));
      this.#options.post({ kind: 'appeared', interface: link.name, link });
    }
  }

  #lookForNew(): void {
    const { queries, adopt } = this.#options;
    if (adopt === null || !queries.send(linkDump())) return;
    for (let received = queries.receive(); received > 0; received = queries.receive()) {
      for (let at = 0; at < received && at !== -1; ) {
        at = readLinkMessage(queries.view, at, received, this.#report);
        if (at === -1 || this.#report.type === messageType.done) return;
        if (!this.#links.some(({ index }) => index === this.#report.index)) this.#consider(queries, adopt);
      }
    }
  }

  /** What poll(2) says of the n-th descriptor. */
  #returned(n: number): number {
    return this.#descriptorsView.getInt16(n * pollLength + 6, true);
  }
}

/** Whether the watcher is armed now; false where it zeroized, or was stopped, before. */
export const arm = (board: Board): boolean =>
  Atomics.compareExchange(board.words, word.phase, phase.starting, phase.armed) === phase.starting;
