// Alerts that the spool does not take. It is a directory that is not there yet.
import { mkdirSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import type { Severity } from '../../src/alerts/alert.ts';
import { takeJobs } from '../../src/alerts/spool.ts';
import { Announcer } from '../../src/appliance/announce.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import { Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

function announcing(name: string) {
  const lines: string[] = [];
  const layout = stateLayout(scratch.at(name));
  const config = configSchema.parse({ node: { name, state_dir: layout.directory } });
  const announcer = new Announcer(config, layout, (line) => lines.push(line));
  const raise = (key: string, severity: Severity = 'notice') =>
    announcer.alert({ key, severity, title: 'A test', body: '', facts: {} });
  const givenUp = () => lines.flatMap((line) => /The alert (.*) will not be sent/.exec(line)?.[1] ?? []);
  return { layout, announcer, raise, lines, givenUp };
}

describe('an alert that the spool does not take', () => {
  it('is kept, and of more than a hundred the least severe goes, which is told', () => {
    const { layout, announcer, raise, givenUp } = announcing('many');
    raise('first', 'critical');
    for (let number = 1; number < 100; number += 1) raise(`n${number}`);
    expect(givenUp()).toEqual([]);
    raise('last', 'error');
    raise('chatter', 'debug');
    expect(givenUp()).toEqual(['n1', 'chatter']);
    mkdirSync(layout.spool, { recursive: true });
    announcer[Symbol.dispose]();
    const keys = takeJobs(layout.spool).flatMap(({ job }) => (job.kind === 'alert' ? [job.alert.key] : []));
    expect(keys).toHaveLength(100);
    expect([keys[0], keys[1], keys.at(-1)]).toEqual(['first', 'n2', 'last']);
    expect(givenUp()).toHaveLength(2);
  });

  it('is told as given up where the node ends before there is room', () => {
    const { announcer, raise, givenUp } = announcing('ended');
    raise('one');
    raise('two');
    announcer[Symbol.dispose]();
    expect(givenUp()).toEqual(['one', 'two']);
  });

  it('is not said to be kept where it never can be taken', () => {
    const { announcer, raise, givenUp, lines } = announcing('malformed');
    raise('no key');
    announcer[Symbol.dispose]();
    expect(givenUp()).toEqual(['no key']);
    expect(lines.join()).not.toContain('is kept');
  });
});

describe('a file of events that cannot be written', () => {
  it('is told on the other ways, once, and holds nothing back', () => {
    const lines: string[] = [];
    const layout = stateLayout(scratch.at('deaf'));
    const events_file = scratch.at('no-such-directory/events.jsonl');
    const config = configSchema.parse({ node: { name: 'deaf' }, journal: { events_file } });
    using announcer = new Announcer(config, layout, (line) => lines.push(line));
    announcer.event('NODE_STARTED', 'Node deaf is running.');
    announcer.event('BUFFER_PURGE', 'All was wiped.', { micros: 1 });
    expect(lines).toHaveLength(3);
    expect(lines[1]).toMatch(/error +Events do not reach .*events\.jsonl: ENOENT/);
    mkdirSync(scratch.at('no-such-directory'));
    announcer.event('NODE_STARTED', 'Node deaf is running.');
    expect(lines.at(-1)).toContain('again');
  });
});
