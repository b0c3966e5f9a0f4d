import type { ManyReport } from '../appliance/verify-many.ts';
import type { Appraisal, Verdict, VerifyReport } from '../forensics/claims.ts';
import type { Explanation } from '../forensics/explain.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { ending, stopSignal } from './command.ts';
import { otherRoot } from './other-root.ts';
import { paint, plainly, printJson, printLine, progressLine, table } from './output.ts';
import { verifying, verifyOptions } from './verifying.ts';

export const verifyCommand = verifying('verify')
  .description(
    'appraise a forensic bundle, or many and whether one is missing or contradicts another; offline',
  )
  .argument(
    '<bundle>',
    'NODE-SEQ-UTC.tar.gz, its .sigstore.json beside it; a directory with many; s3://BUCKET/KEY or s3://BUCKET/PREFIX',
  )
  .option('--case-key <file>', 'key of the case, to look at redactions')
  .option('--explain <claim>', 'also tell what a claim means, what it needs and what its failure tells')
  .option('--allow-bypassed', 'accept bundles made with bypasses or stand-ins, as long as nothing fails')
  .addHelpText(
    'after',
    `
Exit status: 0 proven (or incomplete, where policy or --allow-bypassed allow that), 3 rejected.

Examples:
  $ esoteric-appliance verify alpha-000001-20261120T160000Z.tar.gz --enrolment alpha.json
  $ esoteric-appliance verify BUNDLE.tar.gz --enrolment alpha.json --trusted-root root.json --allow-bypassed
  $ esoteric-appliance verify BUNDLE.tar.gz --enrolment alpha.json --explain "PCR policy"
  $ esoteric-appliance verify ./evidence --enrolment ./enrolments
  $ esoteric-appliance verify "s3://evidence/alpha?endpoint=https://s3.example.org" --enrolment alpha.json`,
  )
  .action((archive, options) =>
    ending(options.json, async () => {
      const { verifyAt } = await import('../appliance/verify-many.ts');
      const explanation = options.explain === undefined ? undefined : await explanationOf(options.explain);
      const progress = progressLine();
      // Of a bucket there are copies to be removed; else an interruption ends the process at once.
      const signal = archive.startsWith('s3://') ? stopSignal() : new AbortController().signal;
      const verified = await verifyAt(
        {
          ...verifyOptions(archive, options),
          caseKey: options.caseKey,
          allowBypassed: options.allowBypassed === true,
        },
        { signal, onProgress: progress.step },
      )
        .catch((error: unknown) => {
          throw signal.aborted ? interrupted : error;
        })
        .finally(progress.done);
      const { accepted, report } = verified;
      if (options.json) printJson(explanation === undefined ? report : { ...report, explanation });
      else {
        const lines = verified.many
          ? manyLines(plainly(verified.report), accepted)
          : reportLines(plainly(verified.report), accepted);
        for (const line of lines) printLine(line);
        const reports = verified.many ? verified.report.bundles : [verified.report];
        for (const line of otherRoot(options.trustedRoot, reports)) printLine(line);
        if (explanation !== undefined) for (const line of explanationLines(explanation)) printLine(line);
      }
      return accepted ? exitStatus.done : exitStatus.rejected;
    }),
  );

const interrupted = new Failure('interrupted', 'The verification was interrupted.', {
  kept: 'What had been fetched is removed; nothing else was touched.',
});

async function explanationOf(name: string): Promise<Explanation> {
  const { explain } = await import('../forensics/explain.ts');
  const { claimNames, seriesClaimNames } = await import('../forensics/claims.ts');
  const explanation = explain(name);
  if (explanation !== undefined) return explanation;
  throw new Failure('usage', `There is no claim "${name}".`, {
    remedy: `The claims are: ${[...claimNames, ...seriesClaimNames].join(', ')}. What is told beside them: program.`,
    status: exitStatus.usage,
  });
}

const explanationLines = ({ claim, says, needs, failed }: Explanation): string[] => [
  '',
  paint('bold', claim),
  ...table([
    ['  it says', says],
    ['  it needs', needs],
    ['  if it failed', failed],
  ]),
];

