// A channel carries an alert to people. One URL each; the scheme says which. A new kind is a new file in channels/ and a
// line here.
import { closest } from 'fastest-levenshtein';
import { exitStatus, Failure } from '../host/failure.ts';
import type { Alert } from './alert.ts';
import { openDesktop } from './channels/desktop.ts';
import { openFile } from './channels/file.ts';
import { openJson } from './channels/json.ts';
import { openMail } from './channels/mail.ts';
import { openNtfy } from './channels/ntfy.ts';
import { openSlack } from './channels/slack.ts';
import { openSyslog } from './channels/syslog.ts';
import { DeliveryFailure, errorWord, invalidChannel } from './delivery-failure.ts';

export interface Channel {
  /** For people and logs: no user, password, token, secret path or query. Not unique. */
  readonly name: string;
  /**
   * Resolves when the other side has acknowledged. Gives up when `signal` aborts.
   * @throws DeliveryFailure, and nothing else, from a channel that `openChannel` made.
   */
  send(alert: Alert, signal: AbortSignal): Promise<void>;
}

const openers: Readonly<Record<string, (url: URL) => Channel>> = {
  json: openJson,
  jsons: openJson,
  ntfy: openNtfy,
  ntfys: openNtfy,
  slack: openSlack,
  'slack+http': openSlack,
  mailto: openMail,
  mailtos: openMail,
  syslog: openSyslog,
  'syslog+tcp': openSyslog,
  desktop: openDesktop,
  file: openFile,
};

export const channelSchemes: readonly string[] = Object.keys(openers);

/**
 * The channel of a URL; nothing is sent or connected yet.
 * @throws Failure `channel-unknown` for a scheme that has no channel, `channel-invalid` for a URL that cannot be used. Neither
 * quotes the URL.
 */
export function openChannel(url: string): Channel {
  const scheme = /^([a-z][a-z0-9+.-]{0,30}):\/\//i.exec(url)?.[1]?.toLowerCase();
  if (scheme === undefined) {
    throw invalidChannel('An alert channel is not a URL with a scheme.', 'jsons://host/path');
  }
  const open = Object.hasOwn(openers, scheme) ? openers[scheme] : undefined;
  if (open === undefined) {
    throw new Failure('channel-unknown', `There is no alert channel of the scheme "${scheme}".`, {
      remedy: `Did you mean \`${closest(scheme, [...channelSchemes])}://\`? Known are ${channelSchemes.join(', ')}.`,
      status: exitStatus.usage,
    });
  }
  if (!URL.canParse(url)) {
    throw invalidChannel(`The ${scheme}:// channel is not a well-formed URL.`, `${scheme}://host/path`);
  }
  return guarded(open(new URL(url)));
}

/** Whatever a library throws becomes a DeliveryFailure that quotes nothing of it. */
function guarded(channel: Channel): Channel {
  return {
    name: channel.name,
    async send(alert, signal) {
      try {
        signal.throwIfAborted();
        await channel.send(alert, signal);
      } catch (error) {
        if (error instanceof DeliveryFailure) throw error;
        throw DeliveryFailure.unavailable(
          signal.aborted
            ? `${channel.name} did not acknowledge in time.`
            : `${channel.name} could not be reached (${errorWord(error)}).`,
        );
      }
    },
  };
}
