// What the node tells: events in the journal and beside it, and alerts that the courier carries. Neither may fail the caller, for it
// is called while things go wrong. An alert that the spool does not take (a full disk) is kept and offered again.
import { type Alert, type Severity, severityCode } from '../alerts/alert.ts';
import { toGiveUp } from '../alerts/limits.ts';
import { dropJob } from '../alerts/spool.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { type EventSink, fileSink, isContainersOwn, outputSink } from '../journal/event-sinks.ts';
import { type EventName, events } from '../journal/events.ts';
import { JournalWriter } from '../journal/write.ts';
import type { Config } from './config.ts';
import type { StateLayout } from './state-layout.ts';

type Details = Readonly<Record<string, unknown>>;

/** Whether an alert's severity decides about a bundle, or whoever raises it. */
type Evidence = 'by severity' | 'with its own bundle' | 'without a bundle';

const againMilliseconds = 2000;
/** Alerts that wait for room in the spool; beyond that the least severe go, the oldest of them first. */
const mostKept = 100;

export class Announcer implements Disposable {
  readonly #node: string;
  readonly #spool: string;
  readonly #journal: JournalWriter;
  readonly #sinks: readonly EventSink[];
  readonly #log: (line: string) => void;
  #hear: (alert: Pick<Alert, 'key' | 'severity'>) => void = () => {};
  readonly #kept: Alert[] = [];
  #again: NodeJS.Timeout | undefined;

  constructor(config: Config, layout: StateLayout, log: (line: string) => void) {
    this.#node = config.node.name;
    this.#spool = layout.spool;
    this.#log = log;
    const { namespace, events_file: file, events_stdout: output } = config.journal;
    this.#journal = new JournalWriter(namespace === '' ? {} : { namespace });
    this.#sinks = [
      ...(file === '' ? [] : [fileSink(file, (why) => this.#fileTrouble(file, why))]),
      ...(output === 'on' || (output === 'auto' && isContainersOwn()) ? [outputSink(process.stdout)] : []),
    ];
  }

  /** An event of the catalogue, at its severity, and the same line on stderr. */
  event(name: EventName, message: string, details: Details = {}): void {
    this.#tell(name, events[name].severity, message, details);
  }

  /** Anything else, in words. */
  note(severity: Severity, message: string, details: Details = {}): void {
    this.#tell('NOTE', severity, message, details);
  }

  /** An event and an alert. `key` is the same whenever the same thing is announced. */
  alert(alert: Omit<Alert, 'node' | 'time'>, evidence: Evidence = 'by severity'): void {
    const { key } = alert;
    this.#tell('ALERT_RAISED', alert.severity, `${alert.title} [${key}]`, { key });
    this.#kept.push({ ...alert, node: this.#node, time: utcNow() });
    const why = this.#spoolKept();
    if (why !== undefined) {
      this.event('ALERT_UNSPOOLED', `The alert ${key} could not be spooled, and is kept: ${why}`, {
        key,
        why,
      });
      this.#limitKept();
    }
    if (evidence === 'by severity') this.#hear(alert);
  }

  /** Who is told of alerts that may ask for a bundle. */
  onAlert(hear: (alert: Pick<Alert, 'key' | 'severity'>) => void): void {
    this.#hear = hear;
  }

  [Symbol.dispose](): void {
    this.#spoolKept();
    for (const alert of this.#kept.splice(0))
      this.#giveUp(alert, 'it is not in the spool when the node ends.');
    clearTimeout(this.#again);
    this.#journal[Symbol.dispose]();
  }

  /** In the order in which they were raised. Returns why one is not taken yet; what can never be taken is not kept. */
  #spoolKept(): string | undefined {
    clearTimeout(this.#again);
    for (let alert = this.#kept[0]; alert !== undefined; alert = this.#kept[0]) {
      try {
        dropJob(this.#spool, { kind: 'alert', alert });
      } catch (error) {
        if (!(error instanceof Failure && error.code === 'job-malformed')) {
          this.#again = setTimeout(() => this.#spoolKept(), againMilliseconds).unref();
          return reasonOf(error);
        }
        this.#giveUp(alert, reasonOf(error));
      }
      this.#kept.shift();
    }
    return undefined;
  }

  #limitKept(): void {
    const waiting = this.#kept.map((alert) => ({
      alert,
      severity: alert.severity,
      at: Date.parse(alert.time),
      bytes: 1, // Counted, not weighed.
      copied: false,
    }));
    const limits = { bytes: mostKept, ageMilliseconds: Number.POSITIVE_INFINITY };
    for (const { item } of toGiveUp(waiting, limits, Date.now())) {
      this.#kept.splice(this.#kept.indexOf(item.alert), 1);
      this.#giveUp(item.alert, `more than ${mostKept} wait for room in the spool.`);
    }
  }

  #giveUp({ key }: Alert, why: string): void {
    this.event('ALERT_GIVEN_UP', `The alert ${key} will not be sent: ${why}`, { key, channel: '', why });
  }

  /** Those who watch the file take its silence for quiet, so the others are told. */
  #fileTrouble(file: string, why: string | undefined): void {
    if (why === undefined) this.note('notice', `Events go to ${file} again.`);
    else this.note('error', `Events do not reach ${file}: ${why}.`, { file, why });
  }

  #tell(event: EventName, severity: Severity, message: string, details: Details): void {
    const time = utcNow();
    this.#log(`${time} ${severity.padEnd(8)} ${message}`);
    this.#journal.send({
      MESSAGE: message,
      PRIORITY: `${severityCode(severity)}`,
      SYSLOG_IDENTIFIER: 'esoteric-appliance',
      EVENT_TYPE: event,
      NODE_ID: this.#node,
      DETAILS: JSON.stringify(details),
    });
    for (const sink of this.#sinks) sink({ time, node: this.#node, event, severity, message, details });
  }
}
