// What the node tells: an entry in the journal, and an alert that the courier carries. Neither may fail the caller, for it is
// called while things go wrong; what the custody log holds is announced again at the next start.
import { type Alert, type Severity, severityCode } from '../alerts/alert.ts';
import { dropJob } from '../alerts/spool.ts';
import { reasonOf } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import { JournalWriter } from '../journal/write.ts';
import type { Config } from './config.ts';
import type { StateLayout } from './node-record.ts';

export class Announcer implements Disposable {
  readonly #node: string;
  readonly #spool: string;
  readonly #journal: JournalWriter;
  readonly #log: (line: string) => void;

  constructor(config: Config, layout: StateLayout, log: (line: string) => void) {
    this.#node = config.node.name;
    this.#spool = layout.spool;
    this.#log = log;
    const { namespace } = config.journal;
    this.#journal = new JournalWriter(namespace === '' ? {} : { namespace });
  }

  /** One entry in the journal, and the same line on stderr. */
  note(severity: Severity, message: string, fields: Readonly<Record<string, string>> = {}): void {
    this.#log(`${utcNow()} ${severity.padEnd(8)} ${message}`);
    this.#journal.send({
      MESSAGE: message,
      PRIORITY: `${severityCode(severity)}`,
      SYSLOG_IDENTIFIER: 'esoteric-appliance',
      ESOTERIC_NODE: this.#node,
      ...fields,
    });
  }

  /** A journal entry and an alert. `key` is the same whenever the same thing is announced. */
  alert(alert: Omit<Alert, 'node' | 'time'>): void {
    this.note(alert.severity, `${alert.title} [${alert.key}]`, { ESOTERIC_ALERT: alert.key });
    try {
      dropJob(this.#spool, { kind: 'alert', alert: { ...alert, node: this.#node, time: utcNow() } });
    } catch (error) {
      this.note('error', `The alert ${alert.key} could not be spooled: ${reasonOf(error)}`);
    }
  }

  [Symbol.dispose](): void {
    this.#journal[Symbol.dispose]();
  }
}
