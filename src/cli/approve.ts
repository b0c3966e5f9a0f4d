import { Command } from '@commander-js/extra-typings';
import type { Approved } from '../appliance/approve.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { ending } from './command.ts';
import { logLine, paint, printJson, printLine, table } from './output.ts';

export const approveCommand = new Command('approve')
  .description('sign, off the node, the state in which the keys of a node may open (needs no TPM)')
  .argument('[request]', 'approval-request.json of the node')
  .option('--json', 'one JSON document on stdout')
  .option('--key <file>', 'private key of the policy signer (with --recovery: the recovery key), PEM')
  .option('--output <file>', 'where the approval goes (default: stdout)')
  .option('--pcrs <list>', 'PCRs that the request must select, beside the cap PCR', '0,7')
  .option('--cap-pcr <n>', 'PCR that a lock extends', '14')
  .option('--despite-concerns', 'sign although something about the request is unusual')
  .option('--generate <file>', 'make a key pair: FILE (keep it off the node) and FILE.pub (for the node)')
  .option('--recovery', 'answer challenges of `provision --recover`: lines on stdin, signatures on stdout')
  .addHelpText(
    'after',
    `
Examples:
  $ esoteric-appliance approve --generate policy-signer.pem
  $ esoteric-appliance approve approval-request.json --key policy-signer.pem --output approval.json
  $ esoteric-appliance approve --recovery --key recovery.pem`,
  )
  .action((request, options) =>
    ending(options.json, async () => {
      if (options.generate !== undefined) return await generate(options.generate, options.json === true);
      const key = required(options.key, '--key');
      if (options.recovery === true) return await answer(key);
      const { approve, readRequest } = await import('../appliance/approve.ts');
      const path = required(request, 'the request');
      const asked = readRequest(path);
      const { bank, values } = asked.pcrs;
      for (const line of table([
        ['node', asked.node],
        ['asked at', asked.created],
        ['counter', asked.counter],
        ...Object.entries(values).map(([pcr, value]) => [`PCR ${pcr} (${bank})`, value]),
        ...asked.keys.map(({ name, purpose }) => ['opens', `${name} (${purpose})`]),
      ])) {
        logLine(`  ${line}`);
      }
      const approved = approve(path, {
        key,
        output: options.output,
        despiteConcerns: options.despiteConcerns === true,
        pcrs: options.pcrs.split(',').map((text) => pcrOf(text, '--pcrs')),
        capPcr: pcrOf(options.capPcr, '--cap-pcr'),
      });
      tell(approved, options.output, options.json === true);
    }),
  );

function tell({ approval, concerns }: Approved, output: string | undefined, json: boolean): void {
  for (const concern of concerns) logLine(paint('yellow', `concern  ${concern}`, process.stderr));
  if (json) printJson({ approval, concerns, output: output ?? null });
  else if (output === undefined) printJson(approval);
  else {
    printLine(`Approved for node ${paint('bold', approval.node)}, counter ${approval.counter}: ${output}`);
    printLine('Take it to the node: `esoteric-appliance provision --approval FILE` (or --re-arm FILE).');
  }
}

async function generate(path: string, json: boolean): Promise<void> {
  const { generateAuthority } = await import('../appliance/authorities.ts');
  const made = generateAuthority(path);
  if (json) printJson(made);
  else {
    printLine(`${made.privateKey}  private key: keep it off the node, and a copy of it in another place`);
    printLine(`${made.publicKey}  public key: for tpm.policy_signer or tpm.recovery_key of the node`);
  }
}

/** One challenge a line, one signature a line, until the input ends. */
async function answer(key: string): Promise<void> {
  const { answerChallenge, linesOf } = await import('../appliance/approve.ts');
  for await (const line of linesOf(process.stdin)) {
    if (line.trim() === '') continue;
    const { challenge, signature } = answerChallenge(line, key);
    logLine(`signed: opens key ${challenge.name} (${challenge.purpose}) of node ${challenge.node}, once`);
    printLine(signature);
  }
}

function required(value: string | undefined, what: string): string {
  if (value !== undefined) return value;
  throw new Failure('usage', `approve needs ${what}.`, {
    remedy: 'See `esoteric-appliance approve --help`.',
    status: exitStatus.usage,
  });
}

function pcrOf(text: string, option: string): number {
  const pcr = Number(text);
  if (/^\d{1,2}$/.test(text.trim()) && pcr <= 23) return pcr;
  throw new Failure('usage', `${option} takes PCR numbers from 0 to 23, not "${text}".`, {
    status: exitStatus.usage,
  });
}
