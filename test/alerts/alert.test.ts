import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { alertText, atLeast, severities, severityCode, titleLine, truncate } from '../../src/alerts/alert.ts';
import { sampleAlert } from './sample.ts';

describe('an alert', () => {
  it('has the severities of syslog in the order of their codes', () => {
    expect(severityCode('emergency')).toBe(0);
    expect(severityCode('warning')).toBe(4);
    expect(severityCode('debug')).toBe(7);
    expect(severities.filter((severity) => atLeast(severity, 'error'))).toEqual([
      'emergency',
      'alert',
      'critical',
      'error',
    ]);
  });

  it('is cut within a number of bytes, never inside a character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.integer({ min: 3, max: 60 }), (text, limit) => {
        const cut = truncate(text, limit);
        const isPrefix = cut === text || (cut.endsWith('…') && text.startsWith(cut.slice(0, -1)));
        return Buffer.byteLength(cut) <= limit && isPrefix && (cut.isWellFormed() || !text.isWellFormed());
      }),
    );
  });

  it('keeps its key visible however long its body is', () => {
    const text = alertText(sampleAlert({ body: 'x'.repeat(100_000) }), 500);
    expect(Buffer.byteLength(text)).toBe(500);
    expect(text.split('\n').at(-1)).toBe('alpha-000012 · alpha · critical · 2026-11-20T10:11:12.345Z');
  });

  it('shows its facts', () => {
    expect(alertText(sampleAlert(), 500)).toContain('interface: eth0\nlevel: lock');
  });

  it('has a title without line breaks, so that it cannot add a header', () => {
    expect(titleLine(sampleAlert({ title: 'a\r\nBcc: b\u0000' }), 100)).toBe('a Bcc: b');
  });
});
