// What `doctor` finds of one thing.
export interface Finding {
  readonly check: string;
  readonly result: 'ok' | 'missing' | 'bypassed';
  readonly detail: string;
  readonly remedy?: string;
}

export const ok = (check: string, detail: string): Finding => ({ check, result: 'ok', detail });
export const missing = (check: string, detail: string, remedy: string): Finding => ({
  check,
  result: 'missing',
  detail,
  remedy,
});
