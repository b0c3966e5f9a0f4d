// The status of the entropy side as Prometheus text (exposition format 0.0.4).
import type { EntropyStatus } from '../status.ts';

const prefix = 'esoteric_appliance_entropy';

export function metricsText(status: EntropyStatus): string {
  const { sources } = status;
  return [
    metric('serving', 'gauge', 'Whether random output is given out from a fresh seed.', [
      ['', ['serving', 'paused'].includes(status.state) ? 1 : 0],
    ]),
    metric('state', 'gauge', 'The state of the pool, as a label.', [[label({ state: status.state }), 1]]),
    metric('output_bytes_total', 'counter', 'Bytes given out.', [['', status.bytesOut]]),
    metric('reseeds_total', 'counter', 'Reseeds of the DRBG after the first seed.', [['', status.reseeds]]),
    metric('credited_bits_total', 'counter', 'Credited bits that the seeds rest on.', [
      ['', status.credited],
    ]),
    metric(
      'source_healthy',
      'gauge',
      'Whether the health tests of the noise source pass.',
      sources.map(({ name, family, state }) => [
        label({ source: name, family }),
        state === 'healthy' ? 1 : 0,
      ]),
    ),
    metric(
      'source_samples_total',
      'counter',
      'Raw samples taken.',
      sources.map(({ name, samples }) => [label({ source: name }), samples]),
    ),
    metric(
      'source_failures_total',
      'counter',
      'Alarms of the health tests, and losses.',
      sources.map(({ name, failures }) => [label({ source: name }), failures]),
    ),
    metric(
      'source_credit_bits',
      'gauge',
      'Bits of min-entropy counted for one sample.',
      sources.map(({ name, credit }) => [label({ source: name }), credit]),
    ),
  ].join('');
}

function metric(
  name: string,
  type: 'gauge' | 'counter',
  help: string,
  values: (readonly [labels: string, value: number])[],
): string {
  const full = `${prefix}_${name}`;
  const lines = values.map(([labels, value]) => `${full}${labels} ${value}\n`);
  return `# HELP ${full} ${help}\n# TYPE ${full} ${type}\n${lines.join('')}`;
}

function label(pairs: Record<string, string>): string {
  return `{${Object.entries(pairs)
    .map(([key, value]) => `${key}="${value}"`)
    .join(',')}}`;
}
