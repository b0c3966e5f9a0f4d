import { resolve } from 'node:path';
import type { Installed } from '../appliance/approvals.ts';
import type { Config } from '../appliance/config.ts';
import type { ProvisionResult } from '../appliance/provision-result.ts';
import type { WhatIf } from '../appliance/what-if.ts';
import { type ExitStatus, exitStatus, Failure } from '../host/failure.ts';
import { command, configOf, ending } from './command.ts';
import { logLine, paint, printJson, printLine, progressLine, table } from './output.ts';

export const provisionCommand = command(
  'provision',
  'create or adopt TPM objects, seal keys, write the enrolment record (safe to repeat)',
  [
    'provision --profile provisioning/relay.toml',
    'provision --dry-run',
    'provision --ek-ca cas/',
    'provision --no-tpm --no-sigstore --state-dir ./state',
    'provision --approval approval.json',
    'provision --what-if new-eventlog.bin --request approval-request.json',
    'provision --what-if-pcr 7=0f3c…',
    'provision --revoke',
    'provision --rotate wireguard',
    'provision --re-arm approval.json',
    'provision --recover recovery.pem',
  ],
)
  .option('--profile <file>', 'profile that says which keys the node has')
  .option('--dry-run', 'say what would be made, with attributes; make nothing')
  .option(
    '--ek-ca <dir>',
    'CA certificates of TPM makers, by which this TPM is judged (instead of tpm.ek_ca)',
  )
  .option('--approval <file>', 'approval by the policy signer, of this state or of one to come')
  .option(
    '--re-arm [approval]',
    'take a zeroized node back into service, after its TPM was reset by a reboot',
  )
  .option(
    '--rotate <key>',
    'replace the key of a link by a fresh one, on a node that is stopped (repeatable)',
    collect,
    [],
  )
  .option('--revoke', 'void every approval given so far, then ask for one of the present state')
  .option('--what-if <eventlog>', 'say which keys open once the firmware measures this; change nothing')
  .option('--what-if-pcr <n=hex>', 'say which keys open with this PCR value (repeatable)', collect, [])
  .option('--request <file>', 'with --what-if: write the approval request for the predicted state')
  .option(
    '--recover [key]',
    'reseal to the configured authorities, by the recovery key: a PEM file, or stdin',
  )
  .option('--allow-unmeasured', 'go on where the firmware measured nothing: keys open on any firmware')
  .action((options) =>
    ending(options.json, async () => {
      requireLookingAlone(options);
      const config = withPins(await configOf(options), options.ekCa);
      const json = options.json === true;
      if (options.whatIf !== undefined || options.whatIfPcr.length > 0) {
        return await predict(config, options.whatIf, options.whatIfPcr, options.request, json);
      }
      if (options.request !== undefined) {
        throw new Failure('usage', '--request belongs to --what-if.', { status: exitStatus.usage });
      }
      if (options.recover !== undefined) await reseal(config, options.recover, json ? logLine : printLine);
      const { bypassLines } = await import('../appliance/assurance.ts');
      const { approveRunning, provision } = await import('../appliance/provision.ts');
      // What a running node cannot do as well is refused by its lock below.
      const alone = options.rotate.length === 0 && options.revoke !== true;
      const installed =
        options.approval === undefined || !alone ? undefined : await approveRunning(config, options.approval);
      if (installed !== undefined) {
        if (json) printJson(installed);
        else tellInstalled(installed);
        return exitStatus.done;
      }
      const progress = progressLine();
      const { reArm } = options;
      const result = await provision(config, {
        profile: options.profile,
        dryRun: options.dryRun === true,
        rearm: reArm !== undefined,
        rotate: options.rotate,
        revoke: options.revoke === true,
        approval: typeof reArm === 'string' ? reArm : options.approval,
        allowUnmeasured: options.allowUnmeasured === true,
        onStep: progress.step,
        log: logLine,
      }).finally(progress.done);
      for (const line of bypassLines(result.assurance)) logLine(paint('yellow', line, process.stderr));
      if (json) printJson(result);
      else tell(result, options.dryRun === true);
      return exitStatus.done;
    }),
  );

/** What only looks is given nothing to change. @throws Failure `usage`. */
function requireLookingAlone(options: {
  readonly dryRun?: true | undefined;
  readonly whatIf?: string | undefined;
  readonly whatIfPcr: readonly string[];
  readonly rotate: readonly string[];
  readonly revoke?: true | undefined;
  readonly approval?: string | undefined;
  readonly reArm?: string | true | undefined;
  readonly recover?: string | true | undefined;
}): void {
  const { dryRun, whatIf, whatIfPcr, rotate, revoke, approval, reArm, recover } = options;
  const predicting = whatIf !== undefined || whatIfPcr.length > 0;
  if (!predicting && dryRun !== true) return;
  const changes = {
    '--rotate': rotate.length > 0,
    '--revoke': revoke === true,
    '--approval': approval !== undefined,
    '--re-arm': reArm !== undefined,
    '--recover': recover !== undefined,
  };
  const given = Object.entries(changes).find(([, wanted]) => wanted)?.[0];
  if (given === undefined) return;
  const looking = predicting ? '--what-if' : '--dry-run';
  throw new Failure('usage', `${looking} changes nothing, so ${given} does not go with it.`, {
    status: exitStatus.usage,
  });
}

function withPins(config: Config, directory: string | undefined): Config {
  return directory === undefined ? config : { ...config, tpm: { ...config.tpm, ek_ca: resolve(directory) } };
}

