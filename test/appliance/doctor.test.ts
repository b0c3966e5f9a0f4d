import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/appliance/config.ts';
import { examine } from '../../src/appliance/doctor.ts';
import { checkPolicies } from '../../src/appliance/doctor-policies.ts';
import { policyPath } from '../../src/appliance/policies.ts';
import { addCable, enterOwnNetwork } from '../lab/namespace.ts';
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

describe('doctor, of the interfaces', () => {
  it('says that `any` is none where nothing is physical, so that no cable could zeroize the node', async () => {
    enterOwnNetwork();
    await addCable('near0', 'far0');
    const findingOf = async (interfaces: string) => {
      const overrides = { stateDir: scratch.at('state'), noTpm: true, noSigstore: true, interfaces };
      return (await examine(loadConfig({ overrides }))).find(({ check }) => check === 'interfaces');
    };
    expect(await findingOf('any')).toMatchObject({
      result: 'missing',
      detail: expect.stringContaining('none is watched, so no cable can zeroize this node'),
      remedy: expect.stringContaining('near0'),
    });
    expect(await findingOf('any,near0')).toMatchObject({ result: 'ok' });
  });
});