const marks = {
  proven: () => paint('green', 'proven'),
  failed: () => paint(['red', 'bold'], 'FAILED'),
  'not-proven': () => paint('yellow', 'not proven'),
};

/** Of a report in plain words (`plainly`), as all that follow. */
function reportLines(report: VerifyReport, accepted: boolean): string[] {
  const { bundle, verdict } = report;
  return [
    ...(bundle === null
      ? []
      : [`${bundle.node} #${bundle.sequence}, ${bundle.created}: ${bundle.reason}`, '']),
    ...table(report.claims.map(({ claim, result, detail }) => [`  ${claim}`, marks[result](), detail])),
    '',
    ...programLines(report.program),
    ...report.reasons.map((reason) => paint('red', reason)),
    verdictLine(verdict, accepted),
  ];
}

/** The node's word about its own program. */
function programLines(program: VerifyReport['program']): string[] {
  if (program === null) return [];
  const { version, digest, changed, provenance, sbom } = program;
  const told = (name: string, { result, detail, by }: typeof sbom): string[] => [
    `  ${name}`,
    result,
    by === undefined ? detail : `${by}: ${detail}`,
  ];
  return [
    `program, as the node found it: ${version}${digest === null ? '' : `, package sha256:${digest.sha256}`}`,
    ...table([told('provenance', provenance), told('SBOM', sbom)]),
    ...(changed.length === 0 ? [] : [`  changed since it was packed: ${changed.join(', ')}`]),
    '',
  ];
}

/** A line a bundle, with the claims that failed or, where it is not accepted, that are not proven; then the series of each node. */
function manyLines({ bundles, nodes, notRead, reasons, verdict }: ManyReport, accepted: boolean): string[] {
  const named = (claims: VerifyReport['claims'], wanted: Appraisal['result']): string =>
    claims.flatMap(({ claim, result }) => (result === wanted ? [claim] : [])).join(', ');
  const why = (bundle: ManyReport['bundles'][number]): string => {
    const failed = named(bundle.claims, 'failed');
    const lacking = named(bundle.claims, 'not-proven');
    if (failed !== '' || bundle.reasons.length > 0)
      return [failed === '' ? '' : `failed: ${failed}.`, ...bundle.reasons].filter(Boolean).join(' ');
    return lacking === '' ? '' : `not proven: ${lacking}`;
  };
  return [
    ...table(
      bundles.map((bundle) => [
        bundle.archive,
        bundle.bundle === null ? '' : `${bundle.bundle.node} #${bundle.bundle.sequence}`,
        paint(styles[bundle.verdict], bundle.verdict),
        why(bundle),
      ]),
    ),
    ...nodes.flatMap(({ node, bundles: of, claims }) => [
      '',
      paint('bold', `${node}: ${of.length} ${of.length === 1 ? 'bundle' : 'bundles'}`),
      ...table(claims.map(({ claim, result, detail }) => [`  ${claim}`, marks[result](), detail])),
    ]),
    '',
    ...notRead.map(({ name, what, bundle }) =>
      paint(
        bundle ? 'yellow' : 'dim',
        `${name} is a ${what}, and was not ${bundle ? 'verified' : 'looked at'}.`,
      ),
    ),
    ...reasons.map((reason) => paint('red', reason)),
    verdictLine(
      verdict,
      accepted,
      notRead.some(({ bundle }) => bundle) ? 'not all were verified' : undefined,
    ),
  ];
}

const styles = { proven: 'green', incomplete: 'yellow', rejected: 'red' } as const;

function verdictLine(
  verdict: Verdict,
  accepted: boolean,
  why = 'see --allow-bypassed and policies/verify.toml',
): string {
  const note = accepted ? ' (accepted: what is missing is allowed)' : ` (not accepted: ${why})`;
  return `${paint([styles[verdict], 'bold'], verdict)}${verdict === 'incomplete' ? note : ''}`;
}
