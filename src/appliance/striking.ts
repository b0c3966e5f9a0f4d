// The interlock of a node: armed before the first unseal, struck by a cause of its own, by the operator or by whoever guards the node,
// and what a strike leaves to be told. A node that was zeroized before is refused here.
import type { CustodyLog } from '../custody/log.ts';
import type { SecretArena } from '../host/arena.ts';
import { Failure, zeroizedFailure } from '../host/failure.ts';
import type { Cause, ZeroizeLevel } from '../interlock/causes.ts';
import { openContacts } from '../interlock/detectors/tamper.ts';
import { Interlock, type InterlockEvent } from '../interlock/interlock.ts';
import type { ZeroizeOutcome } from '../interlock/outcome.ts';
import { consequenceOf, type InterlockPolicy } from '../interlock/policy.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import type { Announcer } from './announce.ts';
import type { Config } from './config.ts';
import type { BundleMade, BundleRequest } from './evidence.ts';
import { Incident } from './incident.ts';
import { tellEvent } from './interlock-news.ts';
import { type Finished, requireFinished } from './interrupted.ts';
import { hasCredentials, makeUpForKilled } from './killed-zeroize.ts';
import type { Maintenance } from './maintenance.ts';
import type { NodeKeys } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import { recordPast } from './record.ts';
import { stagePlan } from './stage-plan.ts';
import type { StateLayout } from './state-layout.ts';
import type { HeldKey } from './zeroize-certificate.ts';

/** A thread that has been silent for so many heartbeats is lost. */
const missedBeats = 3;

export interface StrikingOptions {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
  readonly arena: SecretArena;
  readonly policy: InterlockPolicy;
  readonly maintenance: () => Maintenance;
  /** Null without a TPM. */
  readonly keys: () => NodeKeys | null;
  /** The keys that are in the arena, or were. */
  readonly held: () => readonly HeldKey[];
  /** Ends all output at once. */
  readonly endOutput: () => void;
  /** Brings the custody head into the TPM. */
  readonly anchor: () => Promise<unknown>;
  readonly collect: (request: BundleRequest) => Promise<BundleMade>;
}

export class Striking implements AsyncDisposable {
  readonly #options: StrikingOptions;
  readonly #lifecycle: Lifecycle;
  readonly #cleanup = new AsyncDisposableStack();
  #interlock: Interlock | undefined;
  #incident: Incident | undefined;

  constructor(options: StrikingOptions) {
    this.#options = options;
    this.#lifecycle = new Lifecycle(options.layout.directory);
  }

