import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, sign } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { macsecProbe } from '../../../src/appliance/probes.ts';
import { requireChild } from '../../../src/host/child.ts';
import { lineRequest } from '../../../src/host/gpio.ts';
import { poll } from '../../../src/host/libc.ts';
import { bootMilliseconds } from '../../../src/host/time.ts';
import { type ClockReference, referenceOf, setBack } from '../../../src/interlock/detectors/clock.ts';
import { tracedThreads, tracerOf } from '../../../src/interlock/detectors/debugger.ts';
import { integrityFailures, rise } from '../../../src/interlock/detectors/macsec.ts';
import {
  commandBytes,
  commandKey,
  judgeCommand,
  type RemoteCommand,
} from '../../../src/interlock/detectors/remote-command.ts';
import { announcesGeneration, generationIn } from '../../../src/interlock/detectors/snapshot.ts';
import { openContacts } from '../../../src/interlock/detectors/tamper.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-detectors-'));
afterAll(() => rmSync(directory, { recursive: true }));

describe('a clock', () => {
  const from: ClockReference = referenceOf({ real: 1_000_000, boot: 5000 });

  it('is set back by what it lost against the time since boot', () => {
    expect(setBack(from, { real: 1_001_000, boot: 6000 }).seconds).toBe(0);
    expect(setBack(from, { real: 998_000, boot: 6000 }).seconds).toBeCloseTo(3, 2);
  });

  it('may be set forward, and is set back when it then returns', () => {
    const forward = setBack(from, { real: 9_000_000, boot: 6000 });
    expect(forward.seconds).toBe(0);
    expect(setBack(forward.reference, { real: 1_002_000, boot: 7000 }).seconds).toBeCloseTo(7999, 0);
  });

  it('may be slowed as far as steering goes, and not by many small steps beyond', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ wait: fc.nat(10_000), lost: fc.nat(20) }), { maxLength: 40 }),
        (steps) => {
          let clocks = { real: 1_000_000, boot: 5000 };
          let reference = referenceOf(clocks);
          let slowed = { ...clocks };
          let slowedReference = reference;
          let worst = 0;
          for (const { wait, lost } of steps) {
            clocks = { real: clocks.real + wait - lost, boot: clocks.boot + wait };
            const seen = setBack(reference, clocks);
            reference = seen.reference;
            worst = Math.max(worst, seen.seconds);
            slowed = { real: slowed.real + wait * 0.9995, boot: slowed.boot + wait };
            const steered = setBack(slowedReference, slowed);
            slowedReference = steered.reference;
            expect(steered.seconds).toBe(0);
          }
          const lost = steps.reduce((sum, step) => sum + step.lost, 0);
          const waited = steps.reduce((sum, step) => sum + step.wait, 0);
          expect(worst * 1000).toBeGreaterThanOrEqual(lost - waited * 0.001 - 1e-6);
        },
      ),
    );
  });

  it('is held against one that grows with the time since boot', () => {
    const uptime = Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 1000;
    expect(Math.abs(bootMilliseconds() - uptime)).toBeLessThan(1000);
  });
});

