import { readFileSync } from 'node:fs';
import { parse } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { alertPolicySchema, isDuplicate, jobsOf, route } from '../../src/alerts/router.ts';
import { sampleAlert } from './sample.ts';

const policy = alertPolicySchema.parse({
  thresholds: { default: 'warning', pager: 'critical', log: 'debug' },
});
const channels = [
  { id: 'plain' },
  { id: 'pager', tag: 'pager' },
  { id: 'log', tag: 'log' },
  { id: 'own', tag: 'log', minSeverity: 'emergency' as const },
  { id: 'odd', tag: 'constructor' },
];

describe('the router', () => {
  it('sends a warning to all channels where nothing else is said', () => {
    const bare = alertPolicySchema.parse({});
    expect(route(sampleAlert({ severity: 'warning' }), bare, [{ id: 'a' }, { id: 'b' }])).toEqual(['a', 'b']);
    expect(route(sampleAlert({ severity: 'notice' }), bare, [{ id: 'a' }])).toEqual([]);
  });

  it('goes by the threshold of a tag, and by a channel of its own before that', () => {
    expect(route(sampleAlert({ severity: 'warning' }), policy, channels)).toEqual(['plain', 'log', 'odd']);
    expect(route(sampleAlert({ severity: 'critical' }), policy, channels)).toEqual([
      'plain',
      'pager',
      'log',
      'odd',
    ]);
    expect(route(sampleAlert({ severity: 'emergency' }), policy, channels)).toHaveLength(5);
  });

  it('makes one job for each channel, and one for a bundle', () => {
    const alert = sampleAlert();
    expect(jobsOf({ kind: 'alert', alert }, policy, channels).map((job) => job.key)).toEqual(
      Array(4).fill('alpha-000012'),
    );
    const bundle = { kind: 'bundle' as const, key: 'alpha-000003', payload: { archive: '/a' } };
    expect(jobsOf(bundle, policy, channels)).toEqual([bundle]);
  });

  it('sends to the channels that a job names, whatever their thresholds', () => {
    const alert = sampleAlert({ severity: 'debug' });
    expect(jobsOf({ kind: 'alert', alert, channels: ['own'] }, policy, channels)).toEqual([
      { kind: 'alert', key: alert.key, channel: 'own', alert },
    ]);
  });

  it('takes a repeated key for news only with another message and after the window', () => {
    const ended = { sameMessage: false, endedAt: 1000 };
    expect(isDuplicate(ended, 1500, 1000)).toBe(true);
    expect(isDuplicate(ended, 2000, 1000)).toBe(false);
    expect(isDuplicate({ ...ended, sameMessage: true }, 2000, 1000)).toBe(true);
    expect(isDuplicate({ ...ended, endedAt: undefined }, 2000, 1000)).toBe(true);
  });

  it('reads the policy that is shipped, and refuses unknown keys', () => {
    const shipped = parse(readFileSync(new URL('../../policies/alerts.toml', import.meta.url), 'utf8'));
    expect(alertPolicySchema.parse(shipped)).toEqual({
      deduplicationMilliseconds: Number.POSITIVE_INFINITY,
      thresholds: { default: 'warning', pager: 'critical', log: 'informational' },
    });
    expect(alertPolicySchema.parse({ deduplication_window_seconds: 60 }).deduplicationMilliseconds).toBe(
      60_000,
    );
    expect(alertPolicySchema.safeParse({ treshold: {} }).success).toBe(false);
    expect(alertPolicySchema.safeParse({ thresholds: { default: 'loud' } }).success).toBe(false);
  });
});
