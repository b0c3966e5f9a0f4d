// Response codes of the TPM and of tpm2-tss as failures an operator can act on (TPM 2.0 Library, Part 2, section 6.6;
// TSS 2.0 Overview, section 5). Pure: no native code.
import { Failure, type FailureDetails } from '../host/failure.ts';

export type ResponseLayer =
  | 'tpm'
  | 'fapi'
  | 'esys'
  | 'sys'
  | 'mu'
  | 'tcti'
  | 'resource manager'
  | 'appliance';

const layers: Readonly<Record<number, ResponseLayer>> = {
  0: 'tpm',
  6: 'fapi',
  7: 'esys',
  8: 'sys',
  9: 'mu',
  10: 'tcti',
  11: 'resource manager',
  12: 'tpm', // the resource manager speaking for the TPM
};

/** A failure of the TPM or on the way to it. `rc` is the whole TSS2_RC; 0 when it is this program's own verdict. */
export class TpmError extends Failure {
  readonly rc: number;
  readonly layer: ResponseLayer;

  constructor(code: string, message: string, rc: number, layer: ResponseLayer, details: FailureDetails = {}) {
    super(code, message, details);
    this.name = 'TpmError';
    this.rc = rc;
    this.layer = layer;
  }
}

interface Known {
  readonly name: string;
  readonly code: string;
  readonly sentence: string;
  readonly remedy?: string;
}

const known = (name: string, code: string, sentence: string, remedy?: string): Known => ({
  name,
  code,
  sentence,
  ...(remedy === undefined ? {} : { remedy }),
});

const policyRemedy =
  'After a zeroize: reboot, so that the cap PCR is reset, then `esoteric-appliance provision --re-arm`. After a firmware update the PCRs differ for good: see docs/updates.md.';
const memoryRemedy =
  'Close other programs that use the TPM, or use /dev/tpmrm0, whose resource manager swaps objects; as a last resort `tpm2_flushcontext --transient-object`.';
const lockoutRemedy =
  'Wait for the recovery time that `esoteric-appliance doctor` shows, or clear it with the lockout authorization (`tpm2_dictionarylockout --clear-lockout`). Do not retry: each failed try counts.';
const authRemedy =
  'This program expects empty hierarchy authorizations; take the TPM into that state or use another TPM.';

