import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { listInterfaces, NetlinkSocket } from '../../src/host/netlink.ts';
import { rehearse } from '../../src/interlock/rehearsal.ts';
import { addCable, enterOwnNetwork, ip } from '../lab/namespace.ts';

describe('the rehearsal', () => {
  beforeAll(() => enterOwnNetwork());
  beforeEach(() => addCable('near0', 'far0'));
  afterEach(() => ip('link', 'delete', 'far0'));

  it('changes no interface and writes no file, whatever is watched', () => {
    using events = new NetlinkSocket({ events: true });
    using queries = new NetlinkSocket({ events: false });
    const before = listInterfaces();
    const all = { events, queries, wakeup: -1, tamper: [], interfaces: before };
    rehearse(all);
    rehearse({ ...all, interfaces: [] });
    expect(listInterfaces()).toEqual(before);
  });
});
