import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { checkPolicies } from '../../src/appliance/doctor-policies.ts';
import { policyPath } from '../../src/appliance/policies.ts';
import { Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const at = (name: string): string => join(scratch.at('policies'), name);

describe('doctor, of the policies', () => {
  beforeEach(() => cpSync(policyPath(''), at(''), { recursive: true }));

  it('finds those of the distribution well', () => {
    expect(checkPolicies()).toMatchObject({ check: 'policies', result: 'ok' });
    expect(checkPolicies(at)).toMatchObject({ result: 'ok' });
  });

  it.each(['interlock.toml', 'alerts.toml', 'entropy.toml', 'redaction.toml', 'verify.toml'])(
    'names %s where a start would refuse it',
    (name) => {
      writeFileSync(at(name), `${readFileSync(at(name), 'utf8')}\nnonsense = \n`);
      expect(checkPolicies(at)).toMatchObject({
        result: 'missing',
        detail: expect.stringContaining(name),
        remedy: expect.stringContaining('orrect'),
      });
      rmSync(at(name));
      expect(checkPolicies(at)).toMatchObject({ result: 'missing', detail: expect.stringContaining(name) });
    },
  );
});
