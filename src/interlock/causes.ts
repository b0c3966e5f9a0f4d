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
] as const;
export type Cause = (typeof causes)[number];

export const causeNumber = (cause: Cause): number => causes.indexOf(cause) + 1;
export const causeNamed = (number: number): Cause | undefined => causes[number - 1];

/** What goes: see docs/operations.md. Each level includes the one before it. */
export const levels = ['purge', 'lock', 'destroy'] as const;
export type ZeroizeLevel = (typeof levels)[number];
