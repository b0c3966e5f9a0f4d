import { describe, expect, it } from 'vitest';
import { Failure } from '../../src/host/failure.ts';

describe('the message of a failure', () => {
  it('ends in one full stop where a reason at its end is a sentence itself, and keeps an ellipsis', () => {
    expect(new Failure('a', 'It cannot be read: It ends within 4 bytes of data..').message).toBe(
      'It cannot be read: It ends within 4 bytes of data.',
    );
    expect(new Failure('a', 'Still waiting...').message).toBe('Still waiting...');
  });
});