/** By response code with its handle, session or parameter number taken off. */
const responses: Readonly<Record<number, Known>> = {
  30: known('BAD_TAG', 'tpm-1.2', 'it is a TPM 1.2, which is not supported', 'Use a TPM 2.0, or --no-tpm.'),
  129: known('ASYMMETRIC', 'tpm-unsupported', 'it does not support that asymmetric algorithm'),
  130: known('ATTRIBUTES', 'tpm-refused', 'the attributes are inconsistent'),
  131: known('HASH', 'tpm-unsupported', 'it does not support that hash algorithm'),
  132: known('VALUE', 'tpm-refused', 'a value is out of range, or not what the TPM holds'),
  133: known(
    'HIERARCHY',
    'tpm-refused',
    'the hierarchy is disabled or not right for this',
    'Enable the storage and endorsement hierarchies in the firmware setup.',
  ),
  138: known('TYPE', 'tpm-refused', 'the type is not right for this'),
  139: known(
    'HANDLE',
    'tpm-no-object',
    'there is nothing at that handle',
    'Run `esoteric-appliance provision` to create what is missing.',
  ),
  142: known(
    'AUTH_FAIL',
    'tpm-authorization',
    'the authorization is wrong, and the failed try counts towards a lockout',
    authRemedy,
  ),
  143: known('NONCE', 'tpm-refused', 'the nonce is wrong'),
  146: known('SCHEME', 'tpm-refused', 'the signing scheme is not right for this key'),
  149: known('SIZE', 'tpm-refused', 'a size is wrong'),
  155: known('SIGNATURE', 'tpm-refused', 'the signature does not verify'),
  157: known('POLICY_FAIL', 'tpm-policy', 'the policy is not satisfied', policyRemedy),
  159: known(
    'INTEGRITY',
    'tpm-foreign-blob',
    'the blob was changed, or another TPM made it',
    'Provision this node anew; a blob opens only in the TPM that sealed it.',
  ),
  162: known('BAD_AUTH', 'tpm-authorization', 'the authorization is wrong', authRemedy),
  163: known('EXPIRED', 'tpm-policy', 'the policy has expired', policyRemedy),
  256: known('INITIALIZE', 'tpm-not-started', 'it has not been started'),
  257: known(
    'FAILURE',
    'tpm-failed',
    'it is in failure mode',
    'Power the machine off and on. A swtpm needs an absolute state directory. If it stays so, the TPM is broken.',
  ),
  288: known('DISABLED', 'tpm-refused', 'the command is disabled'),
  293: known('AUTH_TYPE', 'tpm-authorization', 'the kind of authorization is not right for this'),
  294: known('POLICY', 'tpm-policy', 'the policy is not satisfied', policyRemedy),
  296: known('PCR_CHANGED', 'tpm-policy', 'a PCR changed since the policy was checked', policyRemedy),
  301: known('UPGRADE', 'tpm-failed', 'it is in field upgrade mode', 'Finish the TPM firmware update.'),
  302: known('TOO_MANY_CONTEXTS', 'tpm-memory', 'it has no room for another saved context', memoryRemedy),
  303: known('AUTH_UNAVAILABLE', 'tpm-authorization', 'this object has no such authorization'),
  304: known('REBOOT', 'tpm-failed', 'it needs a restart', 'Reboot the machine.'),
  323: known('COMMAND_CODE', 'tpm-unsupported', 'it does not know the command'),
  326: known('NV_RANGE', 'tpm-nv', 'the offset or size is beyond the NV index'),
  327: known('NV_SIZE', 'tpm-nv', 'the NV index is too large'),
  328: known('NV_LOCKED', 'tpm-nv', 'the NV index is locked'),
  329: known('NV_AUTHORIZATION', 'tpm-nv', 'the NV index does not allow that'),
  330: known('NV_UNINITIALIZED', 'tpm-nv-unwritten', 'the NV index has never been written'),
  331: known(
    'NV_SPACE',
    'tpm-nv-full',
    'it has no room for another NV index',
    'Undefine NV indices that nothing uses (`tpm2_getcap handles-nv-index`).',
  ),
  332: known('NV_DEFINED', 'tpm-nv-defined', 'the NV index is already defined'),
  2305: known('CONTEXT_GAP', 'tpm-memory', 'it has no room for another saved session', memoryRemedy),
  2306: known('OBJECT_MEMORY', 'tpm-memory', 'it has no room for another object', memoryRemedy),
  2307: known('SESSION_MEMORY', 'tpm-memory', 'it has no room for another session', memoryRemedy),
  2308: known('MEMORY', 'tpm-memory', 'it is out of memory', memoryRemedy),
  2309: known('SESSION_HANDLES', 'tpm-memory', 'it has no session handle left', memoryRemedy),
  2310: known('OBJECT_HANDLES', 'tpm-memory', 'it has no object handle left', memoryRemedy),
  2312: known('YIELDED', 'tpm-busy', 'it was busy each time it was asked', 'Try again shortly.'),
  2313: known('CANCELED', 'tpm-busy', 'the command was cancelled'),
  2314: known('TESTING', 'tpm-busy', 'it is testing itself', 'Try again shortly.'),
  2336: known(
    'NV_RATE',
    'tpm-busy',
    'it limits the rate of NV writes to spare its memory',
    'Try again in a few seconds.',
  ),
  2337: known(
    'LOCKOUT',
    'tpm-lockout',
    'it is locked out after too many wrong authorizations',
    lockoutRemedy,
  ),
  2338: known('RETRY', 'tpm-busy', 'it was busy each time it was asked', 'Try again shortly.'),
  2339: known('NV_UNAVAILABLE', 'tpm-busy', 'its NV memory is not available', 'Try again shortly.'),
};

/** By TSS2_BASE_RC, for every layer that is not the TPM. */
const libraryResponses: Readonly<Record<number, string>> = {
  4: 'the versions of the tpm2-tss libraries do not fit together',
  6: 'a buffer is too small',
  7: 'a command came out of turn',
  8: 'there is no connection to the TPM',
  9: 'the TPM did not answer in time',
  10: 'the connection to the TPM broke',
  11: 'a value is not valid',
  17: 'the answer is malformed',
  23: 'memory ran out',
  24: 'the object has been closed',
  27: 'the answer was not authenticated by the TPM: something on the way changed it',
};

