// Collectors of the state of the host: links, routes, neighbours, processes, sockets, mounts, kernel. Read from /proc (proc(5)), with
// `ip` and with `dmesg`.
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as breath } from 'node:timers/promises';
import { childOutput } from '../host/child.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { Collector } from './collect.ts';
import type { Chunks } from './drain.ts';

const mebibyte = 1 << 20;
const kernelLogLimit = 16 * mebibyte;

/** `proc` and `etc` are where the kernel's and the system's files are found. */
export function hostCollectors(roots: { readonly proc?: string; readonly etc?: string } = {}): Collector[] {
  const proc = roots.proc ?? '/proc';
  const etc = roots.etc ?? '/etc';
  return [
    ipCollector(
      'links',
      ['-details', '-statistics', 'link'],
      'which interfaces were up, and how often their carrier changed',
    ),
    ipCollector('addresses', ['address'], 'which addresses this machine had'),
    ipCollector('routes', ['route', 'show', 'table', 'all'], 'where its packets went'),
    ipCollector('neighbours', ['neighbour'], 'which machines answered on its links (ARP and NDP)'),
    {
      name: 'host processes',
      path: 'host/processes.jsonl',
      source: `${proc}/[0-9]*: what was running, by whom, with which arguments, in which control group`,
      volatility: 'memory',
      limitBytes: 16 * mebibyte,
      redact: true,
      gather: () => processes(proc),
    },
    {
      name: 'host sockets',
      path: 'host/sockets.txt',
      source: `${proc}/net: which addresses were listening or connected`,
      volatility: 'memory',
      limitBytes: 16 * mebibyte,
      redact: true,
      gather: () => sockets(proc),
    },
    {
      name: 'host mounts',
      path: 'host/mounts.txt',
      source: `${proc}/1/mounts: what was mounted where, as init sees it`,
      volatility: 'memory',
      limitBytes: mebibyte,
      redact: true,
      // A service has mounts of its own, which are not the host's (systemd.exec(5), ProtectSystem).
      gather: () => readFile(join(proc, '1/mounts')),
    },
    {
      name: 'host packet filter',
      path: 'host/nftables.txt',
      source: '`nft list ruleset`: which packets were let through, and how many',
      volatility: 'memory',
      limitBytes: 16 * mebibyte,
      redact: true,
      gather: (signal) => packetFilter(signal),
    },
    {
      name: 'kernel modules',
      path: 'host/modules.txt',
      source: `${proc}/modules: what was loaded into the kernel`,
      volatility: 'memory',
      limitBytes: mebibyte,
      redact: true,
      gather: () => modules(proc),
    },
    {
      name: 'kernel log',
      path: 'host/kernel.log',
      source:
        '`dmesg`, or where that is not permitted `journalctl --dmesg`: what the kernel told since this boot',
      volatility: 'memory',
      limitBytes: kernelLogLimit,
      redact: true,
      gather: kernelLog,
      gatherLess: newestOfKernelLog,
    },
    {
      name: 'host versions',
      path: 'host/versions.json',
      source: `${proc}/version, ${proc}/cmdline, ${etc}/os-release and the running Node: which software this was`,
      volatility: 'configuration',
      limitBytes: mebibyte,
      redact: true,
      gather: () => versions(proc, etc),
    },
  ];
}

const ipCollector = (what: string, words: readonly string[], why: string): Collector => ({
  name: `host ${what}`,
  path: `host/${what}.json`,
  source: `\`${['ip', '-json', ...words].join(' ')}\`: ${why}`,
  volatility: 'memory',
  limitBytes: 4 * mebibyte,
  redact: true,
  gather: (signal) => childOutput('ip', ['-json', ...words], { signal }),
});

/** The ring buffer itself needs a capability that the node's service has not; journald keeps a copy. */
async function* kernelLog(signal: AbortSignal): AsyncGenerator<Buffer> {
  const env = { ...process.env, LC_ALL: 'C' };
  const tries: [string, string[]][] = [
    ['dmesg', ['--time-format=iso', '--decode', '--nopager']],
    ['journalctl', ['--dmesg', '--boot', '--no-pager', '--output=short-iso-precise', '--quiet']],
  ];
  const refusals: string[] = [];
  for (const [command, words] of tries) {
    let told = false;
    try {
      for await (const chunk of childOutput(command, words, { signal, env })) {
        told = true;
        yield chunk;
      }
      if (told) return;
      refusals.push(`\`${command}\` told nothing`);
    } catch (error) {
      if (told) throw error; // Two tellings of the same, one behind the other, would be neither.
      refusals.push(reasonOf(error).replace(/\.$/, ''));
    }
  }
  throw new Failure('kernel-log-unreadable', refusals.join('; '));
}

/** Of a log beyond the limit the end tells of what has happened now; the beginning is of the start of the machine. */
async function* newestOfKernelLog(signal: AbortSignal, room = kernelLogLimit): Chunks {
  const keep = Math.min(room, kernelLogLimit);
  const chunks: Buffer[] = [];
  let size = 0;
  let left = 0;
  for await (const chunk of kernelLog(signal)) {
    chunks.push(chunk);
    size += chunk.length;
    for (let first = chunks[0]; first !== undefined && size - first.length >= keep; first = chunks[0]) {
      chunks.shift();
      size -= first.length;
      left += first.length;
    }
  }
  const kept = Buffer.concat(chunks);
  const over = Math.max(0, size - keep);
  // From the next whole line on.
  const start = left + over === 0 ? 0 : kept.indexOf('\n', over) + 1;
  yield kept.subarray(start);
  return left + start === 0
    ? undefined
    : `It was cut off at its limit of ${keep} bytes: its first ${left + start} bytes are missing.`;
}

