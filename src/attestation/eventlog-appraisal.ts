// What a firmware event log explains of the quoted PCRs, bank by bank (TCG PC Client Platform Firmware Profile 1.06, section 10).
// Pure. A replay proves digests and their order; what an event's type and data say is another matter: eventlog-findings.ts.
import type { PcrValues } from './appraisal.ts';
import { type EventLog, parseEventLog, replay } from './eventlog.ts';
import { findingsOf } from './eventlog-findings.ts';
import { type Appraisal, attempt, failed, notProven, proven } from './verdict.ts';

/** In a detail; `attest appraise` lists all of them. */
const mostFindings = 3;

export interface EventLogAppraisal extends Appraisal {
  /** PCRs whose quoted value is exactly what the log replays to. */
  readonly explained: number[];
  /** PCRs whose quoted value the log does not reach. Only those of the firmware, 0 to 7, make the result `failed`. */
  readonly unexplained: number[];
}

/**
 * Which quoted PCRs the firmware event log explains, in one bank. PCRs 8 and above are extended by boot loaders and the
 * running system too, so a difference there is told and does not fail. What the log does not agree with itself in is told in the
 * detail, and decides nothing: firmware departs from the profile too.
 */
export function appraiseEventLog(evidence: {
  readonly log: Uint8Array;
  readonly pcrValues: PcrValues;
  /** Default `sha256`. */
  readonly bank?: string;
}): EventLogAppraisal {
  const parsed = attempt(() => parseEventLog(evidence.log));
  if (!parsed.value) return { ...failed(parsed.reason), explained: [], unexplained: [] };
  const appraisal = appraiseBank(parsed.value, evidence.bank ?? 'sha256', evidence.pcrValues);
  return { ...appraisal, detail: withFindings(appraisal, parsed.value) };
}

/** Where the replay fails, nothing else of the log matters. */
function withFindings({ result, detail }: Appraisal, log: EventLog): string {
  const { findings } = findingsOf(log);
  if (result === 'failed' || findings.length === 0) return detail;
  const more = findings.length - mostFindings;
  const told = findings.slice(0, mostFindings).join(' ');
  return `${detail} No digest covers types, and the log does not agree with itself: ${told}${more > 0 ? ` And ${more} more.` : ''}`;
}

export interface BanksAppraisal extends Appraisal {
  /** By bank: of those that are both in the log and in the quote. */
  readonly banks: Readonly<Record<string, EventLogAppraisal>>;
}

/**
 * The log against every bank that was quoted. SHA-256 must be in it: a log of SHA-1 alone proves nothing, for another one with
 * the same digests can be made. A bank that the firmware left out is open to whoever runs on the machine later.
 */
export function appraiseEventLogBanks(
  bytes: Uint8Array,
  quoted: Readonly<Record<string, PcrValues>>,
): BanksAppraisal {
  const parsed = attempt(() => parseEventLog(bytes));
  if (!parsed.value) return { ...failed(parsed.reason), banks: {} };
  const log = parsed.value;
  if (quoted.sha256 === undefined) return { ...failed('No SHA-256 bank was quoted.'), banks: {} };
  const names = ['sha256', ...Object.keys(quoted).filter((bank) => bank !== 'sha256')];
  const logged = names.filter((bank) => bank === 'sha256' || log.banks.includes(bank));
  const banks = Object.fromEntries(
    logged.map((bank) => [bank, appraiseBank(log, bank, quoted[bank] ?? {})] as const),
  );
  const outcomes = logged.map((bank) => ({ bank, ...banks[bank] }));
  const worst =
    outcomes.find(({ result }) => result === 'failed') ??
    outcomes.find(({ result }) => result === 'not-proven');
  if (worst !== undefined) {
    return { result: worst.result ?? 'failed', detail: `${worst.bank}: ${worst.detail}`, banks };
  }
  const left = names.filter((bank) => !logged.includes(bank));
  const extended = left.filter((bank) =>
    firmwarePcrs(quoted[bank] ?? {}).some((value) => !/^0*$/.test(value)),
  );
  if (extended.length > 0) {
    return {
      ...notProven(`The log has no digests of ${extended.join(', ')}, which were extended all the same.`),
      banks,
    };
  }
  const unlogged = left.length === 0 ? '' : ` The firmware did not measure into ${left.join(', ')}.`;
  return { ...proven(`In ${logged.join(', ')}: ${banks.sha256?.detail ?? ''}${unlogged}`), banks };
}

const firmwarePcrs = (values: PcrValues): string[] =>
  Object.entries(values)
    .filter(([pcr]) => Number(pcr) <= 7)
    .map(([, value]) => value);

function appraiseBank(log: EventLog, bank: string, pcrValues: PcrValues): EventLogAppraisal {
  const replayed = attempt(() => replay(log));
  const nothing = { explained: [], unexplained: [] };
  if (!replayed.value) return { ...failed(replayed.reason), ...nothing };
  const expected = replayed.value[bank];
  if (expected === undefined) return { ...failed(`The event log has no ${bank} digests.`), ...nothing };
  const stranger = Object.keys(pcrValues).find((pcr) => !/^(?:\d|1\d|2[0-3])$/.test(pcr));
  if (stranger !== undefined) return { ...failed(`\`${stranger}\` is not the number of a PCR.`), ...nothing };
  const quoted = Object.keys(pcrValues).map(Number);
  const initial = '0'.repeat(pcrValues[quoted[0] ?? 0]?.length ?? 0);
  const matches = (pcr: number) => pcrValues[pcr]?.toLowerCase() === (expected[pcr] ?? initial);
  const explained = quoted.filter(matches);
  const unexplained = quoted.filter((pcr) => !matches(pcr));
  const unmeasured = explained.filter((pcr) => pcr <= 7 && expected[pcr] === undefined);
  return { ...concludeReplay(explained, unexplained, unmeasured), explained, unexplained };
}

function concludeReplay(explained: number[], unexplained: number[], unmeasured: number[]): Appraisal {
  const wrong = unexplained.filter((pcr) => pcr <= 7);
  if (wrong.length > 0) {
    return failed(`The event log does not replay to the quoted value of PCR ${wrong.join(', ')}.`);
  }
  if (unmeasured.length > 0) {
    return notProven(
      `The firmware measured nothing into PCR ${unmeasured.join(', ')}: there was no measured boot.`,
    );
  }
  if (!explained.some((pcr) => pcr <= 7)) return notProven('No PCR of the firmware (0 to 7) was quoted.');
  const beyond =
    unexplained.length === 0 ? '' : ` PCR ${unexplained.join(', ')} was extended beyond the log.`;
  return proven(`The event log replays to the quoted values of PCR ${explained.join(', ')}.${beyond}`);
}
