import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { emptyReport, type LinkReport, messageType, operstate } from '../../src/host/netlink.ts';
import { causeNamed, causeNumber, causes } from '../../src/interlock/causes.ts';
import { decide, isOlder, type Known, learn } from '../../src/interlock/decide.ts';

const closed = { open: false, flapsLeft: 0 };
const open = (flapsLeft: number) => ({ open: true, flapsLeft });
const up: Known = { carrier: 1, upCount: 5, downCount: 4, admin: 1, operational: 1 };
const down: Known = { carrier: 0, upCount: 5, downCount: 5, admin: 1, operational: 0 };

const report = (carrier: number, upCount: number, downCount: number): LinkReport => ({
  ...emptyReport(),
  type: messageType.newLink,
  admin: 1,
  operstate: operstate.up,
  index: 2,
  carrier,
  upCount,
  downCount,
});

function verdict(...args: Parameters<typeof decide>): string | number {
  const number = decide(...args);
  return number > 0 ? (causeNamed(number) ?? 'unnamed') : number;
}

describe('the decision', () => {
  it.each([
    ['nothing has changed', up, report(1, 5, 4), closed, 0],
    ['the carrier came', down, report(1, 6, 5), closed, 0],
    ['it stays down', down, report(0, 5, 5), closed, 0],
    ['the carrier went', up, report(0, 5, 5), closed, 'link-flap'],
    ['down and up came as one message', up, report(1, 6, 5), closed, 'link-flap'],
    ['up and down came as one message', down, report(0, 6, 6), closed, 'link-flap'],
    ['the bit fell before its counter', up, report(0, 5, 4), closed, 'link-flap'],
    ['the carrier went in a window', up, report(0, 5, 5), open(1), -1],
    ['three flaps came as one message in a window', up, report(1, 8, 7), open(3), -3],
    ['three flaps came where two were left', up, report(1, 8, 7), open(2), 'window-exceeded'],
    ['a flap came where none was left', up, report(0, 5, 5), open(0), 'window-exceeded'],
    ['nothing happened in a window', up, report(1, 5, 4), open(0), 0],
    ['the carrier is not told', up, report(-1, 5, 4), open(9), 'state-unparsable'],
    ['the ups are not told', up, report(1, -1, 4), open(9), 'state-unparsable'],
    ['the downs are not told', up, report(1, 5, -1), open(9), 'state-unparsable'],
    ['the downs went back', up, report(1, 5, 3), open(9), 'state-unparsable'],
    ['the ups went back', up, report(1, 4, 4), open(9), 'state-unparsable'],
  ] as const)('when %s', (_, known, seen, window, expected) => {
    expect(verdict(known, seen, false, false, window)).toBe(expected);
  });

  it.each([
    ['set down while its carrier stays', up, { admin: 0 }, closed, 'interface-down'],
    ['set down in a window', up, { admin: 0 }, open(1), -1],
    ['set down where no flap is left', up, { admin: 0 }, open(0), 'window-exceeded'],
    ['down already', { ...up, admin: 0 }, { admin: 0 }, closed, 0],
    ['set up', { ...up, admin: 0 }, { admin: 1 }, closed, 0],
    ['dormant while its carrier stays', up, { operstate: 5 }, closed, 'operstate-lost'],
    ['held down from below', up, { operstate: 3 }, closed, 'operstate-lost'],
    ['still dormant', { ...up, operational: 0 }, { operstate: 5 }, closed, 0],
    ['silent about its state', up, { operstate: operstate.unknown }, closed, 0],
  ] as const)('when the interface is %s', (_, known, change, window, expected) => {
    expect(verdict(known, { ...report(1, 5, 4), ...change }, false, false, window)).toBe(expected);
  });

  it('counts a carrier that went with its state once, although the state follows late', () => {
    const known: Known = { ...up };
    const steps = [
      report(0, 5, 5),
      { ...report(0, 5, 5), operstate: 2 },
      { ...report(1, 6, 5), operstate: 2 },
    ];
    const counted = [...steps, report(1, 6, 5)].map((seen) => {
      const result = decide(known, seen, false, false, open(9));
      learn(known, seen);
      return result;
    });
    expect(counted).toEqual([-1, 0, 0, 0]);
    expect(known).toEqual({ carrier: 1, upCount: 6, downCount: 5, admin: 1, operational: 1 });
  });

  it('takes removal, a new name and a new address for causes, window or not, in this order', () => {
    const gone = { ...report(1, 5, 4), type: messageType.deleteLink };
    expect(verdict(up, gone, true, true, open(9))).toBe('interface-removed');
    expect(verdict(up, { ...gone, moved: 1 }, true, true, open(9))).toBe('interface-moved');
    expect(verdict(up, report(1, 5, 4), true, true, open(9))).toBe('interface-renamed');
    expect(verdict(up, report(1, 5, 4), false, true, open(9))).toBe('interface-address-changed');
  });

  it('counts right across the wrap of the counters', () => {
    const last: Known = { ...up, upCount: 0xffff_ffff, downCount: 0xffff_ffff };
    expect(verdict(last, report(1, 1, 1), false, false, open(5))).toBe(-2);
    expect(isOlder(last, report(1, 1, 1))).toBe(false);
    expect(isOlder({ ...last, upCount: 1, downCount: 1 }, report(1, 0xffff_ffff, 0xffff_ffff))).toBe(true);
  });

  it('never lets a lost carrier pass outside a window, and counts each one inside', () => {
    const count = fc.integer({ min: 0, max: 0xffff_ffff });
    fc.assert(
      fc.property(count, count, fc.nat(50), fc.nat(60), fc.boolean(), (ups, downs, falls, left, isOpen) => {
        const seen = report(1, (ups + falls) >>> 0, (downs + falls) >>> 0);
        const result = decide({ ...up, upCount: ups, downCount: downs }, seen, false, false, {
          open: isOpen,
          flapsLeft: left,
        });
        if (falls === 0) expect(result).toBe(0);
        else if (!isOpen) expect(result).toBe(causeNumber('link-flap'));
        else expect(result).toBe(falls > left ? causeNumber('window-exceeded') : -falls);
      }),
    );
  });

  it('knows each cause by its number, and no cause by another', () => {
    for (const cause of causes) expect(causeNamed(causeNumber(cause))).toBe(cause);
    expect(causeNamed(0)).toBeUndefined();
    expect(causeNamed(causes.length + 1)).toBeUndefined();
  });
});
