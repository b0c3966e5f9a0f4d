// The policies, as `doctor` sees them. A node reads them once, at its start: one that has been edited since is looked at here before
// that start fails.
import { alertPolicySchema } from '../alerts/router.ts';
import { loadCreditPolicy } from '../entropy/credit.ts';
import { readRedactionRules } from '../forensics/redaction-policy.ts';
import { readVerifyPolicy } from '../forensics/verify-policy.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import { readToml } from '../host/toml.ts';
import { loadInterlockPolicy } from '../interlock/policy.ts';
import { type Finding, missing, ok } from './finding.ts';
import { policyPath } from './policies.ts';

/** `at`: where a policy of this name stands. */
export function checkPolicies(at: (name: string) => string = policyPath): Finding {
  try {
    loadInterlockPolicy(at('interlock.toml'));
    readToml(at('alerts.toml'), alertPolicySchema);
    loadCreditPolicy(at('entropy.toml'));
    readRedactionRules(at('redaction.toml'));
    readVerifyPolicy(at('verify.toml'));
    return ok('policies', at(''));
  } catch (error) {
    return missing('policies', reasonOf(error), error instanceof Failure ? (error.remedy ?? '') : '');
  }
}
