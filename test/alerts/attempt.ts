// One attempt at a channel, and how it is expected to fail.
import { expect } from 'vitest';
import type { Alert } from '../../src/alerts/alert.ts';
import { openChannel } from '../../src/alerts/channel.ts';
import { DeliveryFailure } from '../../src/alerts/delivery-failure.ts';
import { Failure } from '../../src/host/failure.ts';
import { sampleAlert } from './sample.ts';

export const send = (url: string, alert: Alert = sampleAlert(), milliseconds = 2000): Promise<void> =>
  openChannel(url).send(alert, AbortSignal.timeout(milliseconds));

export const failureOf = async (work: Promise<void>): Promise<DeliveryFailure> => {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(DeliveryFailure);
  return error as DeliveryFailure;
};

/** Why the URL is refused at all. */
export function refusalOf(url: string): Failure {
  try {
    openChannel(url);
  } catch (error) {
    expect(error).toBeInstanceOf(Failure);
    return error as Failure;
  }
  throw new Error('The URL was accepted.');
}
