import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { setCable } from '../lab/cable.ts';
import { addCable, enterOwnNetwork, ip, Tap } from '../lab/namespace.ts';
import { Guard, until } from './guard.ts';

const window = { interfaces: ['near0'], seconds: 60, flaps: 2, reason: 'replace the cable' };

/** The watcher is a thread of its own: this one may go on only when it has seen the carrier. */
async function carrier(guard: Guard, up: boolean): Promise<void> {
  await until(`carrier ${up}`, () => (guard.heard('carrier').at(-1)?.up === up ? true : undefined));
}

async function flap(guard: Guard): Promise<void> {
  setCable('far0', 'down');
  await carrier(guard, false);
  setCable('far0', 'up');
  await carrier(guard, true);
}

describe('a maintenance window', () => {
  beforeAll(() => enterOwnNetwork());
  beforeEach(() => addCable('near0', 'far0'));
  afterEach(() => ip('link', 'delete', 'far0'));

  it('lets an announced flap pass: nothing is wiped, it is counted and told', async () => {
    await using guard = await Guard.start();
    expect(guard.interlock.openWindow(window)).toMatchObject(window);
    await flap(guard);
    expect(guard.wiped).toBe(false);
    expect(guard.heard('planned-flap')).toMatchObject([{ interface: 'near0', flaps: 1 }]);
    expect(guard.heard('carrier').map(({ up }) => up)).toEqual([false, true]);
    expect(guard.interlock.status().window).toMatchObject({ flapsLeft: 1, reason: window.reason });
    expect(guard.interlock.status().window?.secondsLeft).toBeGreaterThan(55);
    expect(guard.interlock.window?.interfaces).toEqual(['near0']);
    guard.interlock.closeWindow('the work is done');
    expect(guard.heard('window-closed')).toMatchObject([{ why: 'the work is done', window }]);
    expect(guard.interlock.window).toBeUndefined();
    await sleep(20);
    expect(guard.wiped).toBe(false);
    setCable('far0', 'down');
    expect((await guard.struck()).cause).toBe('link-flap');
  });

  it('spans all watched interfaces where none is named, and only those named otherwise', async () => {
    await addCable('near1', 'far1');
    await using guard = await Guard.start({ interfaces: ['near0', 'near1'] });
    expect(guard.interlock.openWindow({ ...window, interfaces: [] }).interfaces).toEqual(['near0', 'near1']);
    guard.interlock.closeWindow('again, for one');
    await until('the watcher to close it', () => {
      try {
        return guard.interlock.openWindow(window);
      } catch {
        return undefined;
      }
    });
    setCable('far1', 'down');
    expect(await guard.struck()).toMatchObject({ cause: 'link-flap', interface: 'near1' });
    await ip('link', 'delete', 'far1');
  });

  it('is exceeded by one flap more than announced', async () => {
    await using guard = await Guard.start();
    guard.interlock.openWindow({ ...window, flaps: 1 });
    await flap(guard);
    setCable('far0', 'down');
    expect(await guard.struck()).toMatchObject({ cause: 'window-exceeded', interface: 'near0' });
    expect(guard.wiped).toBe(true);
  });

  it('is exceeded by flaps that the kernel merges, each of which its counters tell', async () => {
    using tap = new Tap('tap0');
    await ip('link', 'set', 'tap0', 'up');
    await using guard = await Guard.start({ interfaces: ['tap0'], pollMilliseconds: 100 });
    guard.interlock.openWindow({ ...window, interfaces: ['tap0'], flaps: 2 });
    await sleep(20);
    for (let n = 0; n < 3; n += 1) {
      tap.carrier(false);
      tap.carrier(true);
    }
    expect((await guard.struck()).cause).toBe('window-exceeded');
  });

  it('wipes when it expires while the cable is still out', async () => {
    await using guard = await Guard.start();
    guard.interlock.openWindow({ ...window, seconds: 0.3 });
    setCable('far0', 'down');
    await carrier(guard, false);
    expect(guard.wiped).toBe(false);
    expect(await guard.struck()).toMatchObject({ cause: 'window-expired-down', interface: 'near0' });
    expect(guard.wiped).toBe(true);
  });

  it('wipes when it is closed while the cable is still out', async () => {
    await using guard = await Guard.start();
    guard.interlock.openWindow(window);
    setCable('far0', 'down');
    await carrier(guard, false);
    guard.interlock.closeWindow('too early');
    expect((await guard.struck()).cause).toBe('window-expired-down');
  });

  it('expires without harm while the cable is in, and says so; what flaps then is unplanned', async () => {
    await using guard = await Guard.start({ heartbeatMilliseconds: 1000 });
    guard.interlock.openWindow({ ...window, seconds: 0.2 });
    await flap(guard);
    const [closed] = await until('the window to expire', () => {
      const heard = guard.heard('window-closed');
      return heard.length > 0 ? heard : undefined;
    });
    expect(closed?.why).toBe('it expired');
    expect(guard.wiped).toBe(false);
    setCable('far0', 'down');
    expect((await guard.struck()).cause).toBe('link-flap');
  });

  it('ends without harm although a socket that had no cable before has none now', async () => {
    setCable('far0', 'down');
    await using guard = await Guard.start();
    guard.interlock.openWindow(window);
    guard.interlock.closeWindow('nothing was done');
    await sleep(30);
    expect(guard.outcomes).toEqual([]);
    setCable('far0', 'up');
    await carrier(guard, true);
    expect(guard.wiped).toBe(false);
  });

  it('ends when an interface flaps more often than the hourly limit, and the next flap is unplanned', async () => {
    await using guard = await Guard.start({ plannedFlapsPerHour: 3 });
    expect(guard.interlock.openWindow({ ...window, flaps: 2 })).toMatchObject({ flapsThisHour: 2 });
    await flap(guard);
    guard.interlock.closeWindow('one of three is used up');
    await until('that to be seen', () => (guard.interlock.window === undefined ? true : undefined));
    await sleep(50);
    const again = { ...window, interfaces: ['near0', 'near0'], flaps: 10 };
    expect(guard.interlock.openWindow(again)).toMatchObject({
      interfaces: ['near0'],
      flaps: 10,
      flapsThisHour: 2,
    });
    for (let n = 0; n < 2; n += 1) await flap(guard);
    expect(guard.interlock.window).toBeDefined();
    // Down and up at one go, so that the cable is in again when this thread hears of the fourth.
    setCable('far0', 'down');
    setCable('far0', 'up');
    await until('the window to end', () => (guard.interlock.window === undefined ? true : undefined));
    expect(guard.heard('window-closed').at(-1)?.why).toContain('more than 3 planned flaps');
    await sleep(20);
    expect(guard.wiped).toBe(false);
    expect(() => guard.interlock.openWindow(window)).toThrow(
      expect.objectContaining({ code: 'window-refused', remedy: expect.stringContaining('hour') }),
    );
    setCable('far0', 'down');
    expect((await guard.struck()).cause).toBe('link-flap');
  });

  it('is refused while another is open, for an interface that is not watched, and closing none is, too', async () => {
    await using guard = await Guard.start();
    expect(() => guard.interlock.closeWindow('none')).toThrow(
      expect.objectContaining({ code: 'window-closed' }),
    );
    expect(() => guard.interlock.openWindow({ ...window, interfaces: ['far0'] })).toThrow(
      expect.objectContaining({
        code: 'interface-missing',
        kept: 'No window was opened: every flap counts, as before.',
        remedy: expect.stringContaining('Name one of: '),
      }),
    );
    guard.interlock.openWindow(window);
    expect(() => guard.interlock.openWindow(window)).toThrow(
      expect.objectContaining({ code: 'window-open', message: expect.stringContaining(window.reason) }),
    );
  });

  it('is ended by a zeroize, whatever its cause, once, and that is told after the zeroize', async () => {
    for (const seconds of [60, 0.3]) {
      await using guard = await Guard.start({ heartbeatMilliseconds: 1000 });
      guard.interlock.openWindow({ ...window, seconds });
      setCable('far0', 'down');
      if (seconds === 60) await guard.interlock.zeroize('operator');
      expect((await guard.struck()).cause).toBe(seconds === 60 ? 'operator' : 'window-expired-down');
      expect(guard.interlock.window).toBeUndefined();
      await sleep(150);
      expect(guard.heard('window-closed')).toMatchObject([
        { why: 'the node was zeroized', because: 'zeroized', window: { reason: window.reason } },
      ]);
      setCable('far0', 'up');
    }
  });

  it('does not hold back the operator, nor a removal', async () => {
    await using guard = await Guard.start();
    guard.interlock.openWindow(window);
    expect(await guard.interlock.zeroize('operator')).toMatchObject({ cause: 'operator', level: 'lock' });
    await using other = await Guard.start();
    other.interlock.openWindow({ ...window, flaps: 100 });
    await ip('link', 'set', 'near0', 'address', '02:00:00:00:00:09');
    expect((await other.struck()).cause).toBe('interface-address-changed');
  });
});
