// What collectors say of themselves, in a line that says already that something is amiss.

/** Without the words that it failed. */
export const withoutPreamble = (detail: string): string => detail.replace(/(^|: )It failed: /, '$1');
