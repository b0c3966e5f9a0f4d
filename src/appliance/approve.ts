// `approve`: the policy signer's side, off the node. It needs no TPM and no state: a request, a private key, and somebody who
// looks at what is asked.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { writeDurably } from '../host/durable.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import { z } from '../host/zod.ts';
import { concernsAbout, signApproval } from '../keys/approval.ts';
import { type Approval, type ApprovalRequest, parseApprovalRequest } from '../keys/approval-format.ts';
import { type KeyIdentity, signRecovery } from '../keys/policy.ts';
import { readPrivateKey } from './authorities.ts';

export interface ApproveOptions {
  /** Path of the policy signer's private key. */
  readonly key: string;
  /** Where the approval goes; undefined for nowhere but the result. */
  readonly output: string | undefined;
  /** Sign although something about the request is unusual. */
  readonly despiteConcerns: boolean;
  /** The request must select these and the cap PCR, and no others. */
  readonly pcrs: readonly number[];
  readonly capPcr: number;
}

export interface Approved {
  readonly approval: Approval;
  readonly concerns: readonly string[];
}

/** @throws Failure `approval-concerns`, `approval-unsafe`, `approval-request-invalid`, `authority-unreadable`. */
export function approve(requestPath: string, options: ApproveOptions): Approved {
  const request = readRequest(requestPath);
  const { pcrs, capPcr } = options;
  const concerns = concernsAbout(request, capPcr);
  if (concerns.length > 0 && !options.despiteConcerns) {
    throw new Failure('approval-concerns', concerns.join(' '), {
      kept: 'Nothing was signed.',
      remedy: 'Find out why, on the node. If that is as it should be, repeat with --despite-concerns.',
    });
  }
  const approval = signApproval(request, readPrivateKey(options.key), {
    requiredPcrs: [...pcrs, capPcr],
    created: new Date(),
  });
  if (options.output !== undefined)
    writeDurably(options.output, `${JSON.stringify(approval, null, 2)}\n`, 0o644);
  return { approval, concerns };
}

/** @throws Failure `approval-request-invalid`, also where there is no such file. */
export function readRequest(path: string): ApprovalRequest {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Failure('approval-request-invalid', `${path} cannot be read: ${reasonOf(cause)}.`, {
      remedy: 'Take approval-request.json from the state directory of the node.',
      status: exitStatus.usage,
      cause,
    });
  }
  return parseApprovalRequest(text);
}

const challengeSchema = z.object({
  node: z.string(),
  name: z.string(),
  purpose: z.string(),
  /** What PolicySigned wants signed in the node's present session. */
  message: z.base64(),
});
/** One line of JSON, from a node that opens a key by its recovery key. */
export type RecoveryChallenge = z.infer<typeof challengeSchema>;

export const challengeOf = (key: KeyIdentity, message: Uint8Array): RecoveryChallenge => ({
  node: key.node,
  name: key.name,
  purpose: key.purpose,
  message: Buffer.from(message).toString('base64'),
});

/** The recovery key's answer. @throws Failure `recovery-foreign` where the message opens another key than it says. */
export function answerChallenge(
  line: string,
  keyPath: string,
): { challenge: RecoveryChallenge; signature: string } {
  let challenge: RecoveryChallenge;
  try {
    challenge = challengeSchema.parse(JSON.parse(line));
  } catch (cause) {
    throw new Failure('recovery-challenge-invalid', 'This is not the challenge of a node.', {
      kept: 'Nothing was signed.',
      remedy: 'Give the line that `esoteric-appliance provision --recover` prints, whole.',
      cause,
    });
  }
  const message = Buffer.from(challenge.message, 'base64');
  const signature = signRecovery(message, challenge, readPrivateKey(keyPath));
  return { challenge, signature: Buffer.from(signature).toString('base64') };
}

/** Lines of a stream, without their ends. */
export const linesOf = (input: NodeJS.ReadableStream): AsyncIterable<string> => createInterface({ input });
