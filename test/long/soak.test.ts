import { expect, it } from 'vitest';
import { soak } from './soak.ts';

it('gives out no unhealthy byte for twelve seconds of induced failures', { timeout: 180_000 }, async () => {
  const result = await soak(7, 12);
  expect(result.broken).toEqual([]);
  expect(result.reseeds).toBeGreaterThan(0);
  expect(Object.keys(result.failures).length).toBeGreaterThan(2);
});
