// desktop://: a notification on the desktop of whoever runs the courier, through notify-send.
import { type Alert, alertText, atLeast, titleLine } from '../alert.ts';
import type { Channel } from '../channel.ts';
import { DeliveryFailure } from '../delivery-failure.ts';

const name = 'desktop://';
const maxTitleBytes = 120;
const maxMessageBytes = 1000;

/** `desktop://` */
export function openDesktop(): Channel {
  return {
    name,
    async send(alert) {
      // Loaded here: most couriers run on machines without a desktop.
      const { default: notifier } = await import('node-notifier');
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      notifier.notify(notificationOf(alert), (error) => {
        if (error)
          reject(DeliveryFailure.unavailable(`${name} could not show it: is notify-send installed?`));
        else resolve();
      });
      await promise;
    },
  };
}

/** Title and message begin with a word of ours, so that neither can be taken for an option of notify-send. */
export const notificationOf = (
  alert: Alert,
): { title: string; message: string; urgency: 'critical' | 'normal' } => ({
  title: `[${alert.severity}] ${titleLine(alert, maxTitleBytes)}`,
  message: `${alert.node}: ${alertText(alert, maxMessageBytes)}`,
  urgency: atLeast(alert.severity, 'error') ? 'critical' : 'normal',
});
