// What the node daemon hands to the courier, and what the courier's outbox holds. Neither names a channel's URL: credentials
// live in the courier's configuration alone.
import { z } from '../host/zod.ts';
import { type Alert, alertSchema, visibleWord } from './alert.ts';

/** A job as it lies in the spool. A bundle's payload is for whoever uploads it; here it is opaque JSON. */
export const spooledJobSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('alert'),
    alert: alertSchema,
    /** Only to these channels, whatever their thresholds (`alert test`). */
    channels: z.array(z.string()).optional(),
  }),
  z.strictObject({ kind: z.literal('bundle'), key: z.string().regex(visibleWord), payload: z.json() }),
]);
export type SpooledJob = z.infer<typeof spooledJobSchema>;

/** A job as it lies in the outbox: one delivery. `channel` is an identifier, never a URL. */
export type Job =
  | { readonly kind: 'alert'; readonly key: string; readonly channel: string; readonly alert: Alert }
  | { readonly kind: 'bundle'; readonly key: string; readonly payload: unknown };

export const keyOf = (job: SpooledJob): string => (job.kind === 'alert' ? job.alert.key : job.key);
