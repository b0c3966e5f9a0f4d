// How a verifier reaches a node: a command that runs `esoteric-appliance attest` there (`ssh root@alpha esoteric-appliance attest`),
// begun once for each document, with the document on its standard input and the answer on its standard output.
import { longestDocument } from '../attestation/documents.ts';
import { runChild } from '../host/child.ts';
import { exitStatus, Failure } from '../host/failure.ts';

/** Somebody may have to type a passphrase or touch a key. */
const longestWaitMilliseconds = 120_000;

export type Verb = 'evidence' | 'activate';

/** The verb takes the place of this word, or comes last where it is not there. */
const place = '{}';

/**
 * Runs `words` with the verb.
 * @throws Failure `node-silent` where the command cannot be run or ends with a status other than 0; `usage` without words.
 */
export async function askThrough(words: readonly string[], verb: Verb, document: object): Promise<string> {
  const [command, ...args] = words.includes(place)
    ? words.map((word) => (word === place ? verb : word))
    : words.length === 0
      ? []
      : [...words, verb];
  if (command === undefined) {
    throw new Failure('usage', 'Nothing says how to reach the node.', {
      remedy:
        'Give the command after `--`, such as `-- ssh root@alpha esoteric-appliance attest`; or exchange files with --session.',
      status: exitStatus.usage,
    });
  }
  const { status, stdout, stderr } = await runChild(command, args, {
    input: Buffer.from(`${JSON.stringify(document)}\n`),
    timeoutMilliseconds: longestWaitMilliseconds,
    outputLimit: longestDocument.evidence,
  });
  if (status === 0) return stdout.toString('utf8');
  const said = stderr
    .trim()
    .split('\n')
    .slice(-3)
    .join(' ')
    .replaceAll(/\p{Cc}/gu, '?');
  throw new Failure('node-silent', `\`${[command, ...args].join(' ')}\` ended with ${status}: ${said}`, {
    kept: 'Nothing was written.',
    remedy: 'Run that command by hand: it reads one document and answers with one.',
  });
}
