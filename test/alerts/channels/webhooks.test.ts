import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isPermanent, retryAfterMilliseconds } from '../../../src/alerts/channels/http.ts';
import { startWebhook, type Webhook } from '../../lab/webhook.ts';
import { failureOf, refusalOf, send } from '../attempt.ts';
import { sampleAlert } from '../sample.ts';

let hook: Webhook;
beforeEach(async () => {
  hook = await startWebhook();
});
afterEach(() => hook.stop());

describe('json://', () => {
  it('posts the alert as one JSON document with its key as idempotency key', async () => {
    await send(hook.url('json', { user: 'ops:p%40ss', path: '/a/b?c=d' }));
    const [post] = hook.received;
    expect(post).toMatchObject({
      method: 'POST',
      path: '/a/b?c=d',
      key: 'alpha-000012',
      json: {
        version: 1,
        key: 'alpha-000012',
        node: 'alpha',
        severity: 'critical',
        title: 'Unplanned flap on eth0',
        time: '2026-11-20T10:11:12.345Z',
        facts: { interface: 'eth0', level: 'lock' },
      },
    });
    expect(post?.headers.authorization).toBe(`Basic ${Buffer.from('ops:p@ss').toString('base64')}`);
  });

  it('takes a client error for permanent, but not those that ask for patience', async () => {
    hook.respond(404);
    expect(await failureOf(send(hook.url('json')))).toMatchObject({
      code: 'channel-refused',
      permanent: true,
    });
    hook.respond(503);
    expect(await failureOf(send(hook.url('json')))).toMatchObject({
      code: 'channel-unavailable',
      permanent: false,
    });
    expect([302, 400, 401, 404, 410, 422].every(isPermanent)).toBe(true);
    expect([408, 425, 429, 500, 502, 503].some(isPermanent)).toBe(false);
  });

  it('does not follow a redirect, which would carry the alert elsewhere', async () => {
    hook.respond(307, { headers: { location: `http://127.0.0.1:${hook.port}/elsewhere` }, times: 1 });
    await failureOf(send(hook.url('json')));
    expect(hook.received).toHaveLength(1);
  });

  it('passes on how long the server asks to wait', async () => {
    hook.respond(429, { headers: { 'retry-after': '7' } });
    expect(await failureOf(send(hook.url('json')))).toMatchObject({ retryAfterMilliseconds: 7000 });
    const now = Date.parse('2026-11-20T10:00:00Z');
    expect(retryAfterMilliseconds('Fri, 20 Nov 2026 10:00:30 GMT', now)).toBe(30_000);
    expect(retryAfterMilliseconds('Fri, 20 Nov 2026 09:00:00 GMT', now)).toBe(0);
    expect(retryAfterMilliseconds('999999999', now)).toBe(3_600_000);
    expect(retryAfterMilliseconds('soon', now)).toBe(0);
    expect(retryAfterMilliseconds(null, now)).toBe(0);
  });

  it('gives up when the time is over', async () => {
    hook.respond('hang');
    const failure = await failureOf(send(hook.url('json'), sampleAlert(), 100));
    expect(failure.message).toContain('did not acknowledge in time');
  });

  it('says why nothing could be reached', async () => {
    await hook.stop();
    expect((await failureOf(send(hook.url('json')))).message).toContain('ECONNREFUSED');
    hook = await startWebhook();
  });

  it('asks for TLS when it is jsons://', async () => {
    expect((await failureOf(send(hook.url('jsons')))).permanent).toBe(false);
    expect(hook.received).toHaveLength(0);
  });
});

describe('ntfy://', () => {
  it('publishes with title, priority and tags as headers and the message as body', async () => {
    await send(hook.url('ntfy', { path: '/pager' }));
    const [post] = hook.received;
    expect(post?.path).toBe('/pager');
    expect(post?.headers).toMatchObject({
      title: 'Unplanned flap on eth0',
      priority: '5',
      tags: 'critical,alpha,alpha-000012',
      'idempotency-key': 'alpha-000012',
    });
    expect(post?.text).toContain('The secret arena was wiped.');
    expect(post?.headers.authorization).toBeUndefined();
  });

  it('encodes a title that is not ASCII and cuts a message that would become an attachment', async () => {
    await send(
      hook.url('ntfy', { path: '/pager' }),
      sampleAlert({ title: 'Störung', body: 'ü'.repeat(5000) }),
    );
    expect(hook.received[0]?.headers.title).toBe('=?UTF-8?B?U3TDtnJ1bmc=?=');
    expect(Buffer.byteLength(hook.received[0]?.text ?? '')).toBeLessThanOrEqual(4096);
  });

  it('sends an access token as bearer, a user by HTTP Basic', async () => {
    await send(hook.url('ntfy', { user: ':tok', path: '/t' }));
    await send(hook.url('ntfy', { user: 'tk_abc', path: '/t' }));
    await send(hook.url('ntfy', { user: 'a:b', path: '/t' }));
    expect(hook.received.map((post) => post.headers.authorization)).toEqual([
      'Bearer tok',
      'Bearer tk_abc',
      'Basic YTpi',
    ]);
  });

  it('needs exactly one topic', () => {
    expect(refusalOf('ntfy://host').code).toBe('channel-invalid');
    expect(refusalOf('ntfy://host/a/b').code).toBe('channel-invalid');
  });
});

describe('slack://', () => {
  it('posts text in which nothing can mention a channel', async () => {
    await send(hook.url('slack+http'), sampleAlert({ title: '<!channel> & co' }));
    expect(hook.received[0]?.json).toMatchObject({
      text: expect.stringMatching(/^\*&lt;!channel&gt; &amp; co\*\n[\s\S]*alpha-000012/),
    });
    expect(refusalOf('slack://hooks.example').code).toBe('channel-invalid');
  });
});
