// Which channels an alert goes to, and when a repeated key is news again. Pure; the policy is policies/alerts.toml.
import { z } from '../host/zod.ts';
import { type Alert, atLeast, type Severity, severities } from './alert.ts';
import type { Job, SpooledJob } from './job.ts';

/** policies/alerts.toml. */
export const alertPolicySchema = z
  .strictObject({
    deduplication_window_seconds: z.number().nonnegative().optional(),
    thresholds: z.record(z.string(), z.enum(severities)).default({}),
  })
  .transform(
    (policy): AlertPolicy => ({
      deduplicationMilliseconds: (policy.deduplication_window_seconds ?? Number.POSITIVE_INFINITY) * 1000,
      thresholds: policy.thresholds,
    }),
  );

export interface AlertPolicy {
  /** An alert whose key was delivered less than this ago is not sent again; infinite unless the policy says otherwise. */
  readonly deduplicationMilliseconds: number;
  /** By channel tag, the mildest severity that is sent; `default` for tags not named. */
  readonly thresholds: Readonly<Record<string, Severity>>;
}

/** A channel as the router sees it: without its URL. */
export interface RoutedChannel {
  readonly id: string;
  readonly tag?: string;
  /** Outranks the policy's threshold. */
  readonly minSeverity?: Severity;
}

const fallbackThreshold: Severity = 'warning';

/** The identifiers of the channels that `alert` goes to. */
export function route(alert: Alert, policy: AlertPolicy, channels: readonly RoutedChannel[]): string[] {
  return channels
    .filter((channel) => atLeast(alert.severity, thresholdOf(channel, policy)))
    .map((channel) => channel.id);
}

const thresholdOf = (channel: RoutedChannel, policy: AlertPolicy): Severity =>
  channel.minSeverity ??
  (channel.tag !== undefined && Object.hasOwn(policy.thresholds, channel.tag)
    ? policy.thresholds[channel.tag]
    : undefined) ??
  policy.thresholds.default ??
  fallbackThreshold;

/** The deliveries that a spooled job asks for: an alert once for each channel, a bundle once. */
export function jobsOf(spooled: SpooledJob, policy: AlertPolicy, channels: readonly RoutedChannel[]): Job[] {
  if (spooled.kind === 'bundle') return [spooled];
  const { alert } = spooled;
  const ids = spooled.channels ?? route(alert, policy, channels);
  return ids.map((channel) => ({ kind: 'alert', key: alert.key, channel, alert }));
}

/** What the outbox knows of an earlier job with the same key and channel. Times in milliseconds. */
export interface Earlier {
  /** The same but for its time: a node announces again, at its start, what may not have been announced. */
  readonly sameMessage: boolean;
  /** Undefined while it is still queued. */
  readonly endedAt: number | undefined;
}

/**
 * True when a job adds nothing to an earlier one: the same message dropped twice, or a key that comes again while the first is
 * queued or within the window.
 */
export const isDuplicate = (earlier: Earlier, now: number, windowMilliseconds: number): boolean =>
  earlier.sameMessage || earlier.endedAt === undefined || now - earlier.endedAt < windowMilliseconds;
