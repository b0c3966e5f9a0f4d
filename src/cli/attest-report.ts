// The verdict on a node's evidence, for people and for programs.
import type { AttestReport } from '../attestation/evidence-appraisal.ts';
import { type ExitStatus, exitStatus } from '../host/failure.ts';
import { paint, printJson, printLine, table } from './output.ts';

export function printEnrolment(
  done: { readonly report: AttestReport; readonly accepted: boolean; readonly record: object | null },
  options: { readonly output: string; readonly json?: true | undefined },
): ExitStatus {
  const status = printReport(done.report, done.accepted, options.json);
  if (options.json !== true) {
    printLine(done.record === null ? 'Nobody was enrolled.' : `Enrolled: ${options.output}`);
  }
  return status;
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
    printLine(report.node);
    const rows = report.claims.map(({ claim, result, detail }) => [`  ${claim}`, marks[result](), detail]);
    for (const line of table(rows)) printLine(line);
    for (const finding of report.eventLog?.findings ?? []) printLine(`  event log: ${finding}`);
    printLine(`${paint([style, 'bold'], verdict)}${how}`);
  }
  return accepted ? exitStatus.done : exitStatus.rejected;
}
