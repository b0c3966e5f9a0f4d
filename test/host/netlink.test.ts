import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { requireChild, runChild } from '../../src/host/child.ts';
import {
  ENODEV,
  emptyReport,
  type LinkReport,
  linkDeletion,
  linkDump,
  linkQuery,
  linkState,
  listInterfaces,
  messageType,
  NetlinkSocket,
  readLinkMessage,
} from '../../src/host/netlink.ts';
import { addCable, enterOwnNetwork, ip } from '../lab/namespace.ts';

beforeAll(() => enterOwnNetwork());
afterEach(async () => {
  await runChild('ip', ['link', 'delete', 'near0']);
});

interface Walk {
  readonly steps: number;
  readonly reports: LinkReport[];
}

/** Reads message after message as the watcher does. */
function walk(bytes: Uint8Array): Walk {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const report = emptyReport();
  const reports: LinkReport[] = [];
  let steps = 0;
  for (let at = 0; at < bytes.length; steps += 1) {
    const next = readLinkMessage(view, at, bytes.length, report);
    if (next === -1) break;
    expect(next).toBeGreaterThan(at);
    expect(report.nameLength).toBeGreaterThanOrEqual(0);
    expect(report.addressLength).toBeGreaterThanOrEqual(0);
    expect(report.nameAt + report.nameLength).toBeLessThanOrEqual(Math.max(bytes.length, report.nameAt));
    reports.push({ ...report });
    at = next;
  }
  return { steps, reports };
}

/** What the kernel says of the first interfaces, as one buffer. */
function dump(): Uint8Array {
  using netlink = new NetlinkSocket({ events: false });
  netlink.send(linkDump());
  return netlink.buffer.slice(0, netlink.receive());
}

describe('reading link messages', () => {
  it('ends on anything at all, in as many steps as there can be headers, and never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(walk(bytes).steps).toBeLessThanOrEqual(bytes.length / 16 + 1);
      }),
      { numRuns: 2000 },
    );
  });

  it('ends on real messages in which bytes were changed, and on parts of them', async () => {
    await addCable('near0', 'far0');
    const real = dump();
    expect(walk(real).reports.length).toBeGreaterThanOrEqual(2);
    const change = fc.tuple(fc.nat(real.length - 1), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), fc.nat(real.length), (changes, length) => {
        const bytes = real.slice(0, length);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        expect(walk(bytes).steps).toBeLessThanOrEqual(bytes.length / 16 + 1);
      }),
      { numRuns: 1500 },
    );
  });

  it.each([
    ['the carrier', 33, 4, { carrier: -1 }],
    ['the ups', 47, 7, { upCount: -1 }],
    ['the downs', 48, 4, { downCount: -1 }],
    ['the name', 3, 4, { nameLength: 0 }],
    ['the address', 1, 4, { addressLength: 0 }],
  ] as const)('takes %s for absent where the attribute has no room for it', (_, kind, size, expected) => {
    // The attribute is the last of the message and of the buffer: one byte more would be outside.
    const bytes = new Uint8Array(32 + 8);
    const view = new DataView(bytes.buffer);
    view.setUint16(4, messageType.newLink, true);
    view.setUint16(32 + 2, kind, true);
    view.setUint16(32, size, true);
    const whole = bytes.slice(0, 32 + size);
    new DataView(whole.buffer).setUint32(0, whole.length, true);
    expect(walk(whole).reports).toMatchObject([{ type: messageType.newLink, ...expected }]);
  });

  it('knows what is about the interface from what is about its place in a bridge', async () => {
    using events = new NetlinkSocket({ events: true });
    await ip('link', 'add', 'bridge0', 'type', 'bridge');
    await ip('link', 'add', 'port0', 'master', 'bridge0', 'type', 'veth', 'peer', 'name', 'port1');
    const families = new Set<number>();
    for (let received = events.receive(); received > 0; received = events.receive()) {
      for (const { family } of walk(events.buffer.slice(0, received)).reports) families.add(family);
    }
    expect([...families].toSorted()).toEqual([0, 7]);
    await ip('link', 'delete', 'bridge0');
    await ip('link', 'delete', 'port0');
  });
});

describe('the kernel over rtnetlink', () => {
  it('lists the interfaces as `ip` does', async () => {
    for (let pair = 0; pair < 12; pair += 1) await ip('link', 'add', `many${pair}`, 'type', 'veth');
    const { stdout } = await requireChild('ip', ['-json', '-details', '-statistics', 'link']);
    const theirs = JSON.parse(stdout.toString()) as {
      ifindex: number;
      ifname: string;
      address: string;
      carrier_up_count?: number;
      carrier_down_count?: number;
      flags: string[];
    }[];
    const ours = listInterfaces();
    expect(ours.map(({ index, name, address }) => ({ index, name, address }))).toEqual(
      theirs.map(({ ifindex, ifname, address }) => ({ index: ifindex, name: ifname, address })),
    );
    expect(ours.length).toBeGreaterThan(24);
    for (let pair = 0; pair < 12; pair += 1) await ip('link', 'delete', `many${pair}`);
  });

  it('tells the carrier and how often it came and went', async () => {
    await addCable('near0', 'far0');
    const look = () => listInterfaces().find(({ name }) => name === 'near0');
    const before = look();
    expect(before?.carrier).toBe(true);
    await ip('link', 'set', 'far0', 'down');
    expect(look()).toMatchObject({
      carrier: false,
      upCount: before?.upCount,
      downCount: (before?.downCount ?? 0) + 1,
    });
    await ip('link', 'set', 'far0', 'up');
    expect(look()).toMatchObject({ carrier: true, upCount: (before?.upCount ?? 0) + 1 });
  });

  it('answers a request with 0, or with why not', async () => {
    await addCable('near0', 'far0');
    const index = listInterfaces().find(({ name }) => name === 'near0')?.index ?? 0;
    using netlink = new NetlinkSocket({ events: false });
    expect(netlink.request(linkState(index, false))).toBe(0);
    expect(listInterfaces().find(({ name }) => name === 'near0')?.carrier).toBe(false);
    expect(netlink.request(linkDeletion(index))).toBe(0);
    expect(listInterfaces().map(({ name }) => name)).not.toContain('near0');
    expect(netlink.request(linkDeletion(index))).toBe(ENODEV);
    // Not acknowledged: what comes is not an acknowledgement, or nothing.
    expect(netlink.request(linkQuery(1))).toBe(74);
    expect(netlink.request(new Uint8Array(4))).not.toBe(0);
  });

  it('says that there is no socket where no descriptor is left', async () => {
    const program = `
      const { NetlinkSocket } = await import(${JSON.stringify(new URL('../../src/host/netlink.ts', import.meta.url).href)});
      const held = [];
      try { for (;;) held.push(new NetlinkSocket({ events: false })); } catch (error) { console.log(JSON.stringify(error)); }`;
    const { stdout } = await requireChild('prlimit', [
      '--nofile=64',
      process.execPath,
      '--input-type=module',
      '--eval',
      program,
    ]);
    expect(JSON.parse(stdout.toString())).toEqual({
      code: 'netlink-unavailable',
      message: 'An rtnetlink socket could not be opened: EMFILE.',
    });
  });
});
