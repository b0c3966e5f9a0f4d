// The catalogue of events: everything that a node tells journals and SIEMs, each with its severity (RFC 5424), the fields of its
// DETAILS and what it means. docs/events.md is made from it (scripts/events-page.ts), so that both say the same.

export const eventSeverities = {
  emergency: 0,
  alert: 1,
  critical: 2,
  error: 3,
  warning: 4,
  notice: 5,
  informational: 6,
  debug: 7,
} as const;
export type EventSeverity = keyof typeof eventSeverities;

export interface EventEntry {
  readonly severity: EventSeverity;
  /** Fields of DETAILS, with what each holds. */
  readonly fields: Readonly<Record<string, string>>;
  readonly meaning: string;
  /** The name is kept for a part that is not built yet: nothing tells it. */
  readonly reserved?: true;
}

const entry = (
  severity: EventSeverity,
  meaning: string,
  fields: Readonly<Record<string, string>> = {},
): EventEntry => ({ severity, meaning, fields });
const reserved = (severity: EventSeverity, meaning: string): EventEntry => ({
  ...entry(severity, meaning),
  reserved: true,
});
const cause = 'name of the cause, as in policies/interlock.toml';
const where = 'the interface, or null';

export const events = {
  NODE_STARTED: entry('notice', 'Keys are unsealed, links are up, noise is collected, output is served.'),
  NODE_UNCLEAN: entry('warning', 'The last run ended without goodbye: killed, crashed, or without power.', {
    policy: 'interlock.on_unclean_start',
  }),
  BYPASS: entry('warning', 'A protection is switched off or stood in for; evidence says so as well.', {
    what: 'the line that `run` prints',
  }),
  HARDENING_INCOMPLETE: entry('warning', 'The process could not be hardened as far as it should be.', {
    what: 'what failed',
  }),
  PROGRAM_UNVERIFIED: entry(
    'error',
    'Provenance or SBOM of the running program is there, and does not verify. An alert follows.',
    { what: 'provenance or sbom', why: 'what does not hold' },
  ),
  LINK_TROUBLE: entry('warning', 'A peer of an encrypted link could not be set.', { what: 'what failed' }),
  LINK_LOST: entry('critical', 'The helper of an encrypted link ended by itself. A zeroize follows.', {
    link: 'name of the link',
  }),
  CARRIER_UP: entry('notice', 'A watched interface has its carrier.', { interface: 'the interface' }),
  CARRIER_DOWN: entry('notice', 'A watched interface has lost its carrier, in a maintenance window.', {
    interface: 'the interface',
  }),
  LINK_FLAP_PLANNED: entry('notice', 'A carrier was lost in a maintenance window: nothing was wiped.', {
    interface: 'the interface',
    flaps: 'how many losses',
  }),
  LINK_FLAP_UNPLANNED: entry('critical', 'An interface was lost outside of any window. ZEROIZE follows.', {
    interface: where,
    cause,
  }),
  INTERFACE_APPEARED: entry('notice', 'A physical interface came under `any`, and is watched from now on.', {
    interface: 'the interface',
  }),
  INTERFACE_UNWATCHED: entry('error', 'A physical interface came, and there is no room to watch it.', {
    interface: 'the interface',
  }),
  MAINTENANCE_BEGIN: entry('notice', 'A maintenance window was opened.', {
    interfaces: 'list',
    seconds: 'how long at most',
    flaps: 'how many losses at most',
  }),
  MAINTENANCE_END: entry('notice', 'A maintenance window ended.', { why: 'a sentence', interfaces: 'list' }),
  MAINTENANCE_ASKS: entry('warning', 'After a window, people are asked for what the node cannot do alone.', {
    what: 'rotate or appraise',
    since: 'RFC 3339: the end of the first window after which it has not been done',
    interfaces: 'list',
  }),
  SELF_APPRAISED: entry('notice', 'After a window, the node has found its TPM as it was enrolled.', {
    failed: 'an empty list',
  }),
  SELF_APPRAISAL_FAILED: entry(
    'critical',
    'After a window, the node is not as it was enrolled, or cannot tell.',
    {
      failed: 'sentences',
    },
  ),
  MAINTENANCE_FORBIDDEN: entry('notice', 'A criticality window: no maintenance window can be opened.', {
    until: 'RFC 3339',
  }),
  MAINTENANCE_ALLOWED: entry('notice', 'A criticality window was ended before its time.', {
    until: 'RFC 3339: how long it would have lasted',
  }),
  CAUSE_OBSERVED: entry('warning', 'A cause was observed that the policy says to tell only.', {
    cause,
    value: 'how bad',
  }),
  LOOK_FAILED: entry('warning', 'Something could not be looked at, so its causes are not observed.', {
    probe: 'name of the look',
    why: 'a sentence',
  }),
  COMMAND_ACCEPTED: entry('critical', 'A signed command from afar is obeyed.', {
    number: 'its number',
    level: 'purge, lock or destroy',
  }),
  COMMAND_REFUSED: entry('warning', 'A command from afar was refused.', {
    why: 'wrong signature, replayed, …',
    from: 'file or socket',
  }),
  COMMAND_UNKEPT: entry(
    'error',
    'The number of an obeyed command is not on disk: give the next a higher one.',
    {
      number: 'its number',
      why: 'a sentence',
    },
  ),
  ZEROIZE: entry('critical', 'The node has destroyed its secrets. The certificate in the bundle says more.', {
    cause,
    interface: where,
    level: 'purge, lock or destroy',
    also: 'causes that came meanwhile',
    stages: 'times and results of memory, kernel, tpm, disk',
  }),
  ZEROIZE_DEEPENED: entry(
    'critical',
    'A higher level was added to a zeroize, and the certificate made anew.',
    {
      from: 'purge, lock or destroy',
      level: 'purge, lock or destroy',
      stages: 'times and results of memory, kernel, tpm, disk',
    },
  ),
  ZEROIZE_FINISHED: entry(
    'critical',
    'A zeroize that had been interrupted was finished at this start, but for what failed again.',
    { cause, level: 'purge, lock or destroy', failed: 'list: stages that are left over, with why' },
  ),
  BUFFER_PURGE: entry('notice', 'Pool, rings and generator are wiped, as a part of ZEROIZE.', {
    micros: 'microseconds from detection to the end of the wipe',
  }),
  TPM_LOCKED: entry('notice', 'The TPM stage of a zeroize is done: nothing unseals any more.', {
    micros: 'microseconds',
  }),
  TPM_LOCK_FAILED: entry('alert', 'The TPM stage of a zeroize failed; the next start tries again.', {
    result: 'what the TPM, or the way to it, answered',
  }),
  HEARTBEAT_LATE: entry(
    'warning',
    'A thread was silent for half of the time after which it counts as lost, which zeroizes; told once an hour of each.',
    {
      thread: 'main or watcher',
      milliseconds: 'of silence',
      limit: 'milliseconds: three times `interlock.heartbeat_milliseconds`',
    },
  ),
  CUSTODY_UNWRITABLE: entry('error', 'The custody log could not be written, so it lacks a record.', {
    record: 'which',
    why: 'a sentence',
  }),
  AFTERMATH_FAILED: entry('error', 'A step after a zeroize (custody, certificate, alert, bundle) failed.', {
    step: 'which',
    why: 'a sentence',
  }),
  ENTROPY_LOW: entry(
    'warning',
    'Healthy credited noise does not suffice for a new seed: output goes on from the last one, or refuses.',
    {
      state: 'degraded or unhealthy',
    },
  ),
  ENTROPY_BACK: entry('notice', 'Credited noise is collected again.', { state: 'of the pool' }),
  HEALTH_FAILED: entry('warning', 'A health test of a noise source failed (SP 800-90B, section 4.4).', {
    source: 'name of the source',
    failures: 'since the start',
    state: 'of the source',
  }),
  ALERT_RAISED: entry(
    'notice',
    'An alert was given to the courier. Its own severity is the entry’s PRIORITY.',
    {
      key: 'the alert’s key, the same at every channel',
    },
  ),
  ALERT_UNSPOOLED: entry('error', 'An alert could not be given to the courier yet; it is offered again.', {
    key: 'the alert’s key',
    why: 'a sentence',
  }),
  BUNDLE_MADE: entry('notice', 'A forensic bundle lies ready.', { archive: 'path' }),
  BUNDLE_DELIVERED: entry(
    'notice',
    'By the courier’s word a bundle lies where it was to go, and was read back.',
    {
      archive: 'name',
      where: 's3://bucket/key or file:///path',
    },
  ),
  BUNDLE_GIVEN_UP: entry(
    'warning',
    'A bundle is no longer kept on the node, by `forensics.keep_bytes` or `keep_days`.',
    {
      archive: 'name',
      why: 'size or age',
      delivered: 'whether a copy lies elsewhere; where none does, an alert follows',
    },
  ),
  ALERT_GIVEN_UP: entry(
    'error',
    'An alert will not be sent: refused for good, too old, beyond the limits, or not in the spool when the node ended.',
    {
      key: 'the alert’s key',
      channel: 'identifier of the channel; empty where no courier had it',
      why: 'a sentence',
    },
  ),
  RECEIPT_REJECTED: entry(
    'warning',
    'What the courier left as a receipt is none, or tells of something that the node did not do.',
    {
      file: 'its name, or the key that it names',
      why: 'a sentence',
    },
  ),
  BUNDLE_FAILED: entry('error', 'A forensic bundle could not be made.', { why: 'a sentence' }),
  NOTE: entry('informational', 'Anything else, in words. Its own severity is the entry’s PRIORITY.'),
  TUNING_START: reserved('notice', 'A tuner of interfaces begins to change settings.'),
  TUNING_STOP: reserved(
    'notice',
    'A tuner of interfaces has ended, or was put back to its last stable setting.',
  ),
} as const satisfies Readonly<Record<string, EventEntry>>;

export type EventName = keyof typeof events;