function collect(value: string, former: readonly string[]): string[] {
  return [...former, value];
}

function tell(result: ProvisionResult, dryRun: boolean): void {
  const verb = dryRun ? 'would make' : 'made';
  printLine(`Node ${paint('bold', result.node)} is ${dryRun ? 'examined' : 'provisioned'}.`);
  if (result.tpm !== null) {
    const { srk, ak, signingKey, authorities, manufacturer, firmware } = result.tpm;
    for (const line of table([
      ['  TPM', `${manufacturer} ${firmware} at ${result.tpm.tcti}`],
      ['  SRK', `${srk.handle} ${srk.name.slice(0, 20)}… ${srk.adopted ? '(adopted)' : '(created)'}`],
      ['  AK', `${ak.handle} ${ak.name.slice(0, 20)}…`],
      ['  signing key', `${signingKey.name.slice(0, 20)}… certified by the AK`],
      ['  policy signer', `${authorities.policySigner.slice(0, 20)}…`],
      ['  recovery key', `${authorities.recoveryKey.slice(0, 20)}…`],
    ])) {
      printLine(line);
    }
  }
  const rows = result.owns.map(({ handle, what, attributes, adopted }) => [
    `  ${adopted ? 'adopts' : dryRun ? 'would own' : 'owns'}`,
    handle,
    what,
    attributes.join(' '),
  ]);
  const blobs = (result.planned?.blobs ?? []).map(({ what, attributes }) => [
    '  would keep',
    'as a file',
    what,
    attributes.join(' '),
  ]);
  for (const line of table([...rows, ...blobs])) printLine(line);
  const lockout = result.planned?.lockout ?? null;
  if (lockout !== null) {
    printLine(
      `  lockout would be set to ${lockout.maxTries} tries, one forgiven every ${lockout.recoverySeconds} s`,
    );
  }
  const unsealed =
    result.planned === undefined ? 'volatile: made anew at each run' : 'to be sealed in the TPM';
  for (const key of result.keys) {
    const how = key.sealed ? 'sealed in the TPM' : unsealed;
    printLine(`  key ${key.name} (${key.purpose}): ${key.publicKey ?? 'no public half'}, ${how}`);
  }
  printLine(`  enrolment record: ${result.enrolment}`);
  printLine(result.changed.length === 0 ? '  nothing to change' : `  ${verb}: ${result.changed.join(', ')}`);
  if (result.approval?.state !== 'needed') return;
  printLine(
    paint('yellow', `  The keys do not open yet: ${result.approval.request} waits for the policy signer.`),
  );
  printLine('  There: `esoteric-appliance approve REQUEST --key KEY --output approval.json`');
  printLine('  Then here: `esoteric-appliance provision --approval approval.json`');
}

function tellInstalled({ node, counter, fitsNow }: Installed): void {
  const when = fitsNow ? 'the present state' : 'the state that it names, which is not the present one';
  printLine(`Node ${paint('bold', node)}, which runs, keeps the approval for ${when} (counter ${counter}).`);
}

/** Status 1 where a key will not open, so that an update can be made to wait for it. */
async function predict(
  config: Config,
  eventLog: string | undefined,
  values: readonly string[],
  request: string | undefined,
  json: boolean,
): Promise<ExitStatus> {
  const { parsePrediction, whatIf } = await import('../appliance/what-if.ts');
  const result = await whatIf(config, { eventLog, pcrs: new Map(values.map(parsePrediction)), request });
  if (json) printJson(result);
  else tellPrediction(result);
  return result.survives ? exitStatus.done : exitStatus.failed;
}

function tellPrediction({ pcrs, counter, keys, survives, request }: WhatIf): void {
  const rows = pcrs.map(({ pcr, now, predicted }) => [
    `  PCR ${pcr}`,
    `${now.slice(0, 16)}…`,
    now === predicted ? 'stays' : `becomes ${paint('yellow', `${predicted.slice(0, 16)}…`)}`,
  ]);
  for (const line of table(rows)) printLine(line);
  printLine(`  armed counter ${counter}`);
  for (const { name, purpose, survives: opens, why } of keys) {
    const mark = opens ? paint('green', 'opens') : paint('red', 'does not open');
    printLine(`  key ${name} (${purpose}): ${mark} — ${why}`);
  }
  if (request !== null) printLine(`  request for the predicted state: ${request}`);
  if (survives) return;
  printLine(
    'Before the update: have the predicted state approved (--request FILE, then `approve`), and install',
  );
  printLine('the approval with `esoteric-appliance provision --approval FILE`. Until then, do not update.');
}

/** By a key in a file (a removable medium), or by somebody who reads what is said and answers on stdin. */
async function reseal(config: Config, key: string | true, say: (line: string) => void): Promise<void> {
  const { parseSignature, recover } = await import('../appliance/recover.ts');
  const { answerChallenge, linesOf } = await import('../appliance/approve.ts');
  const lines = key === true ? linesOf(process.stdin)[Symbol.asyncIterator]() : undefined;
  try {
    const resealed = await recover(config, async (challenge) => {
      const line = JSON.stringify(challenge);
      if (lines === undefined) return parseSignature(answerChallenge(line, String(key)).signature);
      say(line);
      return parseSignature((await lines.next()).value);
    });
    logLine(
      resealed.length === 0 ? 'Nothing had to be sealed anew.' : `Sealed anew: ${resealed.join(', ')}.`,
    );
  } finally {
    if (lines !== undefined) process.stdin.destroy(); // Else this process would wait for more.
  }
}
