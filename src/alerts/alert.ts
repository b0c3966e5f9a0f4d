// An alert: what happened, on which node, how bad. Severities are those of syslog (RFC 5424, section 6.2.1).
import { z } from '../host/zod.ts';

/** In the order of their syslog codes: `emergency` is 0, `debug` is 7. */
export const severities = [
  'emergency',
  'alert',
  'critical',
  'error',
  'warning',
  'notice',
  'informational',
  'debug',
] as const;
export type Severity = (typeof severities)[number];

export const severityCode = (severity: Severity): number => severities.indexOf(severity);

/** True when `severity` is as urgent as `threshold`, or more. */
export const atLeast = (severity: Severity, threshold: Severity): boolean =>
  severityCode(severity) <= severityCode(threshold);

/** A word that can stand in a header, a file name and a syslog field: visible ASCII without spaces or slashes. */
export const visibleWord = /^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$/;

export const alertSchema = z.strictObject({
  /** Shown to people in every channel, so that a duplicate is recognised: `alpha-000012`. */
  key: z.string().regex(visibleWord),
  node: z.string().regex(visibleWord),
  severity: z.enum(severities),
  title: z.string().min(1),
  body: z.string(),
  /** RFC 3339. */
  time: z.iso.datetime({ offset: true }),
  facts: z.record(z.string(), z.string()),
});
export type Alert = z.infer<typeof alertSchema>;

/** The longest prefix within `maxBytes` of UTF-8, cut between code points and ending in `…` when cut. */
export function truncate(text: string, maxBytes: number): string {
  if (Buffer.byteLength(text) <= maxBytes) return text;
  const room = maxBytes - Buffer.byteLength('…');
  let kept = '';
  let size = 0;
  for (const character of text) {
    size += Buffer.byteLength(character);
    if (size > room) break;
    kept += character;
  }
  return `${kept}…`;
}

/** The title on one line: control characters become spaces, so that it can be a header. */
export const titleLine = (alert: Alert, maxBytes: number): string =>
  truncate(alert.title.replace(/\p{Cc}+/gu, ' ').trim(), maxBytes);

/** Body, facts and a last line with the key, for channels that show text. What is cut is never the last line. */
export function alertText(alert: Alert, maxBytes: number): string {
  const facts = Object.entries(alert.facts).map(([name, value]) => `${name}: ${value}`);
  const footer = `\n\n${alert.key} · ${alert.node} · ${alert.severity} · ${alert.time}`;
  const text = [alert.body, ...facts].join('\n').trim();
  return truncate(text, maxBytes - Buffer.byteLength(footer)) + footer;
}
