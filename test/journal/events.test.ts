import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { eventsPage, eventsPagePath } from '../../scripts/events-page.ts';
import { type EventLine, fileSink, isContainersOwn } from '../../src/journal/event-sinks.ts';
import { type EventEntry, events } from '../../src/journal/events.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-events-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe('the catalogue of events', () => {
  it('is what docs/events.md says (run `./scripts/node scripts/events-page.ts` after a change)', () => {
    expect(readFileSync(eventsPagePath, 'utf8')).toBe(eventsPage());
  });

  it('holds every event that is told, and none that is not but those it calls reserved', () => {
    const root = resolve(import.meta.dirname, '../../src');
    const sources = readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.endsWith('journal/events.ts'))
      .map((name) => readFileSync(join(root, name), 'utf8'))
      .join('\n');
    for (const [name, entry] of Object.entries(events) as [string, EventEntry][])
      expect(sources.includes(`'${name}'`), name).toBe(entry.reserved !== true);
  });
});

describe('the sinks of events', () => {
  const line: EventLine = {
    time: '2026-11-20T16:30:00.000Z',
    node: 'alpha',
    event: 'ZEROIZE',
    severity: 'critical',
    message: 'a "message"\nof two lines',
    details: { cause: 'link-flap' },
  };

  it('write one line of JSON for each, also when the file is moved away meanwhile', () => {
    const path = join(directory, 'events.jsonl');
    const troubles: (string | undefined)[] = [];
    const sink = fileSink(path, (why) => troubles.push(why));
    sink(line);
    renameSync(path, `${path}.1`);
    sink(line);
    sink(line);
    const written = [`${path}.1`, path].map((file) => readFileSync(file, 'utf8').split('\n').slice(0, -1));
    expect(written.map((lines) => lines.length)).toEqual([1, 2]);
    for (const text of written.flat()) expect(JSON.parse(text)).toEqual(line);
    expect(troubles).toEqual([]);
  });

  it('hold nothing back where there is no room for them, and say so once, and when they are taken again', () => {
    const troubles: (string | undefined)[] = [];
    const path = join(directory, 'blocked.jsonl');
    const sink = fileSink(path, (why) => troubles.push(why));
    mkdirSync(path);
    sink(line);
    sink(line);
    expect(troubles).toEqual([expect.stringContaining('EISDIR')]);
    rmSync(path, { recursive: true });
    sink(line);
    sink(line);
    expect(troubles).toEqual([expect.anything(), undefined]);
    expect(readFileSync(path, 'utf8').split('\n')).toHaveLength(3);
  });

  it('know what a container without a journald was started for', () => {
    const root = mkdtempSync(`${directory}/root-`);
    const own = (environment: NodeJS.ProcessEnv, ids = [1, 0]) =>
      isContainersOwn(`${root}/`, environment, ids);
    expect(own({})).toBe(false);
    expect(own({ container: 'podman' })).toBe(true);
    expect(own({ container: 'podman' }, [7, 1])).toBe(true);
    expect(own({ container: 'podman' }, [8, 7])).toBe(false);
    writeFileSync(join(root, '.dockerenv'), '');
    expect(own({})).toBe(true);
    mkdirSync(join(root, 'run/systemd/journal'), { recursive: true });
    writeFileSync(join(root, 'run/systemd/journal/socket'), '');
    expect(own({})).toBe(false);
  });
});