describe('a debugger', () => {
  async function stopped(child: ChildProcess): Promise<void> {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  it('is seen on whichever thread it traces, while it does', async (context) => {
    const target = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const proc = `/proc/${target.pid}`;
    const tracer = spawn('strace', ['-p', `${target.pid}`], { stdio: 'ignore' });
    const missing = await Promise.race([
      once(tracer, 'error').then(() => true),
      once(tracer, 'spawn').then(() => false),
    ]);
    try {
      context.skip(missing, 'there is no strace');
      for (let waited = 0; waited < 200 && tracedThreads(proc) === 0; waited += 1)
        await new Promise((resolve) => setTimeout(resolve, 20));
      expect(tracedThreads(proc)).toBe(1);
      await stopped(tracer);
      expect(tracedThreads(proc)).toBe(0);
    } finally {
      await stopped(target);
    }
  });

  it('does not trace this process, and a status that does not say so counts as traced', () => {
    expect(tracedThreads()).toBe(0);
    expect(tracerOf('Name:\tnode\nTracerPid:\t0\n')).toBe(0);
    expect(tracerOf('Name:\tnode\nTracerPid:\t4711\n')).toBe(4711);
    expect(tracerOf('')).not.toBe(0);
  });
});

describe('a virtual machine', () => {
  it('announces a new generation in an event of its device', () => {
    const event = (...parts: string[]) => Buffer.from(`${parts.join('\0')}\0`);
    const path = 'change@/devices/platform/vmgenid';
    expect(announcesGeneration(event(path, 'ACTION=change', 'NEW_VMGENID=1', 'SEQNUM=7'))).toBe(true);
    expect(announcesGeneration(event(path, 'ACTION=change', 'SYNTH_ARG_NEW_VMGENID=1'))).toBe(false);
    expect(announcesGeneration(event('add@/devices/virtual/net/NEW_VMGENID=1'))).toBe(false);
  });

  it('shows its generation in a file, and a file that goes is another generation', () => {
    const path = join(directory, 'generation');
    writeFileSync(path, 'a7\n');
    expect(generationIn(path)).toBe('a7');
    rmSync(path);
    expect(generationIn(path)).toBe('unreadable: ENOENT');
  });
});

describe('a MACsec link', () => {
  it('counts every frame that failed, wherever iproute2 puts the counter', () => {
    const shown = [
      {
        ifname: 'macsec0',
        InPktsUntagged: 3,
        InPktsNoTag: 1,
        InPktsBadTag: 2,
        rx_sc: [{ rx_sa: [{ InPktsOK: 900, InPktsNotValid: 4, InPktsInvalid: 8 }], InPktsLate: 16 }],
      },
    ];
    expect(integrityFailures(shown)).toBe(31);
    expect(integrityFailures([])).toBe(0);
    expect(integrityFailures(null)).toBe(0);
  });

  it('is looked at by the node where there is one, for what has failed since the last look', async () => {
    const sysfs = mkdtempSync(join(directory, 'net-'));
    mkdirSync(join(sysfs, 'eth0'));
    writeFileSync(join(sysfs, 'eth0', 'uevent'), 'INTERFACE=eth0\nIFINDEX=2\n');
    let asked = 0;
    let failed = 7;
    const found: number[] = [];
    const look = macsecProbe(
      (index) => found.push(index),
      sysfs,
      async () => {
        asked += 1;
        return JSON.stringify([{ ifname: 'macsec0', InPktsNotValid: failed }]);
      },
    );
    expect(await look()).toEqual({});
    expect(asked).toBe(0);
    mkdirSync(join(sysfs, 'macsec0'));
    writeFileSync(join(sysfs, 'macsec0', 'uevent'), 'DEVTYPE=macsec\nINTERFACE=macsec0\nIFINDEX=3\n');
    expect(await look()).toEqual({ 'macsec-integrity': 0 }); // What was before the node is not its affair.
    failed = 19;
    expect(await look()).toEqual({ 'macsec-integrity': 12 });
    expect(await look()).toEqual({ 'macsec-integrity': 0 });
    expect(found).toEqual([3]); // Once, for the zeroize to take it along.
    const full = macsecProbe(
      () => {
        throw new RangeError('no slot');
      },
      sysfs,
      async () => JSON.stringify([{ ifname: 'macsec0', InPktsNotValid: failed }]),
    );
    await expect(full()).rejects.toThrow('no slot');
    expect(await full()).toEqual({ 'macsec-integrity': 0 });
    failed += 5;
    expect(await full()).toEqual({ 'macsec-integrity': 5 });
  });

  it('is made anew when a counter goes back', () => {
    expect(rise(5, 9)).toBe(4);
    expect(rise(9, 3)).toBe(3);
  });
});

describe('a command from afar', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const key = commandKey(publicKey.export({ type: 'spki', format: 'pem' }).toString());
  const known = { node: 'alpha', key, lastNumber: 7 };
  const order: RemoteCommand = {
    format: 'esoteric-appliance-command/1',
    node: 'alpha',
    number: 8,
    action: 'zeroize',
    level: 'lock',
    reason: 'a test',
  };
  const signed = (command: RemoteCommand, by = privateKey): string =>
    JSON.stringify({ command, signature: sign(null, commandBytes(command), by).toString('base64') });

  it('is accepted once, for its node and with its signature only', () => {
    expect(judgeCommand(signed(order), known)).toEqual({ accepted: order });
    expect(judgeCommand(signed(order), { ...known, lastNumber: 8 })).toEqual({ refused: 'replayed' });
    expect(judgeCommand(signed({ ...order, node: 'beta' }), known)).toEqual({ refused: 'not for this node' });
    const other = generateKeyPairSync('ed25519').privateKey;
    expect(judgeCommand(signed(order, other), known)).toEqual({ refused: 'wrong signature' });
  });

  it('is refused with any character of it changed', () => {
    const text = signed(order);
    // Of all the characters that end the signature, some decode to the same bytes.
    const others = [...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'];
    const accepted = Array.from(text, (now, at) =>
      (at > text.length - 8 ? others : ['7', '8'])
        .filter((other) => other !== now)
        .map((other) => judgeCommand(text.slice(0, at) + other + text.slice(at + 1), known)),
    )
      .flat()
      .filter((verdict) => 'accepted' in verdict);
    expect(accepted).toEqual([]);
  });

  it('is refused without an error whatever it is', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), fc.constant('x'.repeat(5000))), (text) => {
        expect(judgeCommand(text, known)).toEqual({ refused: 'malformed' });
      }),
    );
  });

  it('is checked with an Ed25519 key and no other', () => {
    const rsa = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
    expect(() => commandKey(rsa.export({ type: 'spki', format: 'pem' }).toString())).toThrow('Ed25519');
  });
});

