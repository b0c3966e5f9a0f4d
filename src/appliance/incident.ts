// What follows a zeroize, in this order: custody log, certificate, alert, bundle. A step that fails is told and does not stop
// the next.
import { existsSync, readFileSync } from 'node:fs';
import type { Severity } from '../alerts/alert.ts';
import type { CustodyLog } from '../custody/log.ts';
import type { Collector } from '../forensics/collect.ts';
import { bundleBegun, certificatePath } from '../forensics/format.ts';
import { reasonOf } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import type { ZeroizeLevel } from '../interlock/causes.ts';
import type { ZeroizeOutcome } from '../interlock/outcome.ts';
import type { Announcer } from './announce.ts';
import type { BundleMade, BundleRequest } from './evidence.ts';
import type { NodeKeys } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import { recordPast } from './record.ts';
import type { StateLayout } from './state-layout.ts';
import { tellDeepened, tellZeroize } from './tell-zeroize.ts';
import { certifyZeroize, type HeldKey } from './zeroize-certificate.ts';

/** Begins the reason of a bundle that a zeroize is the reason for. */
const reasonPrefix = 'zeroize: ';

/** As `status` and the alert tell it. */
export interface ZeroizeSummary extends ZeroizeOutcome {
  /** RFC 3339: when the main thread heard of it. */
  readonly at: string;
  /** Path of the archive; null while it is being made, or where none is. */
  readonly bundle: string | null;
}

export interface IncidentOptions {
  readonly outcome: ZeroizeOutcome;
  readonly severity: Severity;
  readonly bundle: boolean;
  readonly record: NodeRecord;
  readonly layout: StateLayout;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
  readonly keys: NodeKeys | null;
  /** Brings the custody head into the TPM. */
  readonly anchor: () => Promise<unknown>;
  /** The keys that were in the arena. */
  readonly held: readonly HeldKey[];
  /** Whether a courier holds delivery credentials, which a zeroize leaves alone. */
  readonly retained: boolean;
  readonly collect: (request: BundleRequest) => Promise<BundleMade>;
}

export class Incident {
  readonly #options: IncidentOptions;
  readonly #at = utcNow();
  #outcome: ZeroizeOutcome;
  #certificate: string | undefined;
  #bundle: string | null = null;
  #done: Promise<void>;

  constructor(options: IncidentOptions) {
    this.#options = options;
    this.#outcome = options.outcome;
    this.#done = this.#tell();
  }

  /** Resolves when everything has been told that is to be told by now; never rejects. */
  get done(): Promise<void> {
    return this.#done;
  }

