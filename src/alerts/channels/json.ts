// json:// and jsons://: one JSON document by POST to any webhook, over http and https. Format 1.
import { alertText, titleLine } from '../alert.ts';
import type { Channel } from '../channel.ts';
import { basicAuthorization, httpAddress, post } from './http.ts';

const maxTitleBytes = 250;
const maxMessageBytes = 32_768;

/** `json[s]://[user:password@]host[:port]/path?query` */
export function openJson(url: URL): Channel {
  const address = httpAddress(url, url.protocol === 'jsons:', 'jsons://user:password@host/path');
  return {
    name: address.name,
    send: (alert, signal) =>
      post(
        address,
        { 'content-type': 'application/json', ...basicAuthorization(address) },
        JSON.stringify({
          version: 1,
          key: alert.key,
          node: alert.node,
          severity: alert.severity,
          title: titleLine(alert, maxTitleBytes),
          message: alertText(alert, maxMessageBytes),
          time: alert.time,
          facts: alert.facts,
        }),
        alert.key,
        signal,
      ),
  };
}
