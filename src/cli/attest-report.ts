// The verdict on a node's evidence, for people and for programs.
import type { Enrolment } from '../appliance/verifier.ts';
import type { AttestReport } from '../attestation/evidence-appraisal.ts';
import { type ExitStatus, exitStatus } from '../host/failure.ts';
import { paint, plain, printJson, printLine, table } from './output.ts';

export function printEnrolment(
  done: Enrolment,
  options: { readonly output: string; readonly json?: true | undefined },
): ExitStatus {
  const { report, accepted, endorsementKey } = done;
  const enrolment = done.record === null ? null : options.output;
  if (options.json === true) printJson({ ...report, enrolment, endorsementKey });
  else {
    printReport(report, accepted, undefined);
    printLine(enrolment === null ? 'Nobody was enrolled.' : `Enrolled: ${enrolment}`);
    if (endorsementKey !== null) {
      printLine(`Endorsement key (${endorsementKey.kind}), SHA-256: ${endorsementKey.sha256}`);
      printLine(
        'That it is a genuine TPM does not say which machine it is in: compare this with what you know of it.',
      );
    }
  }
  return accepted ? exitStatus.done : exitStatus.rejected;
}

const marks = {
  proven: () => paint('green', 'proven'),
  failed: () => paint(['red', 'bold'], 'FAILED'),
  'not-proven': () => paint('yellow', 'not proven'),
};

export function printReport(report: AttestReport, accepted: boolean, json: true | undefined): ExitStatus {
  if (json === true) printJson(report);
  else {
    const { verdict } = report;
    const style = verdict === 'proven' ? 'green' : verdict === 'rejected' ? 'red' : 'yellow';
    const how =
      verdict !== 'incomplete' ? '' : accepted ? ' (accepted: --allow-bypassed)' : ' (not accepted)';
    printLine(plain(report.node));
    const rows = report.claims.map(({ claim, result, detail }) => [
      `  ${claim}`,
      marks[result](),
      plain(detail),
    ]);
    for (const line of table(rows)) printLine(line);
    for (const finding of report.eventLog?.findings ?? []) printLine(`  event log: ${plain(finding)}`);
    printLine(`${paint([style, 'bold'], verdict)}${how}`);
  }
  return accepted ? exitStatus.done : exitStatus.rejected;
}
