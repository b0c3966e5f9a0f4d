// Events of a node in a container. There is no container engine here, so the daemon is started as the package's
// entry does it, as the first process of a PID namespace of its own, with a /run of its own that has no journald.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { runChild } from '../../src/host/child.ts';
import type { EventLine } from '../../src/journal/event-sinks.ts';
import { esotericWords, type LabNode } from '../lab/node.ts';
import { childrenOf, labNode, profile, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** The daemon in its container. `pid`: as it is seen from outside. */
interface Contained {
  readonly engine: ChildProcess;
  readonly pid: number;
  stdout: string;
}

async function contain(node: LabNode): Promise<Contained> {
  const script = 'mount -t tmpfs tmpfs /run && exec "$@"';
  const namespaces = ['--pid', '--mount', '--fork', '--kill-child', '--mount-proc'];
  const words = esotericWords(['run', ...node.arguments]);
  const engine = spawn('unshare', [...namespaces, 'sh', '-c', script, 'sh', ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, container: 'podman' },
  });
  let [stdout, stderr] = ['', ''];
  engine.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('utf8');
  });
  engine.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString('utf8');
  });
  await until('the node runs', () => {
    if (engine.exitCode !== null) throw new Error(stderr);
    return stdout.includes('"NODE_STARTED"') ? true : undefined;
  });
  const [first] = childrenOf(engine.pid ?? 0);
  return {
    engine,
    pid: first?.pid ?? 0,
    get stdout() {
      return stdout;
    },
  };
}

const linesOf = (text: string): EventLine[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as EventLine);

describe('a node in a container without journald', () => {
  it('tells its events on standard output, a line of JSON each, and nothing else', async () => {
    await using node = await labNode(scratch, 'contained', {
      configuration: '[interlock]\nlevel = "purge"\n',
    });
    await node.ask(['provision', '--profile', profile('leaf')]);
    const daemon = await contain(node);
    try {
      expect(readFileSync(`/proc/${daemon.pid}/status`, 'utf8')).toMatch(/^NSpid:\t\d+\t1$/m);
      // What somebody runs in there says what it was asked for, and no events.
      const within = [
        '--target',
        String(daemon.pid),
        '--pid',
        '--mount',
        ...esotericWords(['status', '--json']),
      ];
      const status = await runChild('nsenter', [...within, ...node.arguments]);
      expect(JSON.parse(status.stdout.toString())).toMatchObject({ state: 'running', pid: 1 });
      await node.ask(['zeroize', '--reason', 'a test']);
      const ended = once(daemon.engine, 'exit');
      process.kill(daemon.pid, 'SIGTERM'); // As engines stop what they run.
      await ended;
    } finally {
      daemon.engine.kill('SIGKILL');
    }
    const lines = linesOf(daemon.stdout);
    const names = lines.map(({ event }) => event);
    for (const name of ['BYPASS', 'NODE_STARTED', 'ZEROIZE', 'BUFFER_PURGE', 'ALERT_RAISED', 'BUNDLE_MADE'])
      expect(names).toContain(name);
    expect(lines.find(({ event }) => event === 'ZEROIZE')).toMatchObject({
      node: node.name,
      severity: 'critical',
      message: 'Zeroized (purge): operator.',
      details: { cause: 'operator', level: 'purge' },
    });
    for (const { time } of lines) expect(new Date(time).toISOString()).toBe(time);
  });
});