/** The TSS2_BASE_RC codes that mean that the connection is gone. */
const lostConnection = [8, 10, 17];

/** The number of a response code without the handle, session or parameter it points at (format 1). */
export function normalizedResponse(rc: number): number {
  const code = rc & 0xffff;
  return code & 0x80 ? code & 0xbf : code;
}

/** True where the TPM asks for the same command again: YIELDED, TESTING, RETRY, NV_RATE. */
export function isRetry(rc: number): boolean {
  return layerOf(rc) === 'tpm' && [0x908, 0x90a, 0x920, 0x922].includes(rc & 0xffff);
}

const layerOf = (rc: number): ResponseLayer => layers[(rc >>> 16) & 0xff] ?? 'appliance';

/** What a response code other than 0 means, as a failure. `command` is the TPM command's name (`Unseal`). */
export function tpmError(rc: number, command: string): TpmError {
  const layer = layerOf(rc);
  return layer === 'tpm' ? refusal(rc, command) : broken(rc, command, layer);
}

/** What a code without words of ours means, where somebody knows (`loadTss`). */
type Explain = (rc: number) => string | undefined;
let explain: Explain = () => undefined;
/** From now on codes without words of ours get these. */
export function explainWith(words: Explain): void {
  explain = words;
}

function refusal(rc: number, command: string): TpmError {
  const entry = responses[normalizedResponse(rc)];
  const words = entry === undefined ? explain(rc & 0xffff) : undefined;
  const number = `0x${(rc & 0xffff).toString(16).padStart(3, '0')}`;
  const bare = `The TPM refused ${command} with response code ${number}`;
  const message =
    entry === undefined
      ? `${bare}${words === undefined ? '' : `: ${words}`}.`
      : `The TPM refused ${command}: ${entry.sentence} (TPM_RC_${entry.name}${position(rc)}, ${number}).`;
  return new TpmError(entry?.code ?? 'tpm-refused', message, rc, 'tpm', remedyOf(entry?.remedy));
}

function broken(rc: number, command: string, layer: ResponseLayer): TpmError {
  const reason = libraryResponses[rc & 0xffff] ?? explain(rc) ?? 'an unexpected error';
  return new TpmError(
    lostConnection.includes(rc & 0xffff) ? 'tpm-connection-lost' : 'tpm-library',
    `${command} failed in tpm2-tss (${layer}): ${reason} (0x${rc.toString(16)}).`,
    rc,
    layer,
    remedyOf(lostRemedy),
  );
}

const lostRemedy =
  'Check that the TPM (or swtpm) is there and that nothing else holds it, then repeat the command.';

/** The TPM did not answer within a time limit. */
export function timedOut(milliseconds: number): TpmError {
  const message = `The TPM did not answer within ${Math.ceil(milliseconds)} ms.`;
  return new TpmError('tpm-timeout', message, 0, 'appliance', { remedy: lostRemedy });
}

/** `where` could not be opened, or broke. `reason`: an errno's name or a few words. */
export function connectionLost(where: string, reason: string): TpmError {
  const message = `The connection to the TPM at ${where} failed: ${reason}.`;
  return new TpmError('tpm-connection-lost', message, 0, 'appliance', { remedy: lostRemedy });
}

/** `name` is none of the ways to a TPM. `available`: those that are installed. */
export function noSuchTcti(name: string, available: readonly string[]): TpmError {
  const message = `There is no TCTI "${name}". Here there are: ${available.join(', ')}.`;
  return new TpmError('tpm-no-tcti', message, 0, 'appliance', { remedy: lostRemedy });
}

/** Which handle, session or parameter a format 1 response code points at. */
function position(rc: number): string {
  if ((rc & 0x80) === 0) return '';
  const number = (rc >> 8) & 0xf;
  if (rc & 0x40) return `, parameter ${number}`;
  return number & 0x8 ? `, session ${number & 0x7}` : `, handle ${number}`;
}

const remedyOf = (remedy: string | undefined): FailureDetails => (remedy === undefined ? {} : { remedy });
