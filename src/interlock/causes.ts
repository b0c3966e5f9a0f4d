// What can end in a zeroize. A cause crosses threads as its number, its place in this list plus one; 0 is "none".
export const causes = [
  'link-flap',
  'interface-removed',
  'interface-renamed',
  'interface-address-changed',
  'window-exceeded',
  'window-expired-down',
  'messages-lost',
  'state-unparsable',
  'main-lost',
  'watcher-lost',
  'operator',
  'link-key-lost',
  'unclean-start',
  'interface-down',
  'operstate-lost',
  'interface-moved',
  'tamper',
  'remote-command',
  'prediction',
  'debugger-attached',
  'clock-set-back',
  'snapshot-restored',
  'entropy-failed',
  'wireguard-changed',
  'macsec-integrity',
  'tpm-authorization',
  'tpm-reset',
  'tpm-changed',
] as const;
export type Cause = (typeof causes)[number];

/** Causes that somebody observes from time to time, and that a policy may be patient with or only tell. All others count at once. */
export const observedCauses = [
  'prediction',
  'debugger-attached',
  'clock-set-back',
  'snapshot-restored',
  'entropy-failed',
  'wireguard-changed',
  'macsec-integrity',
  'tpm-authorization',
  'tpm-reset',
  'tpm-changed',
] as const satisfies readonly Cause[];

export type ObservedCause = (typeof observedCauses)[number];

export const isObserved = (cause: Cause): cause is ObservedCause =>
  observedCauses.some((known) => known === cause);

export const causeNumber = (cause: Cause): number => causes.indexOf(cause) + 1;
export const causeNamed = (number: number): Cause | undefined => causes[number - 1];

/** What goes: see docs/operations.md. Each level includes the one before it. */
export const levels = ['purge', 'lock', 'destroy'] as const;
export type ZeroizeLevel = (typeof levels)[number];