  get #zeroized(): boolean {
    return this.#options.arena.zeroized;
  }

  get armed(): Interlock | undefined {
    return this.#interlock;
  }

  /** @throws Failure `node-starting` where it is not armed yet. */
  get interlock(): Interlock {
    if (this.#interlock === undefined) throw new Failure('node-starting', 'The node is still starting.');
    return this.#interlock;
  }

  get incident(): Incident | undefined {
    return this.#incident;
  }

  /**
   * After a purge, which left TPM and disk alone, a restart is what brings the node back.
   * @throws Failure `zeroized`, `zeroize-unfinished`, `custody-unwritable`.
   */
  async requireUnzeroized(finished: Finished | undefined): Promise<void> {
    const { state, level, cause = 'unknown' } = this.#lifecycle.read();
    if (state !== 'zeroized') {
      requireFinished(this.#options.layout); // The mark alone may say so.
      return;
    }
    if (level !== 'purge') {
      await makeUpForKilled(this.#options, finished);
      this.#lifecycle.clearRunning();
      requireFinished(this.#options.layout); // What it needs is told first.
      throw zeroizedFailure('Starting');
    }
    this.#options.custody.append('restarted-after-purge', { cause });
    this.#lifecycle.markSealed();
  }

  /** @throws as `Interlock.start`; Failure where a tamper contact cannot be opened. */
  async arm(): Promise<void> {
    const { config, record, layout, policy, arena, keys } = this.#options;
    const plan = stagePlan({
      config,
      record,
      layout,
      policy,
      channel: keys()?.rawChannel() ?? null,
    });
    const contacts = this.#cleanup.use(openContacts(config.interlock.tamper));
    const interlock = await Interlock.start({
      tamper: contacts.descriptors,
      arena,
      interfaces: config.node.interfaces,
      plan,
      pollMilliseconds: config.interlock.poll_milliseconds,
      heartbeatMilliseconds: missedBeats * config.interlock.heartbeat_milliseconds,
      plannedFlapsPerHour: config.interlock.planned_flaps_per_hour,
      onZeroized: (outcome) => this.#struck(outcome),
      onEvent: (event) => this.#heard(event),
    });
    this.#interlock = this.#cleanup.use(interlock);
  }

  /** Alerts, and strikes where the configuration says so. @throws Failure `zeroized` then. */
  async afterUncleanEnd(): Promise<void> {
    const { config, record, custody, announcer } = this.#options;
    const policy = config.interlock.on_unclean_start;
    announcer.event('NODE_UNCLEAN', `The last end was unclean. Policy: ${policy}.`, { policy });
    announcer.alert({
      key: `${record.node}-unclean-${custody.head().sequence}`,
      severity: 'warning',
      title: `${record.node}: the last end was unclean`,
      body: `The node was killed, crashed or lost power. Policy: ${policy}.`,
      facts: {},
    });
    if (policy === 'recover') return;
    await this.strike('unclean-start');
    throw zeroizedFailure('Starting after an unclean end');
  }

  /** The red button. Resolves when certificate, alert and bundle are made. */
  async zeroize(reason: string, level: ZeroizeLevel | undefined): Promise<ZeroizeOutcome> {
    const striking = this.strike('operator', level); // Has begun when this returns: wipe first, write later.
    recordPast(this.#options, 'zeroize-requested', { reason, level: level ?? 'configured' });
    return await striking;
  }

  linkLost(link: string): void {
    if (this.#zeroized) return;
    this.#options.announcer.event('LINK_LOST', `The link ${link} is gone: its helper ended by itself.`, {
      link,
    });
    void this.interlock.zeroize('link-key-lost').catch(() => {});
  }

  /** Zeroizes, unless that is done or under way, and resolves when certificate, alert and bundle are made. */
  async strike(cause: Cause, level?: ZeroizeLevel): Promise<ZeroizeOutcome> {
    const before = this.interlock.outcome;
    const outcome = await this.interlock.zeroize(cause, level);
    this.#struck(outcome);
    await this.#incident?.done;
    if (before !== undefined && wentFurther(before, outcome)) await this.#incident?.deepen(outcome);
    return outcome;
  }

  /** Resolves when all that a strike leaves to be told has been told. */
  async told(): Promise<void> {
    // The watcher may have struck just now: what it did is told although its message has not come yet.
    if (this.#interlock !== undefined && this.#zeroized) await this.strike('operator');
    await this.#incident?.done;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#cleanup.disposeAsync();
  }

  #heard(event: InterlockEvent): void {
    if (event.kind === 'window-closed') this.#options.maintenance().closed(event, this.#zeroized);
    else tellEvent(event, this.#options);
  }

  /** Memory, kernel, TPM and disk are done when this is called; what is left is to tell, once. */
  #struck(outcome: ZeroizeOutcome): void {
    if (this.#incident !== undefined) return;
    const { config, layout, record, custody, announcer, policy, keys, held, anchor, collect, endOutput } =
      this.#options;
    endOutput();
    const consequence = consequenceOf(policy, outcome.cause, record.role, config.interlock.level);
    this.#incident = new Incident({
      outcome,
      severity: consequence.severity,
      bundle: consequence.bundle,
      record,
      layout,
      custody,
      announcer,
      keys: keys(),
      anchor,
      held: held(),
      retained: hasCredentials(config),
      collect,
    });
  }
}

/** Whether a zeroize that had run has done more since: at a higher level, or a stage that had failed. */
const wentFurther = (before: ZeroizeOutcome, after: ZeroizeOutcome): boolean =>
  before.level !== after.level ||
  before.stages.tpm.result !== after.stages.tpm.result ||
  before.stages.disk.result !== after.stages.disk.result;
