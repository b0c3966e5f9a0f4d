// The report itself, as one HTML page with its plots in it, or as Markdown with its plots beside it.
import type { Analysis } from './analysis.ts';

export interface ReportedSource {
  readonly name: string;
  readonly family: string;
  readonly physical: string;
  readonly exercised: 'live' | 'recorded';
  readonly analysis: Analysis;
  /** Bits a sample by SP 800-90B, over the samples of this report; and the estimator that gave the least. */
  readonly minEntropy: number;
  readonly estimator: string;
  /** Bits a sample that count now, and what the policy grants at most. */
  readonly credit: number;
  readonly policyCredit: number;
  readonly plots: Readonly<Record<'histogram' | 'autocorrelation' | 'spectrum' | 'bitmap', string>>;
}

export interface Report {
  /** RFC 3339. */
  readonly made: string;
  readonly node: string;
  readonly kernel: string;
  readonly processor: string;
  readonly sources: readonly ReportedSource[];
  /** Chosen, and not here: why. */
  readonly missing: readonly { readonly name: string; readonly why: string }[];
}

const columns = [
  'source',
  'samples',
  'distinct values',
  'most common',
  'Shannon',
  'SP 800-90B',
  'credit',
] as const;

const rowOf = ({ name, analysis, minEntropy, credit }: ReportedSource): string[] => [
  name,
  String(analysis.samples),
  String(analysis.distinct),
  `${analysis.mostCommon.value} (${(100 * analysis.mostCommon.share).toFixed(2)} %)`,
  analysis.shannon.toFixed(3),
  minEntropy.toFixed(3),
  credit.toFixed(3),
];

const explanation =
  'Bits are per 8-bit sample. Shannon entropy is what an average symbol tells and is never credited; SP 800-90B is the least of its ten estimators over the samples shown here. Credit is what counts at run time: the least of the assessment that `probe` keeps, its restart test, and the policy.';

const sentencesOf = (source: ReportedSource): string[] => [
  `Physical: ${source.physical}.`,
  `Least estimate: ${source.minEntropy.toFixed(3)} bits (${source.estimator}). The policy grants at most ${source.policyCredit}.`,
  ...(source.exercised === 'recorded'
    ? ['The tests of this program exercise this source on recorded samples only.']
    : []),
];

/** Markdown, and the SVG files that it shows, by name. `stem`: what their names begin with. */
export function markdownReport(report: Report, stem: string): { text: string; files: Map<string, string> } {
  const files = new Map<string, string>();
  const sections = report.sources.flatMap((source) => {
    const images = Object.entries(source.plots).map(([plot, svg]) => {
      const name = `${stem}.${source.name.replaceAll(/[^a-z0-9-]/gi, '_')}.${plot}.svg`;
      files.set(name, svg);
      return `![${plot} of ${source.name}](${encodeURI(name)})`;
    });
    return [
      `## ${source.name}`,
      '',
      ...sentencesOf(source).flatMap((line) => [line, '']),
      ...images.flatMap((line) => [line, '']),
    ];
  });
  const lines = [
    '# Noise sources',
    '',
    `Made ${report.made} on ${report.node} (${report.processor}, kernel ${report.kernel}).`,
    '',
    `| ${columns.join(' | ')} |`,
    `|${columns.map(() => '---').join('|')}|`,
    ...report.sources.map((source) => `| ${rowOf(source).join(' | ')} |`),
    '',
    explanation,
    '',
    ...missingLines(report).flatMap((line) => [`- ${line}`]),
    ...(report.missing.length === 0 ? [] : ['']),
    ...sections,
  ];
  return { text: `${lines.join('\n').trimEnd()}\n`, files };
}

const missingLines = ({ missing }: Report): string[] =>
  missing.map(({ name, why }) => `${name} is not here: ${why}.`);

const escaped = (words: string): string =>
  words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #ccc}
figure{display:inline-block;margin:.5rem 1rem .5rem 0;vertical-align:top}figure svg{width:28rem;height:auto}figure.bitmap svg{width:16rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}td,th{border-color:#444}}`;

export function htmlReport(report: Report): string {
  const cells = (tag: string, words: readonly string[]): string =>
    `<tr>${words.map((word) => `<${tag}>${escaped(word)}</${tag}>`).join('')}</tr>`;
  const sections = report.sources.map((source) => {
    const figures = Object.entries(source.plots).map(
      ([plot, svg]) => `<figure class="${plot}">${svg}</figure>`,
    );
    const sentences = sentencesOf(source).map((line) => `<p>${escaped(line)}</p>`);
    return [`<h2>${escaped(source.name)}</h2>`, ...sentences, ...figures].join('\n');
  });
  return [
    '<!doctype html>',
    '<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
    `<title>Noise sources of ${escaped(report.node)}</title><style>${style}</style>`,
    '<h1>Noise sources</h1>',
    `<p>Made ${escaped(report.made)} on ${escaped(report.node)} (${escaped(report.processor)}, kernel ${escaped(report.kernel)}).</p>`,
    `<table>${cells('th', columns)}${report.sources.map((source) => cells('td', rowOf(source))).join('\n')}</table>`,
    `<p>${escaped(explanation)}</p>`,
    ...(report.missing.length === 0
      ? []
      : [
          `<ul>${missingLines(report)
            .map((line) => `<li>${escaped(line)}</li>`)
            .join('')}</ul>`,
        ]),
    ...sections,
    '</html>',
    '',
  ].join('\n');
}
