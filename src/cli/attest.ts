import { Command } from '@commander-js/extra-typings';
import { exitStatus, Failure } from '../host/failure.ts';
import { printEnrolment, printReport } from './attest-report.ts';
import { command, configOf, ending } from './command.ts';
import { logLine } from './output.ts';

const evidence = command('evidence', 'on the node: answer a request with evidence', [
  'attest evidence request.json > evidence.json',
  'attest evidence < request.json',
])
  .argument('[request]', 'file with the request (default: standard input)')
  .action((file, options) =>
    ending(options.json, async () => {
      const { parseRequest } = await import('../attestation/documents.ts');
      const { attestHere, makeEvidence } = await import('../appliance/attester.ts');
      const request = parseRequest(await readDocument('request', file));
      const config = await configOf(options);
      printDocument(
        await attestHere(config, 'attest-evidence', request, (node) => makeEvidence(node, request)),
      );
    }),
  );

const activate = command('activate', 'on the node: have the TPM answer the challenge of whoever enrols it', [
  'attest activate challenge.json > answer.json',
])
  .argument('[challenge]', 'file with the challenge (default: standard input)')
  .action((file, options) =>
    ending(options.json, async () => {
      const { parseChallenge } = await import('../attestation/documents.ts');
      const { activate: answer, attestHere } = await import('../appliance/attester.ts');
      const challenge = parseChallenge(await readDocument('challenge', file));
      const config = await configOf(options);
      printDocument(
        await attestHere(config, 'attest-activate', challenge, (node) => answer(node, challenge)),
      );
    }),
  );

interface VerifierOptions {
  readonly json?: true | undefined;
  readonly ekCa?: string | undefined;
  readonly enrolledBy?: string | undefined;
  readonly policy?: string | undefined;
  readonly maxAge: string;
  readonly allowBypassed?: true | undefined;
}

/** A command of the verifier, who needs neither a node nor a TPM. */
const verifier = (name: string, summary: string, examples: readonly string[]) =>
  new Command(name)
    .description(summary)
    .option('--json', 'one JSON document on stdout')
    .option('--session <file>', 'what the verifier keeps between the documents, where they go as files')
    .option(
      '--ek-ca <dir>',
      'certificates of the TPM makers’ CAs that are trusted (default: as the policy says)',
    )
    .option('--policy <file>', 'verify policy (default: policies/verify.toml)')
    .option('--max-age <seconds>', 'a request older than this has no fresh answer', '600')
    .addHelpText(
      'after',
      `\nExamples:\n${examples.map((line) => `  $ esoteric-appliance ${line}`).join('\n')}`,
    );

/** The firmware's PCRs, and the cap PCR of a node that is configured as usual; those of its record are asked for as well. */
const pcrsOption = [
  '--pcrs <numbers>',
  'PCRs to be quoted, with commas between',
  '0,1,2,3,4,5,6,7,14',
] as const;

const challenge = verifier(
  'challenge',
  'by the verifier, with files: make a request; then, of the evidence, the challenge of an enrolment',
  [
    'attest challenge --session alpha.session > request.json',
    'attest challenge --session alpha.session --ek-ca cas/ evidence.json > challenge.json',
  ],
)
  .argument('[evidence]', 'what the node answered to the request')
  .option(...pcrsOption)
  .action((file, options) =>
    ending(options.json, async () => {
      const { newRequest, readSession, writeSession } = await import('../appliance/verifier-session.ts');
      const path = sessionOf(options.session);
      if (file === undefined) {
        const request = newRequest(pcrsOf(options.pcrs), new Date());
        writeSession(path, { request });
        printDocument(request);
        return exitStatus.done;
      }
      const { challengeNewcomer } = await import('../appliance/verifier.ts');
      const context = await contextOf(options);
      const made = challengeNewcomer(context, readSession(path), await readDocument('evidence', file));
      if (made.challenge === null) return printReport(made.report, false, options.json);
      writeSession(path, made.session);
      printDocument(made.challenge);
      return exitStatus.done;
    }),
  );

const appraise = verifier('appraise', 'by the verifier: whether a node is as it was enrolled', [
  'attest appraise --enrolment alpha.json -- ssh root@alpha esoteric-appliance attest',
  'attest appraise --enrolment alpha.json --session alpha.session evidence.json',
])
  .argument('[node...]', 'command that reaches the node; with --session, the file with its evidence')
  .option('--enrolment <file>', 'the record of the node, as this verifier keeps it')
  .option(
    '--enrolled-by <file>',
    'public keys of those who are trusted to enrol (default: as the policy says)',
  )
  .option(
    '--last-seen <file>',
    'what was last seen of the node: its clock may only go forward; written when accepted',
  )
  .option('--allow-bypassed', 'accept what is not proven, as long as nothing fails')
  .option(...pcrsOption)
  .action((words, options) =>
    ending(options.json, async () => {
      const { readIfPresent } = await import('../host/durable.ts');
      const { appraiseNode, parseRecord } = await import('../appliance/verifier.ts');
      const { newRequest, readSession } = await import('../appliance/verifier-session.ts');
      const path = options.enrolment;
      const text = path === undefined ? null : readIfPresent(path);
      if (path !== undefined && text === undefined) throw missing('The enrolment record', path);
      const record = path === undefined || text == null ? null : parseRecord(text, path);
      const context = await contextOf(options);
      const request =
        options.session === undefined
          ? newRequest([...pcrsOf(options.pcrs), ...policyPcrs(record)], new Date())
          : readSession(options.session).request;
      const text2 = await evidenceFrom(words, options.session, request);
      const at = new Date();
      const { report, accepted } = appraiseNode({ ...context, at }, request, text2, {
        record,
        lastSeen: options.lastSeen,
      });
      return printReport(report, accepted, options.json);
    }),
  );

