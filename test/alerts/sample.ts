// An alert for tests, and the jobs that carry it.
import type { Alert } from '../../src/alerts/alert.ts';
import type { Job } from '../../src/alerts/job.ts';

export const sampleAlert = (changes: Partial<Alert> = {}): Alert => ({
  key: 'alpha-000012',
  node: 'alpha',
  severity: 'critical',
  title: 'Unplanned flap on eth0',
  body: 'The secret arena was wiped.',
  time: '2026-11-20T10:11:12.345Z',
  facts: { interface: 'eth0', level: 'lock' },
  ...changes,
});

export const sampleJob = (channel: string, changes: Partial<Alert> = {}): Job => {
  const alert = sampleAlert(changes);
  return { kind: 'alert', key: alert.key, channel, alert };
};
