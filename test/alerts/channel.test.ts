import { inspect } from 'node:util';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { channelSchemes, openChannel } from '../../src/alerts/channel.ts';
import { errorWord } from '../../src/alerts/delivery-failure.ts';
import { Failure } from '../../src/host/failure.ts';
import { startWebhook, type Webhook } from '../lab/webhook.ts';
import { failureOf, refusalOf } from './attempt.ts';
import { sampleAlert } from './sample.ts';

let hook: Webhook;
beforeEach(async () => {
  hook = await startWebhook();
});
afterEach(() => hook.stop());

describe('a channel URL', () => {
  it('names the nearest scheme when its own is unknown', () => {
    const failure = refusalOf('jsno://host/');
    expect(failure).toMatchObject({ code: 'channel-unknown', status: 2 });
    expect(failure.remedy).toContain('Did you mean `json://`?');
    expect(refusalOf('constructor://host').code).toBe('channel-unknown');
  });

  it('never shows a credential, in a name or in an error', async () => {
    hook.respond(500);
    const secret = 'S3CR3Tt0ken';
    const urls = [
      hook.url('json', { user: `u:${secret}`, path: `/${secret}?token=${secret}` }),
      hook.url('json', { user: `${secret}:x` }),
      hook.url('ntfy', { user: `:${secret}`, path: `/${secret}` }),
      hook.url('slack+http', { path: `/services/T/B/${secret}` }),
      `mailto://u:${secret}@127.0.0.1:1/a@example.org?password=${secret}`,
      `slack://127.0.0.1:1/services/${secret}`,
    ];
    for (const url of urls) {
      const channel = openChannel(url);
      const failure = await failureOf(channel.send(sampleAlert(), AbortSignal.timeout(1000)));
      expect(`${channel.name} ${inspect(failure, { depth: 9 })} ${JSON.stringify(failure)}`).not.toContain(
        secret,
      );
    }
    const broken = [
      `json://u:${secret}/x@host/`,
      `json://u:12/${secret}@host/`,
      `ntfy://u:%${secret}@host/t`,
    ];
    for (const url of [...broken, `json://u:${secret}@`, `${secret} json://`, `mailto://h/${secret}`]) {
      expect(inspect(refusalOf(url), { depth: 9 })).not.toContain(secret);
    }
  });

  it('is opened or refused with a Failure, whatever it is, and its password never shows', () => {
    const scheme = fc.constantFrom(...channelSchemes, 'http', 'x');
    const part = fc.string({ maxLength: 12, unit: 'grapheme' });
    const password = fc.stringMatching(/^[A-Z]{12}$/);
    fc.assert(
      fc.property(scheme, part, password, part, part, (name, user, secret, host, rest) => {
        let shown: string;
        try {
          shown = openChannel(`${name}://${user}:${secret}@${host}/${rest}`).name;
        } catch (error) {
          expect(error).toBeInstanceOf(Failure);
          shown = inspect(error, { depth: 9 });
        }
        // A user part that ends the authority early makes the rest a path, which only a file has in its name.
        if (name !== 'file') expect(shown).not.toContain(secret);
      }),
      { numRuns: 500 },
    );
  });

  it('may be anything at all', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.webUrl()), (text) => {
        expect(refusalOf(text).status).toBe(2);
      }),
      { numRuns: 200 },
    );
  });
});

describe('the word for an error', () => {
  it('is its code, its cause, or its class, and never its message', () => {
    expect(errorWord(Object.assign(new Error('secret'), { code: 'ECONNRESET' }))).toBe('ECONNRESET');
    expect(errorWord(new TypeError('secret', { cause: Object.assign(new Error(), { code: 'EPIPE' }) }))).toBe(
      'EPIPE',
    );
    expect(errorWord(new TypeError('secret'))).toBe('TypeError');
    expect(errorWord('secret')).toBe('unknown error');
  });
});
