import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Alert } from '../../../src/alerts/alert.ts';
import { openChannel } from '../../../src/alerts/channel.ts';
import { notificationOf } from '../../../src/alerts/channels/desktop.ts';
import { formatMessage } from '../../../src/alerts/channels/syslog.ts';
import { type SmtpSink, startSmtpSink } from '../../lab/smtp-sink.ts';
import { failureOf, refusalOf, send } from '../attempt.ts';
import { sampleAlert } from '../sample.ts';

let sink: SmtpSink;
let directory: string;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'ea-channels-'));
  sink = await startSmtpSink();
});
afterAll(async () => {
  rmSync(directory, { recursive: true });
  await sink.stop();
});

describe('file://', () => {
  it('appends one JSON line for each alert, readable by its owner only', async () => {
    const path = join(directory, 'alerts of alpha.jsonl');
    await send(`file://${path}`);
    await send(`file://${path}`, sampleAlert({ key: 'alpha-000013' }));
    const lines = readFileSync(path, 'utf8').trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as Alert).key)).toEqual(['alpha-000012', 'alpha-000013']);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('starts a new line after one that was torn by a crash', async () => {
    const path = join(directory, 'torn.jsonl');
    appendFileSync(path, '{"version":1,"key":"al');
    await send(`file://${path}`);
    expect(JSON.parse(readFileSync(path, 'utf8').split('\n')[1] ?? '')).toMatchObject({
      key: 'alpha-000012',
    });
  });

  it('refuses what is no file, and waits for a directory that is missing', async () => {
    expect(await failureOf(send('file:///dev/null'))).toMatchObject({ permanent: true });
    expect((await failureOf(send(`file://${directory}/absent/x`))).message).toContain('ENOENT');
    for (const url of ['file://host/x', 'file:///', 'file:///x?y', 'file:///a%2Fb']) {
      expect(refusalOf(url).code).toBe('channel-invalid');
    }
  });
});

describe('mailto://', () => {
  it('sends a mail whose subject and Message-ID carry the key', async () => {
    sink.respond(250);
    await send(
      `mailto://user:hunter2@127.0.0.1:${sink.port}/a@example.org,b@example.org?from=ea@example.org`,
    );
    expect(sink.logins).toEqual(['\0user\0hunter2']);
    const message = sink.messages.at(-1) ?? '';
    expect(message).toContain('Subject: [critical] Unplanned flap on eth0 (alpha-000012)');
    expect(message).toContain('Message-ID: <alpha-000012.alert@example.org>');
    expect(message).toContain('The secret arena was wiped.');
    expect(message).toContain('To: a@example.org, b@example.org');
  });

  it('takes a 5xx for permanent and a 4xx for temporary', async () => {
    const url = `mailto://127.0.0.1:${sink.port}/a@example.org`;
    sink.respond(550);
    expect(await failureOf(send(url))).toMatchObject({ permanent: true });
    sink.respond(451);
    expect(await failureOf(send(url))).toMatchObject({ permanent: false });
  });

  it('sends no password without TLS to a server that is not on the loopback', async () => {
    sink.respond(250);
    const before = sink.logins.length;
    await failureOf(send(`mailto://user:hunter2@0.0.0.0:${sink.port}/a@example.org`));
    expect(sink.logins).toHaveLength(before);
  });

  it('drops a server that says nothing as soon as the time is over', async () => {
    sink.respond('hang');
    const started = Date.now();
    const url = `mailto://127.0.0.1:${sink.port}/a@example.org`;
    expect(await failureOf(send(url, sampleAlert(), 100))).toMatchObject({ permanent: false });
    expect(Date.now() - started).toBeLessThan(2000);
  });

  it('needs a server and addresses', () => {
    for (const url of ['mailto:///a@b', 'mailto://h/', 'mailto://h/a', 'mailto://h/a@b?from=x y']) {
      expect(refusalOf(url).code).toBe('channel-invalid');
    }
    expect(openChannel('mailtos://u:p@h/a@b').name).toBe('mailtos://h:465/a@b');
  });
});

describe('syslog://', () => {
  it('sends RFC 5424 over UDP', async () => {
    const socket = createSocket('udp4');
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    const message = once(socket, 'message');
    await send(`syslog://127.0.0.1:${socket.address().port}`);
    const [datagram] = (await message) as [Buffer];
    socket.close();
    expect(datagram.toString()).toBe(
      '<82>1 2026-11-20T10:11:12.345Z alpha esoteric-appliance - alpha-000012 ' +
        '[alert@32473 interface="eth0" level="lock" key="alpha-000012"] ' +
        '\uFEFFUnplanned flap on eth0: The secret arena was wiped.',
    );
  });

  it('counts octets over TCP', async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const server = createServer((socket) => {
      let text = '';
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      socket.on('end', () => resolve(text));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    await send(`syslog+tcp://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const [, count, message] = /^(\d+) (.*)$/s.exec(await promise) ?? [];
    server.close();
    expect(Buffer.byteLength(message ?? '')).toBe(Number(count));
  });

  it('says so when nobody listens on TCP', async () => {
    expect((await failureOf(send(`syslog+tcp://127.0.0.1:1`))).message).toContain('ECONNREFUSED');
    expect(refusalOf('syslog://user@h').code).toBe('channel-invalid');
  });

  it('stays well-formed within 2048 bytes whatever the facts are', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ minLength: 1, maxLength: 50 }), fc.string({ maxLength: 900 }), {
          maxKeys: 5,
        }),
        fc.string({ maxLength: 4000 }),
        (facts, body) => {
          const message = formatMessage(sampleAlert({ facts, body })).toString();
          expect(Buffer.byteLength(message)).toBeLessThanOrEqual(2048);
          expect(message).toMatch(
            /^<82>1 \S+ alpha esoteric-appliance - alpha-000012 \[alert@32473( [!#-<>-\\^-~]{1,32}="([^"\\\]]|\\["\\\]])*")+\] /,
          );
        },
      ),
    );
  });
});

describe('desktop://', () => {
  it('shows nothing that could be an option of notify-send', () => {
    const shown = notificationOf(
      sampleAlert({ title: '--help', body: '--icon=/etc/passwd', severity: 'notice' }),
    );
    expect(shown).toMatchObject({ title: '[notice] --help', urgency: 'normal' });
    expect(shown.message.startsWith('alpha: --icon')).toBe(true);
  });

  it('fails for now where there is no desktop', async () => {
    const path = process.env.PATH;
    process.env.PATH = directory;
    try {
      expect(await failureOf(send('desktop://'))).toMatchObject({ code: 'channel-unavailable' });
    } finally {
      process.env.PATH = path;
    }
  });
});
