// What redacts a bundle: the rules of the distribution, behind them the operator's own, and the names of machines, be they known to this
// node or to the journal that is read.
import { hostname } from 'node:os';
import { readAddedRules } from '../forensics/added-rules.ts';
import { Redactor } from '../forensics/redact.ts';
import { type RedactionRule, readRedactionRules } from '../forensics/redaction-policy.ts';
import { reasonOf } from '../host/failure.ts';
import { journalHosts } from '../journal/read.ts';
import { journalOf } from './bundle-members.ts';
import type { CaseKey } from './case-key.ts';
import type { Config } from './config.ts';
import type { BundleRequest } from './evidence.ts';
import { knownHostsRule } from './known-hosts.ts';
import { policyPath } from './policies.ts';

/**
 * `tell`: what is not replaced, and why. A zeroize does without rules of the operator's that cannot be read: its evidence waits for nobody.
 * @throws Failure `namespace-missing`; but for a zeroize, as `redactionRules`.
 */
export async function redactorFor(
  caseKey: CaseKey,
  config: Config,
  request: BundleRequest,
  tell: (trouble: string) => void,
): Promise<Redactor> {
  const { place } = journalOf(config, request);
  const inJournal = await journalHosts(place).catch((error: unknown) => {
    tell(`redaction: names of machines that only the journal knows stay in it. ${reasonOf(error)}`);
    return [];
  });
  const hostsRule = knownHostsRule(config, inJournal);
  const rules = rulesFor(config, request, tell);
  return new Redactor({
    rules: hostsRule === undefined ? rules : [...rules, hostsRule],
    hosts: ownNames(),
    key: caseKey.bytes,
  });
}

/**
 * The rules of the distribution, and behind them those of `added`, where that names a file.
 * @throws Failure `config-missing`, `config-invalid`, naming file and line.
 */
export function redactionRules(added: string): RedactionRule[] {
  const shipped = readRedactionRules(policyPath('redaction.toml'));
  return added === '' ? shipped : [...shipped, ...readAddedRules(added, shipped)];
}

function rulesFor(
  { forensics }: Config,
  { trigger }: BundleRequest,
  tell: (trouble: string) => void,
): RedactionRule[] {
  try {
    return redactionRules(forensics.redaction_rules);
  } catch (error) {
    if (trigger !== 'zeroize' || forensics.redaction_rules === '') throw error;
    tell(`redaction: by the rules of the distribution alone. ${reasonOf(error)}`);
    return redactionRules('');
  }
}

/** The names of this machine, whole and up to the first dot. `localhost` tells nothing of anyone. */
function ownNames(): string[] {
  const whole = hostname();
  const names = new Set([whole, whole.replace(/\..*/, '')]);
  return [...names].filter((name) => name !== '' && name !== 'localhost');
}
