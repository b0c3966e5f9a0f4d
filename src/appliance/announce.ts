// What the node tells: events in the journal and beside it, and alerts that the courier carries. Neither may fail the caller, for it
// is called while things go wrong; what the custody log holds is announced again at the next start.
import { type Alert, type Severity, severityCode } from '../alerts/alert.ts';
import { dropJob } from '../alerts/spool.ts';
import { reasonOf } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { type EventSink, fileSink, isContainersOwn, outputSink } from '../journal/event-sinks.ts';
import { type EventName, events } from '../journal/events.ts';
import { JournalWriter } from '../journal/write.ts';
import type { Config } from './config.ts';
import type { StateLayout } from './node-record.ts';

type Details = Readonly<Record<string, unknown>>;

/** Whether an alert's severity decides about a bundle, or whoever raises it. */
type Evidence = 'by severity' | 'with its own bundle' | 'without a bundle';

export class Announcer implements Disposable {
  readonly #node: string;
  readonly #spool: string;
  readonly #journal: JournalWriter;
  readonly #sinks: readonly EventSink[];
  readonly #log: (line: string) => void;
  #hear: (alert: Pick<Alert, 'key' | 'severity'>) => void = () => {};

  constructor(config: Config, layout: StateLayout, log: (line: string) => void) {
    this.#node = config.node.name;
    this.#spool = layout.spool;
    this.#log = log;
    const { namespace, events_file: file, events_stdout: output } = config.journal;
    this.#journal = new JournalWriter(namespace === '' ? {} : { namespace });
    this.#sinks = [
      ...(file === '' ? [] : [fileSink(file)]),
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
    try {
      dropJob(this.#spool, { kind: 'alert', alert: { ...alert, node: this.#node, time: utcNow() } });
    } catch (error) {
      const why = reasonOf(error);
      this.event('ALERT_UNSPOOLED', `The alert ${key} could not be spooled: ${why}`, { key, why });
    }
    if (evidence === 'by severity') this.#hear(alert);
  }

  /** Who is told of alerts that may ask for a bundle. */
  onAlert(hear: (alert: Pick<Alert, 'key' | 'severity'>) => void): void {
    this.#hear = hear;
  }

  [Symbol.dispose](): void {
    this.#journal[Symbol.dispose]();
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
