// A kernel of a few links that answers as rtnetlink does, in memory: what the watcher hears of them, what it is told when it asks,
// and messages that are lost. Stands in for the kernel only where a hundred thousand storms are made; real ones are in flaps.test.ts.
import { EAGAIN, ENOBUFS, messageType, type NetlinkSocket, operstate } from '../../src/host/netlink.ts';

export interface FakeLink {
  readonly index: number;
  readonly carrier: number;
  readonly ups: number;
  readonly downs: number;
  readonly admin: number;
  readonly there: boolean;
}

const messageLength = 16 + 16 + 4 * 8;

export class FakeKernel {
  readonly links: FakeLink[];
  /** Messages that nobody has read yet, as the state of a link at their time. */
  queue: FakeLink[] = [];
  lost = false;
  readonly events: NetlinkSocket;
  readonly queries: NetlinkSocket;
  #asked = 0;

  /** `readable`: a descriptor that poll(2) always finds readable. */
  constructor(count: number, readable: number) {
    this.links = Array.from({ length: count }, (_, n) => ({
      index: n + 2,
      carrier: 1,
      ups: 1,
      downs: 0,
      admin: 1,
      there: true,
    }));
    this.events = this.#socket(readable, (answer) => {
      if (this.lost) {
        this.lost = false;
        return -ENOBUFS;
      }
      const next = this.queue.shift();
      return next === undefined ? -EAGAIN : answer(next);
    });
    this.queries = this.#socket(-1, (answer) => {
      const link = this.links.find(({ index }) => index === this.#asked);
      return link === undefined ? -EAGAIN : answer(link, true);
    });
  }

  /** Changes a link; `told`: with a message, as a veth does it. A TAP says nothing for up to a second. */
  change(n: number, change: Partial<FakeLink>, told: boolean): void {
    const link = this.links[n];
    if (link === undefined) return;
    const changed = { ...link, ...change };
    this.links[n] = changed;
    if (told) this.queue.push(changed);
  }

  /** The socket's queue overflows. */
  lose(): void {
    this.queue = [];
    this.lost = true;
  }

  #socket(
    fd: number,
    receive: (answer: (link: FakeLink, asked?: boolean) => number) => number,
  ): NetlinkSocket {
    const buffer = new Uint8Array(256);
    const view = new DataView(buffer.buffer);
    return {
      fd,
      buffer,
      view,
      send: (message) => {
        this.#asked = new DataView(message.buffer, message.byteOffset).getInt32(20, true);
        return true;
      },
      request: () => 0,
      receive: () => receive((link, asked) => writeMessage(view, link, asked === true)),
      [Symbol.dispose]: () => {},
    };
  }
}

function writeMessage(view: DataView, link: FakeLink, asked: boolean): number {
  const type = link.there ? messageType.newLink : asked ? messageType.error : messageType.deleteLink;
  view.setUint32(0, messageLength, true);
  view.setUint16(4, type, true);
  view.setUint8(16, 0);
  view.setInt32(20, link.index, true);
  view.setUint32(24, link.admin, true);
  const attribute = (at: number, kind: number, size: number): void => {
    view.setUint16(at, 4 + size, true);
    view.setUint16(at + 2, kind, true);
  };
  attribute(32, 33, 1);
  view.setUint8(36, link.carrier);
  attribute(40, 16, 1);
  view.setUint8(44, link.carrier === 1 ? operstate.up : 2);
  attribute(48, 47, 4);
  view.setUint32(52, link.ups, true);
  attribute(56, 48, 4);
  view.setUint32(60, link.downs, true);
  return messageLength;
}
