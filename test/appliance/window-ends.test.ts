// What the end of a maintenance window leaves in the custody log and asks of people, without a node around it: the log and the
// announcer are real, and each `Maintenance` is another process on the same state directory.
import { mkdirSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { Announcer } from '../../src/appliance/announce.ts';
import type { Attester } from '../../src/appliance/attester.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import { Maintenance, type MaintenanceOptions } from '../../src/appliance/maintenance.ts';
import { failedClaimsOfOwn } from '../../src/appliance/self-appraisal.ts';
import { type StateLayout, stateLayout } from '../../src/appliance/state-layout.ts';
import { windowsOf } from '../../src/appliance/windows.ts';
import { CustodyLog } from '../../src/custody/log.ts';
import type { Interlock } from '../../src/interlock/interlock.ts';
import { Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const window = { interfaces: ['eth0'], reason: 'r', opened: '2026-11-20T16:30:00Z', seconds: 60, flaps: 1 };
const closed = { kind: 'window-closed', why: 'the operator ended it', because: 'operator', window } as const;
const byZeroize = { ...closed, why: 'the node was zeroized', because: 'zeroized' } as const;

class Run implements Disposable {
  readonly layout: StateLayout;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
  readonly maintenance: Maintenance;
  readonly lines: string[] = [];

  constructor(name: string, options: Partial<MaintenanceOptions> = {}) {
    this.layout = stateLayout(scratch.at(name));
    mkdirSync(this.layout.spool, { recursive: true });
    const config = configSchema.parse({ node: { name, state_dir: this.layout.directory } });
    this.custody = CustodyLog.open(this.layout.custody);
    this.announcer = new Announcer(config, this.layout, (line) => this.lines.push(line));
    this.maintenance = new Maintenance({
      layout: this.layout,
      record: { node: name, tpm: null },
      custody: this.custody,
      announcer: this.announcer,
      interlock: () => ({ window: undefined, openWindow: () => window }) as unknown as Interlock,
      pause: () => {},
      resume: () => {},
      linkKeys: () => ({ wireguard: 'one' }),
      appraise: async () => null,
      zeroized: () => false,
      ...options,
    });
  }

  start(): void {
    this.maintenance.recover(this.custody.records());
    this.custody.append('started', {});
    this.maintenance.askAgain();
  }

  /** The alerts that were raised. */
  get raised(): string[] {
    return this.lines.filter((line) => line.includes(' [')).map((line) => line.replace(/^\S+ /, ''));
  }

  [Symbol.dispose](): void {
    this.announcer[Symbol.dispose]();
    this.custody.close();
  }
}

describe('a window that a zeroize ended', () => {
  it.each([
    ['whose end was recorded', true],
    ['whose node was killed before its end was recorded', false],
  ])('%s, is asked about when the node is back, once', (_, recorded) => {
    const name = `zeroized-${recorded}`;
    {
      using run = new Run(name);
      run.start();
      run.maintenance.begin(window);
      run.custody.append('zeroized', {});
      if (recorded) run.maintenance.closed(byZeroize, true);
      expect(run.raised).toEqual([]);
      expect(run.maintenance.asked).toHaveLength(recorded ? 1 : 0);
    }
    {
      using run = new Run(name);
      run.start();
      expect(run.raised).toHaveLength(1);
      expect(run.raised[0]).toContain('asks for new keys');
      expect(run.maintenance.asked.map(({ what }) => what)).toEqual(['rotate']);
      expect(windowsOf(run.custody.records())).toMatchObject([{ why: byZeroize.why }]);
    }
    using run = new Run(name);
    run.start();
    expect(run.raised).toEqual([]);
    expect(run.maintenance.asked).toHaveLength(1);
  });
});

describe('a window whose process died', () => {
  it('asks for no new keys where those of the new process are others', () => {
    {
      using run = new Run('volatile');
      run.start();
      run.maintenance.begin(window);
    }
    let key = 'one';
    using run = new Run('volatile', { linkKeys: () => ({ wireguard: key }) });
    run.maintenance.recover(run.custody.records());
    expect(run.lines.join()).toContain('its process ended');
    key = 'two';
    run.maintenance.askAgain();
    expect(run.raised).toEqual([]);
  });
});

describe('a criticality window', () => {
  it('is there although its begin cannot be recorded, and ends only where its end can be', () => {
    const forbidden = { reason: 'the election' };
    {
      using run = new Run('unrecorded');
      run.custody.close();
      expect(() => run.maintenance.forbid(600, 'the election')).toThrow('closed');
      expect(run.maintenance.forbidden).toMatchObject(forbidden);
      expect(() => run.maintenance.allow()).toThrow('closed');
      expect(run.maintenance.forbidden).toMatchObject(forbidden);
    }
    using run = new Run('unrecorded');
    expect(run.maintenance.forbidden).toMatchObject(forbidden);
    run.maintenance.allow();
    expect(run.maintenance.forbidden).toBeNull();
    expect([...run.custody.records()].map(({ event }) => event)).toEqual(['maintenance-allowed']);
  });
});

describe('the appraisal of its own that a node does after a window', () => {
  it('has failed where it cannot be done: that is recorded, and an alert tells it', async () => {
    using run = new Run('silent', { appraise: () => Promise.reject(new Error('The TPM does not answer.')) });
    run.maintenance.closed(closed, false);
    await run.maintenance.appraised;
    expect(run.raised[1]).toMatch(/critical.*not as it was enrolled/);
    expect([...run.custody.records()].at(-1)).toMatchObject({
      event: 'self-appraised',
      detail: { failed: [expect.stringContaining('The TPM does not answer.')] },
    });
  });

  it('is nothing of a node that is zeroized meanwhile: its TPM is not as it was, and is not to be', async () => {
    const { promise, resolve } = Promise.withResolvers<string[]>();
    let zeroized = false;
    using run = new Run('struck', { appraise: () => promise, zeroized: () => zeroized });
    run.maintenance.closed(closed, false);
    zeroized = true;
    resolve(['PCR policy: capped']);
    await run.maintenance.appraised;
    expect(run.raised).toHaveLength(1);
    expect([...run.custody.records()].at(-1)?.event).toBe('maintenance-ended');
  });

  it('cannot be done without the enrolment record, which a node with a TPM has', async () => {
    const layout = stateLayout(scratch.at('unenrolled'));
    const node = { layout, record: { tpm: {} }, keys: {} } as unknown as Attester;
    await expect(failedClaimsOfOwn(node)).rejects.toMatchObject({ code: 'enrolment-missing' });
    expect(await failedClaimsOfOwn({ ...node, keys: null })).toBeNull();
  });
});
