// slack://: an incoming webhook of Slack or of anything that speaks the same (docs.slack.dev, "Sending messages using
// incoming webhooks"). The whole path is the secret.
import { alertText, titleLine } from '../alert.ts';
import type { Channel } from '../channel.ts';
import { invalidChannel } from '../delivery-failure.ts';
import { httpAddress, post } from './http.ts';

const example = 'slack://hooks.slack.com/services/T000/B000/token';
const maxTitleBytes = 250;
/** Slack cuts at 40,000 characters and advises 4,000. */
const maxMessageBytes = 3500;

/** `slack://host/path` posts by https; `slack+http://host:port/path` is for compatible servers on a trusted network. */
export function openSlack(url: URL): Channel {
  const address = httpAddress(url, url.protocol === 'slack:', example);
  if (address.url.pathname === '/')
    throw invalidChannel('A slack channel needs the path of its webhook.', example);
  return {
    name: address.name,
    send: (alert, signal) =>
      post(
        address,
        { 'content-type': 'application/json' },
        JSON.stringify({
          text: `*${escaped(titleLine(alert, maxTitleBytes))}*\n${escaped(alertText(alert, maxMessageBytes))}`,
        }),
        alert.key,
        signal,
      ),
  };
}

/** The three characters that control Slack's formatting; without them a text could mention `<!channel>`. */
const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
