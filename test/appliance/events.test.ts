import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { entropyEvents } from '../../src/appliance/entropy-events.ts';
import type { EntropyStatus } from '../../src/entropy/status.ts';
import { runChild } from '../../src/host/child.ts';
import type { EventLine } from '../../src/journal/event-sinks.ts';
import { labNode, profile, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

describe('the events of a node', () => {
  it('are structured fields in the journal, and the same as lines of JSON in a file', async () => {
    const file = scratch.at('events.jsonl');
    await using node = await labNode(scratch, 'told', {
      configuration: `[interlock]\nlevel = "purge"\n`,
    });
    // The lab's configuration has a [journal] table already, which ends where the next begins.
    const { config } = node;
    const text = readFileSync(config, 'utf8').replace('[journal]\n', `[journal]\nevents_file = "${file}"\n`);
    writeFileSync(config, text);
    await node.ask(['provision', '--profile', profile('leaf')]);
    await node.run();
    await node.ask(['zeroize', '--reason', 'a test']);
    await node.journald.flush();
    const { stdout } = await runChild('journalctl', [
      `--namespace=${node.journald.namespace}`,
      '--output=json',
      'EVENT_TYPE=ZEROIZE',
    ]);
    const entries = stdout
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, string>);
    expect(entries).toHaveLength(1);
    const [entry] = entries;
    expect(entry).toMatchObject({
      SYSLOG_IDENTIFIER: 'esoteric-appliance',
      EVENT_TYPE: 'ZEROIZE',
      NODE_ID: node.name,
      PRIORITY: '2',
      MESSAGE: 'Zeroized (purge): operator.',
    });
    const lines = readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as EventLine);
    const zeroize = lines.find(({ event }) => event === 'ZEROIZE');
    expect(JSON.parse(entry?.DETAILS ?? '')).toEqual(zeroize?.details);
    expect(zeroize).toMatchObject({
      node: node.name,
      severity: 'critical',
      details: { cause: 'operator', level: 'purge' },
    });
    const names = lines.map(({ event }) => event);
    for (const name of ['BYPASS', 'NODE_STARTED', 'BUFFER_PURGE', 'ALERT_RAISED', 'BUNDLE_MADE'])
      expect(names).toContain(name);
  });
});

describe('noise between two looks', () => {
  const status = (state: EntropyStatus['state'], failures: number): EntropyStatus => ({
    state,
    sources: [
      {
        name: 'clock-jitter',
        family: 'jitter',
        physical: '',
        state: 'healthy',
        credit: 1,
        assessed: 'full',
        samples: 1,
        failures,
        available: true,
      },
    ],
    seeded: true,
    reseeds: 1,
    bytesOut: 0,
    credited: 0,
  });
  const between = (before: EntropyStatus | undefined, now: EntropyStatus): string[] =>
    entropyEvents(before, now).map(([name]) => name);

  it('is told when it gets low, comes back, or fails a test, once each', () => {
    const serving = status('serving', 0);
    expect(between(undefined, serving)).toEqual([]);
    expect(between(serving, status('degraded', 0))).toEqual(['ENTROPY_LOW']);
    expect(between(status('degraded', 0), status('degraded', 0))).toEqual([]);
    expect(between(status('degraded', 0), status('unhealthy', 2))).toEqual(['ENTROPY_LOW', 'HEALTH_FAILED']);
    expect(between(status('unhealthy', 2), status('serving', 2))).toEqual(['ENTROPY_BACK']);
    expect(between(undefined, status('serving', 1))).toEqual(['HEALTH_FAILED']);
  });
});
