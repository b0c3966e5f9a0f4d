// No network client in the node: what its process and its threads load is followed through the sources, import by import. Imports that
// come later (`import()`) are followed like any other: the courier, which has the clients, is a program of its own.
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const source = (path: string): string => join(root, 'src', path);

/** Its process, and what it starts by path. */
const node = [
  'appliance/run.ts',
  'appliance/node.ts',
  'interlock/watcher.ts',
  'custody/log-thread.ts',
  'entropy/collector.ts',
];
const clients = /^(@aws-sdk\/|@sigstore\/(sign|tuf)|openid-client|nodemailer|node-notifier)/;
/** Data without code: the trusted root of the public-good Sigstore, by which a node verifies the provenance of its own program. */
const data = '@sigstore/tuf/seeds.json';

/** What a source loads when it runs, types left out. */
function importsOf(text: string): string[] {
  const code = text.replace(/^\s*(\/\/|\/?\*).*$/gm, '');
  const first = code.matchAll(/^(?:import|export)\s(?!type\s)(?:[^;'"]*?\sfrom\s+)?'([^']+)'/gm);
  const later = code.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g);
  return [...first, ...later].map(([, name = '']) => name);
}

/** Every source that is loaded from these, and by which of them each package and module of Node is. */
function loadedFrom(entries: readonly string[]) {
  const files = new Map<string, string>();
  const others = new Map<string, string[]>();
  const waiting = entries.map(source);
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (files.has(file)) continue;
    const text = readFileSync(file, 'utf8');
    files.set(file, text);
    for (const name of importsOf(text)) {
      if (name.startsWith('.')) waiting.push(join(dirname(file), name));
      else others.set(name, [...(others.get(name) ?? []), relative(join(root, 'src'), file)]);
    }
  }
  return { files, others, names: [...others.keys()] };
}

it('the node loads no client of a service, neither when it starts nor later', () => {
  const { files, names } = loadedFrom(node);
  expect(files.size).toBeGreaterThan(200);
  expect(names.filter((name) => clients.test(name))).toEqual([data]);
});

it('and has none of Node’s: it serves HTTP, and asks nobody', () => {
  const { files, others } = loadedFrom(node);
  for (const name of ['node:http2', 'node:tls', 'node:dns', 'node:dns/promises', 'node:dgram'])
    expect(others.get(name), name).toBeUndefined();
  for (const name of ['node:http', 'node:https'])
    expect(others.get(name), name).toEqual(['entropy/outputs/http.ts']);
  const asking = /\bfetch\(|\bnew (WebSocket|EventSource)\(/;
  expect([...files].filter(([, text]) => asking.test(text)).map(([file]) => file)).toEqual([]);
});

it('while the courier has them, so that this would be seen', () => {
  const { names } = loadedFrom(['appliance/courier.ts']);
  expect(names.filter((name) => clients.test(name))).toEqual(
    expect.arrayContaining(['@aws-sdk/client-s3', '@sigstore/sign', 'nodemailer', 'openid-client']),
  );
});
