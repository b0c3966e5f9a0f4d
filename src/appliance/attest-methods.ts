// What the control socket of a running node answers about its attestation. Parameters come from other processes and are parsed here.
import { parseChallenge, parseRequest } from '../attestation/documents.ts';
import { type Attester, activate, makeEvidence } from './attester.ts';
import type { Methods } from './control.ts';

/** To be spread into the node's methods. */
export const attestMethods = (node: Attester): Methods => ({
  'attest-evidence': async ({ document }) =>
    await makeEvidence(node, parseRequest(JSON.stringify(document ?? null))),
  'attest-activate': async ({ document }) =>
    await activate(node, parseChallenge(JSON.stringify(document ?? null))),
});