describe('a tamper contact', () => {
  const ready = (fd: number): boolean => {
    const polled = new Uint8Array(8);
    new DataView(polled.buffer).setInt32(0, fd, true);
    new DataView(polled.buffer).setInt16(4, 1, true);
    return poll(polled, 1, 0) > 0;
  };

  it('is a FIFO that becomes readable when somebody writes into it', async () => {
    const path = join(directory, 'lid');
    await requireChild('mkfifo', ['-m', '600', path]);
    using contacts = openContacts([`fifo:${path}`]);
    const [fd = -1] = contacts.descriptors;
    expect(ready(fd)).toBe(false);
    writeFileSync(path, 'x');
    expect(ready(fd)).toBe(true);
  });

  it('is refused where it is no FIFO, is not there, or others may write to it', async () => {
    const open = join(directory, 'open');
    await requireChild('mkfifo', [open]);
    chmodSync(open, 0o622);
    mkdirSync(join(directory, 'folder'));
    writeFileSync(join(directory, 'plain'), '');
    for (const name of ['open', 'plain', 'folder', 'absent']) {
      expect(() => openContacts([`fifo:${join(directory, name)}`]), name).toThrow(
        expect.objectContaining({ code: 'tamper-unusable' }),
      );
    }
  });

  it('is a line of a GPIO chip, asked for as the kernel wants it (no chip is here to answer)', () => {
    const request = lineRequest(17, 'falling');
    const view = new DataView(request.buffer);
    expect(request).toHaveLength(592);
    expect(view.getUint32(0, true)).toBe(17);
    expect(view.getBigUint64(288, true)).toBe(0b100100n);
    expect(view.getUint32(560, true)).toBe(1);
    expect(Buffer.from(request.subarray(256, 274)).toString()).toBe('esoteric-appliance');
    expect(() => openContacts(['gpio:/dev/null:3'])).toThrow(
      expect.objectContaining({ code: 'gpio-unavailable' }),
    );
  });
});
