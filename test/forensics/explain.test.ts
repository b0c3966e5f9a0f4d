import { expect, it } from 'vitest';
import { claimNames } from '../../src/forensics/claims.ts';
import { explain } from '../../src/forensics/explain.ts';

it.each(claimNames)('%s is explained, however it is written', (claim) => {
  const explanation = explain(claim);
  expect(explanation?.claim).toBe(claim);
  for (const part of [explanation?.says, explanation?.needs, explanation?.failed]) {
    expect(part?.length).toBeGreaterThan(10);
  }
  expect(explain(claim.toUpperCase().replace(' ', '-'))).toEqual(explanation);
});
it('nothing else is', () => expect(explain('honesty')).toBeUndefined());
