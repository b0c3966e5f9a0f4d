// The courier: takes jobs from the spool into its outbox and delivers them. It has the network and the delivery credentials, and
// neither the TPM nor a secret of the node. It can die at any time; what it had not acknowledged is sent again.
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type Channel, openChannel } from '../alerts/channel.ts';
import { Deliverer, type DeliveryEvent } from '../alerts/deliver.ts';
import { type GivenUpJob, Outbox } from '../alerts/outbox.ts';
import { writeReceipt } from '../alerts/receipts.ts';
import { alertPolicySchema, jobsOf, type RoutedChannel } from '../alerts/router.ts';
import { takeJobs } from '../alerts/spool.ts';
import type { IdentityEnvironment } from '../attestation/identity-environment.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { holdLock } from '../host/lock.ts';
import { becomeUser, findUser } from '../host/privileges.ts';
import { utcNow } from '../host/time.ts';
import { readToml } from '../host/toml.ts';
import { unprovisioned } from '../keys/lifecycle.ts';
import type { BundleJob } from './bundle-job.ts';
import type { Config } from './config.ts';
import { deliverBundle, forgetGone, loadBeforeDropping } from './courier-bundle.ts';
import { CourierIdentity } from './courier-identity.ts';
import { packageRoot, policyPath } from './policies.ts';
import { stateLayout } from './state-layout.ts';

export interface CourierOptions {
  /** Deliver what is due once, then end. */
  readonly once: boolean;
  /** Aborted when the courier is to end: what is under way gets its grace, the rest stays queued. */
  readonly signal: AbortSignal;
  readonly log: (line: string) => void;
  /** In which a CI job leaves an identity token; that of the process unless told. */
  readonly environment?: IdentityEnvironment;
}

/** How long an ending courier goes on. */
const lastAttemptMilliseconds = 5000;

/** Returns the number of jobs that are still queued. @throws Failure `state-in-use` when a courier runs already. */
export async function runCourier(config: Config, options: CourierOptions): Promise<number> {
  const layout = stateLayout(config.node.state_dir);
  if (!existsSync(layout.spool)) throw unprovisioned(layout.directory);
  const policy = readToml(policyPath('alerts.toml'), alertPolicySchema);
  const channels = openChannels(config);
  await loadBeforeDropping(config);
  if (config.courier.user !== '') becomeUser(findUser(config.courier.user));
  // Only now: the lock lies in a directory of the courier's, where root must follow no link.
  using _lock = holdLock(layout.courierLock, 'The outbox');
  if (config.courier.user !== '') requireReadableProgram(config.courier.user);

  using outbox = new Outbox(layout.outbox, Date.now, {
    deduplicationMilliseconds: policy.deduplicationMilliseconds,
  });
  /** The node records what is given up; one that cannot be told hears of it from `alert status`. */
  const tellNode = ({ key, channel, severity, why }: Omit<GivenUpJob, 'why'> & { why: string }): void => {
    try {
      writeReceipt(layout.receipts, { kind: 'given-up', key, at: utcNow(), channel, severity, why });
    } catch (error) {
      options.log(`The node cannot be told that ${key} was given up: ${reasonOf(error)}`);
    }
  };
  const limits = {
    bytes: config.courier.spool_bytes,
    ageMilliseconds: config.courier.spool_days * 86_400_000,
  };
  const identity = new CourierIdentity(config, layout, options.environment ?? process.env);
  const deliverer = (): Deliverer =>
    new Deliverer({
      outbox,
      channels: new Map([...channels].map(([id, { channel }]) => [id, channel])),
      bundle: (payload, signal, key, moved) =>
        deliverBundle(config, layout, { key, job: payload as BundleJob, identity, signal, moved }),
      report: (event) => {
        options.log(eventLine(event));
        if (event.state === 'dead-lettered' && event.severity !== undefined)
          tellNode({ ...event, severity: event.severity, why: event.error ?? 'It was refused.' });
      },
    });
  const routed: RoutedChannel[] = [...channels].map(([id, { tag, minSeverity }]) => ({
    id,
    ...(minSeverity === '' ? {} : { minSeverity }),
    ...(tag === '' ? {} : { tag }),
  }));
  const takeIn = (underWay?: (id: number) => boolean): void => {
    const taken = takeJobs(layout.spool, (file, reason) => options.log(`Rejected ${file}: ${reason}`));
    for (const { job, done } of taken) {
      outbox.enqueue(...jobsOf(job, policy, routed));
      done();
    }
    for (const given of outbox.limit(limits, underWay)) {
      const why = `its ${given.why}, by the limits of the spool`;
      options.log(`${utcNow()} alert ${given.key} to ${given.channel}: given up because of ${why}`);
      tellNode({ ...given, why: `Given up because of ${why}.` });
    }
  };
  forgetGone(layout);
  if (options.once) {
    takeIn();
    await deliverer().runOnce();
    return outbox.counts().queued;
  }
  const lasting = deliverer();
  const delivering = lasting.loop(options.signal, options.log);
  /** What was in the way last time, so that it is told once. */
  let trouble = '';
  while (!options.signal.aborted) {
    try {
      takeIn((id) => lasting.isUnderWay(id));
      trouble = '';
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (error.message !== trouble) options.log(error.message);
      trouble = error.message;
    }
    await delay(config.courier.poll_milliseconds, undefined, { signal: options.signal }).catch(() => {});
  }
  await delivering;
  // What came in last, such as the alert of a node that has just died, gets one attempt of its own.
  takeIn();
  await Promise.race([deliverer().runOnce(), delay(lastAttemptMilliseconds, undefined, { ref: false })]);
  return outbox.counts().queued;
}

interface ConfiguredChannel {
  readonly channel: Channel;
  readonly tag: string;
  readonly minSeverity: Config['alerts']['channels'][number]['min_severity'];
}

/** By identifier (`json-1`): the scheme and the place in the configuration, so that no URL leaves the courier. */
function openChannels(config: Config): Map<string, ConfiguredChannel> {
  return new Map(
    config.alerts.channels.map((entry, place) => {
      const url = entry.url === '' ? readFileSync(entry.url_file, 'utf8').trim() : entry.url;
      const scheme = url.slice(0, url.indexOf(':'));
      return [
        `${scheme}-${place + 1}`,
        { channel: openChannel(url), tag: entry.tag, minSeverity: entry.min_severity },
      ];
    }),
  );
}

/** Libraries load parts of themselves when they need them. @throws Failure `program-unreadable`, usage. */
function requireReadableProgram(user: string): void {
  try {
    accessSync(`${packageRoot}package.json`, constants.R_OK);
  } catch {
    throw new Failure('program-unreadable', `The courier runs as ${user}, who cannot read ${packageRoot}.`, {
      kept: 'Alerts and bundles wait in the spool.',
      remedy: `Install the program where every user can read it, or name another user in courier.user.`,
      status: exitStatus.usage,
    });
  }
}

const eventLine = ({ kind, key, channel, state, error }: DeliveryEvent): string =>
  `${utcNow()} ${kind} ${key}${channel === '' ? '' : ` to ${channel}`}: ${state}${error === undefined ? '' : ` (${error})`}`;