  get summary(): ZeroizeSummary {
    return { ...this.#outcome, at: this.#at, bundle: this.#bundle };
  }

  /** The certificate, as a member of every bundle from now on. */
  get collectors(): Collector[] {
    return certificateMember(this.#certificate);
  }

  /**
   * A higher level has been added, or what had failed was done: the certificate is made anew, and people are told as of the zeroize
   * itself. Resolves when that is done; never rejects.
   */
  deepen(outcome: ZeroizeOutcome): Promise<void> {
    const before = this.#done;
    this.#done = before.then(() => this.#tellDeepened(outcome));
    return this.#done;
  }

  async #tellDeepened(outcome: ZeroizeOutcome): Promise<void> {
    const { custody, announcer } = this.#options;
    const { level: from } = this.#outcome;
    const { level: to, stages } = outcome;
    this.#outcome = outcome;
    const key = this.#nextKey();
    await this.#step('custody', () => {
      custody.append('zeroize-deepened', { from, to, stages });
    });
    tellDeepened(announcer, from, outcome);
    await this.#step('anchor', this.#options.anchor);
    await this.#step('certificate', () => this.#certify());
    await this.#step('alert', () => this.#alert(key, from));
    await this.#collect();
  }

  async #tell(): Promise<void> {
    const { outcome, custody, bundle } = this.#options;
    const key = this.#nextKey();
    await this.#step('custody', () => {
      custody.append('zeroized', { ...outcome, bundle });
    });
    tellZeroize(this.#options.announcer, outcome);
    await this.#step('anchor', this.#options.anchor);
    await this.#step('certificate', () => this.#certify());
    await this.#step('alert', () => this.#alert(key));
    await this.#collect();
  }

  #nextKey(): string {
    return `${this.#options.record.node}-zeroize-${this.#options.custody.head().sequence + 1}`;
  }

  async #collect(): Promise<void> {
    if (!this.#options.bundle) return;
    await this.#step('bundle', async () => {
      const { archive, problems } = await this.#options.collect({
        reason: `${reasonPrefix}${this.#outcome.cause}`,
        trigger: 'zeroize',
        severity: this.#options.severity,
      });
      this.#bundle = archive;
      this.#options.announcer.event('BUNDLE_MADE', `Forensic bundle ${archive} was made.`, { archive });
      for (const problem of problems)
        this.#options.announcer.note('warning', `Of the bundle of the zeroize: ${problem}`);
    });
  }

  async #step(name: string, work: () => unknown): Promise<void> {
    try {
      await work();
    } catch (error) {
      const why = reasonOf(error);
      this.#options.announcer.event('AFTERMATH_FAILED', `After the zeroize, the ${name} failed: ${why}`, {
        step: name,
        why,
      });
    }
  }

  async #certify(): Promise<void> {
    this.#certificate = await certifyZeroize(this.#options, { at: this.#at, ...this.#outcome });
  }

  /** `from`: the level of the zeroize that was deepened. */
  #alert(key: string, from?: ZeroizeLevel): void {
    const { record, announcer, severity, bundle } = this.#options;
    const { cause, interface: name, level, stages } = this.#outcome;
    const where = name === null ? '' : ` on ${name}`;
    const { memory, kernel, tpm, disk } = stages;
    const further =
      from === level ? `what had failed at level ${level} was done` : `taken from ${from} to ${level}`;
    const alert = {
      key,
      severity,
      title:
        from === undefined
          ? `${record.node} zeroized: ${cause}${where}`
          : `${record.node} zeroized further: ${further}`,
      body: [
        from === undefined
          ? `${record.node} has destroyed its secrets because of ${cause}${where} (level ${level}).`
          : `The zeroize of ${record.node} because of ${cause}${where} went further: ${further}.`,
        `Memory was wiped ${memory.micros} us after detection. Links are down and output refuses.`,
        `${bundle ? 'A forensic bundle is being collected. ' : ''}See \`esoteric-appliance status\`, then re-arm when the cause is known.`,
      ].join('\n'),
      facts: {
        cause,
        level,
        ...(from === undefined || from === level ? {} : { 'level before': from }),
        ...(name === null ? {} : { interface: name }),
        'memory stage': `${memory.micros} us`,
        'kernel stage': `${kernel.micros} us, ${kernel.failures} failed`,
        'TPM stage': `${tpm.micros} us, ${tpm.result}`,
        'disk stage': `${disk.micros} us, ${disk.result}`,
      },
    };
    announcer.alert(alert, 'with its own bundle');
  }
}

/** The certificate of the last zeroize, for a node that does not run; none once it is armed again. */
export const storedCertificate = ({ zeroizeCertificate: path }: StateLayout): Collector[] =>
  certificateMember(existsSync(path) ? readFileSync(path, 'utf8') : undefined);

function certificateMember(certificate: string | undefined): Collector[] {
  if (certificate === undefined) return [];
  return [
    {
      name: 'zeroize certificate',
      path: certificatePath,
      source:
        'What was destroyed, when and why; its `proven` part is quoted by the TPM over the digest of `asserted`',
      volatility: 'disk',
      limitBytes: 1 << 20,
      redact: false,
      gather: async () => certificate,
    },
  ];
}

/**
 * Tells of a zeroize whose node was killed before it had told all, or whose custody log could not be written then; the bundle is the
 * operator's to collect. `unclean`: the node was killed, or a stage was left over.
 */
export function tellInterrupted(
  cause: string,
  unclean: boolean,
  node: {
    readonly record: NodeRecord;
    readonly layout: StateLayout;
    readonly custody: CustodyLog;
    readonly announcer: Announcer;
  },
): void {
  const { record, custody, announcer } = node;
  const events = ['started', 'zeroize-interrupted', bundleBegun, 'zeroized'];
  const records = [...custody.records({ events })];
  const ofLastRun = records.slice(records.findLastIndex(({ event }) => event === 'started') + 1);
  const told = ofLastRun.some(
    ({ event, detail }) =>
      event === 'zeroize-interrupted' ||
      (event === bundleBegun && `${detail.reason}`.startsWith(reasonPrefix)),
  );
  if (told || (!unclean && ofLastRun.some(({ event }) => event === 'zeroized'))) return;
  // Where it cannot be recorded it is told again at the next start: by the same key, so that nobody is woken twice. So where the alert
  // was the last to be told, which no record says: it has the key of that alert.
  const zeroized = ofLastRun.findLast(({ event }) => event === 'zeroized');
  const sequence = zeroized?.detail.bundle === false ? zeroized.sequence : custody.head().sequence + 1;
  recordPast(node, 'zeroize-interrupted', { cause });
  announcer.alert({
    key: `${record.node}-zeroize-${sequence}`,
    severity: 'critical',
    title: `${record.node} zeroized: ${cause}, and could not tell before now`,
    body: 'Its secrets are destroyed. Collect the evidence with `esoteric-appliance collect-forensics`.',
    facts: { cause },
  });
}