const enrol = verifier('enrol', 'by the verifier: challenge a node’s TPM and keep a record of it', [
  'attest enrol --ek-ca cas/ --verifier-key verifier.pem --output alpha.json -- ssh root@alpha esoteric-appliance attest',
  'attest enrol --ek-ca cas/ --verifier-key verifier.pem --output alpha.json --session alpha.session answer.json',
])
  .argument('[node...]', 'command that reaches the node; with --session, the file with its answer')
  .requiredOption('--output <file>', 'where the record goes')
  .requiredOption(
    '--verifier-key <file>',
    'the key (P-256, PEM) that signs the record; made where there is none',
  )
  .option('--by <name>', 'who enrols (default: the name of this machine)')
  .option(
    '--allow-bypassed',
    'enrol a node whose TPM is not proven, as long as nothing fails; the record says so',
  )
  .option(...pcrsOption)
  .action((words, options) =>
    ending(options.json, async () => {
      const { hostname } = await import('node:os');
      const { challengeNewcomer, enrolNewcomer, verifierKey } = await import('../appliance/verifier.ts');
      const { newRequest, readSession } = await import('../appliance/verifier-session.ts');
      const context = await contextOf(options);
      const { key, made, publicPath } = verifierKey(options.verifierKey);
      if (made) logLine(`Made the verifier’s key ${options.verifierKey}; its public half is ${publicPath}.`);
      const target = { by: options.by ?? hostname(), output: options.output, verifierKey: key };
      if (options.session !== undefined) {
        const answer = await readDocument('answer', oneFile(words));
        const done = enrolNewcomer(context, readSession(options.session), answer, {
          ...target,
          session: options.session,
        });
        return printEnrolment(done, options);
      }
      const { askThrough } = await import('../appliance/node-dialogue.ts');
      const request = newRequest(pcrsOf(options.pcrs), new Date());
      const told = await askThrough(words, 'evidence', request);
      const begun = challengeNewcomer({ ...context, at: new Date() }, { request }, told);
      if (begun.challenge === null) return printReport(begun.report, false, options.json);
      const answer = await askThrough(words, 'activate', begun.challenge);
      return printEnrolment(
        enrolNewcomer({ ...context, at: new Date() }, begun.session, answer, target),
        options,
      );
    }),
  );

export const attestCommand = new Command('attest')
  .description('remote attestation: evidence of a node, its appraisal, and enrolment')
  .addCommand(evidence)
  .addCommand(challenge)
  .addCommand(activate)
  .addCommand(appraise)
  .addCommand(enrol);

async function contextOf(options: VerifierOptions) {
  const { readTrust } = await import('../appliance/pins.ts');
  const { policyPath } = await import('../appliance/policies.ts');
  const { readVerifyPolicy } = await import('../forensics/verify-policy.ts');
  const path = options.policy ?? policyPath('verify.toml');
  const { enrolment } = readVerifyPolicy(path);
  return {
    trust: readTrust(options, { path, enrolment }),
    at: new Date(),
    maxAge: wholeNumber(options.maxAge, '--max-age'),
    allowBypassed: options.allowBypassed === true,
  };
}

async function evidenceFrom(
  words: readonly string[],
  session: string | undefined,
  request: object,
): Promise<string> {
  if (session !== undefined) return await readDocument('evidence', oneFile(words));
  const { askThrough } = await import('../appliance/node-dialogue.ts');
  return await askThrough(words, 'evidence', request);
}

const policyPcrs = (record: { tpm: { pcrPolicy: { pcrs: object } } | null } | null): number[] =>
  Object.keys(record?.tpm?.pcrPolicy.pcrs ?? {}).map(Number);

function oneFile(words: readonly string[]): string | undefined {
  if (words.length < 2) return words[0];
  throw usage('With --session, the documents go as files: one file is expected, not a command.');
}

function sessionOf(path: string | undefined): string {
  if (path !== undefined) return path;
  throw usage('--session says where the verifier keeps its side of the exchange.');
}

function pcrsOf(text: string): number[] {
  const numbers = text.split(',').map((word) => (/^\d{1,2}$/.test(word) ? Number(word) : 24));
  if (numbers.every((pcr) => pcr <= 23)) return numbers;
  throw usage('--pcrs takes numbers from 0 to 23 with commas between.');
}

function wholeNumber(text: string, option: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw usage(`${option} takes a whole number.`);
}

const usage = (message: string): Failure => new Failure('usage', message, { status: exitStatus.usage });

const missing = (what: string, path: string): Failure =>
  new Failure('file-missing', `${what} ${path} does not exist.`, {
    remedy: 'Check the path.',
    status: exitStatus.usage,
  });

/** From a file, or from standard input; never more than a document may have. */
async function readDocument(name: string, file: string | undefined): Promise<string> {
  const { readIfPresent } = await import('../host/durable.ts');
  if (file !== undefined && file !== '-') {
    const text = readIfPresent(file);
    if (text === undefined) throw missing(`The ${name}`, file);
    return text;
  }
  if (process.stdin.isTTY)
    throw usage(`The ${name} is read from standard input, or from a file that is named.`);
  const { longestDocument } = await import('../attestation/documents.ts');
  let text = '';
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += String(chunk);
    if (text.length > longestDocument.evidence) break; // Refused where it is parsed.
  }
  return text;
}

/** One line, for a file or the next program. */
const printDocument = (document: object): void => {
  process.stdout.write(`${JSON.stringify(document)}\n`);
};