/** So many processes are looked at, in a few milliseconds, before others have their turn. */
const processesAtOnce = 32;

/** The kernel answers at once: to have another thread ask would take ten times as long, and processes that end meanwhile would be missed. */
async function* processes(proc: string): AsyncGenerator<string> {
  const pids = readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
  for (const [looked, pid] of pids.entries()) {
    if (looked % processesAtOnce === 0) await breath();
    const line = processLine(join(proc, String(pid)));
    if (line !== undefined) yield `${JSON.stringify({ pid, ...line })}\n`;
  }
}

/** A thread of the kernel, which has no executable (flags in proc_pid_stat(5), include/linux/sched.h). */
const PF_KTHREAD = 0x00200000;

/** Undefined of a process that has ended. */
function processLine(folder: string) {
  try {
    const [stat = '', status = '', command = ''] = ['stat', 'status', 'cmdline'].map((name) =>
      readFileSync(join(folder, name), 'utf8'),
    );
    // The name may hold spaces and parentheses; the fields begin after its last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return {
      name: stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')),
      state: fields[0],
      parent: Number(fields[1]),
      startTicks: Number(fields[19]),
      uid: Number(/^Uid:\s+(\d+)/m.exec(status)?.[1]),
      arguments: command.split('\0').slice(0, -1),
      executable: (Number(fields[6]) & PF_KTHREAD) === 0 ? executableOf(folder) : undefined,
      controlGroup: controlGroupOf(folder),
    };
  } catch {
    return undefined;
  }
}

/** Null where this process may not look (CAP_SYS_PTRACE, which the node's unit has not); undefined where there is none. */
function executableOf(folder: string): string | null | undefined {
  try {
    return readlinkSync(join(folder, 'exe'));
  } catch (error) {
    return ['EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '') ? null : undefined;
  }
}

/** Its path in the hierarchy of systemd, or the one there is: it names the unit (cgroups(7)). */
function controlGroupOf(folder: string): string | undefined {
  try {
    const groups = readFileSync(join(folder, 'cgroup'), 'utf8');
    return (/^\d+:name=systemd:(.*)$/m.exec(groups) ?? /^0::(.*)$/m.exec(groups))?.[1];
  } catch {
    return undefined;
  }
}

/** A kernel may be built without. */
async function modules(proc: string): Promise<Uint8Array | string> {
  const path = join(proc, 'modules');
  return existsSync(path) ? await readFile(path) : 'this kernel loads none\n';
}

/** Not installed, or not for this user to see: that is what there is to tell. */
async function* packetFilter(signal: AbortSignal): AsyncGenerator<Uint8Array | string> {
  try {
    yield* childOutput('nft', ['list', 'ruleset'], { signal });
  } catch (error) {
    if (!(error instanceof Failure) || signal.aborted) throw error;
    yield `not readable: ${reasonOf(error)}\n`;
  }
}

/** One line a socket: `tcp 10.0.0.1:443 10.0.0.2:51820 established uid=0 inode=123`. */
async function* sockets(proc: string): AsyncGenerator<string> {
  for (const protocol of ['tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6']) {
    const table = await readFile(join(proc, 'self/net', protocol), 'utf8').catch((error) => error);
    if (typeof table !== 'string') yield `${protocol} not readable: ${reasonOf(table)}\n`;
    else for (const line of table.split('\n').slice(1)) yield socketLine(protocol, line);
  }
}

function socketLine(protocol: string, line: string): string {
  const [, local = '', remote = '', state = '', , , , uid, , inode] = line.trim().split(/\s+/);
  if (inode === undefined) return '';
  const named = tcpStates[Number.parseInt(state, 16)] ?? state;
  return `${protocol} ${endpoint(local)} ${endpoint(remote)} ${named} uid=${uid} inode=${inode}\n`;
}

/** `0100007F:1F90` is 127.0.0.1:8080: each 32-bit word of the address in the byte order of the machine (little-endian). */
function endpoint(text: string): string {
  const [address = '', port = ''] = text.split(':');
  const words = Buffer.from(address, 'hex');
  if (words.length !== 4 && words.length !== 16) return text;
  const bytes = words.swap32();
  const groups = Array.from({ length: 8 }, (_, at) =>
    bytes.length === 16 ? bytes.readUInt16BE(at * 2).toString(16) : '',
  );
  const shown = bytes.length === 4 ? bytes.join('.') : `[${groups.join(':')}]`;
  return `${shown}:${Number.parseInt(port, 16)}`;
}

/** include/net/tcp_states.h; 7 is also what an unconnected UDP socket shows. */
const tcpStates: Record<number, string> = {
  1: 'established',
  2: 'syn-sent',
  3: 'syn-received',
  4: 'fin-wait-1',
  5: 'fin-wait-2',
  6: 'time-wait',
  7: 'closed',
  8: 'close-wait',
  9: 'last-ack',
  10: 'listening',
  11: 'closing',
};

async function versions(proc: string, etc: string): Promise<string> {
  const read = (path: string) => readFile(path, 'utf8').then((text) => text.trim(), reasonOf);
  const found = {
    kernel: await read(join(proc, 'version')),
    bootArguments: await read(join(proc, 'cmdline')),
    system: (await read(join(etc, 'os-release'))).split('\n'),
    uptimeSeconds: Number.parseFloat(await read(join(proc, 'uptime'))),
    node: process.versions,
    architecture: process.arch,
  };
  return `${JSON.stringify(found, null, 2)}\n`;
}
