// `attest` end to end: real nodes with simulators, the real program on both sides, over a pipe and over files.
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { askNode } from '../../src/appliance/control.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import { newRequest } from '../../src/appliance/verifier-session.ts';
import { parseEnrolment } from '../../src/attestation/enrolment.ts';
import type { AttestReport } from '../../src/attestation/evidence-appraisal.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import { runChild } from '../../src/host/child.ts';
import { openTpm } from '../../src/tpm/context.ts';
import { Maker, manufactureTpm } from '../attestation/ek-authority.ts';
import { esoteric, esotericWords, type LabNode } from '../lab/node.ts';
import { labNode, refusalOf, Scratch } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

let alpha: LabNode;
let beta: LabNode;
/** Directory of the CA that certified alpha's TPM. */
const ca = scratch.at('ca');
const foreign = scratch.at('foreign');
const key = scratch.at('verifier.pem');

beforeAll(async () => {
  mkdirSync(scratch.at('maker'));
  const { state, issuer } = await manufactureTpm(scratch.at('maker'));
  mkdirSync(scratch.at('alpha'));
  cpSync(state, scratch.at('alpha', 'tpm'), { recursive: true });
  for (const directory of [ca, foreign]) mkdirSync(directory);
  writeFileSync(scratch.at('ca', 'issuer.pem'), issuer);
  const { pem } = await new Maker(scratch.path).authority('stranger');
  writeFileSync(scratch.at('foreign', 'stranger.pem'), pem);
  alpha = await labNode(scratch, 'alpha', { tpm: true });
  beta = await labNode(scratch, 'beta', { tpm: true });
  for (const node of [alpha, beta]) await node.ask(['provision']);
});
afterAll(async () => {
  await alpha?.[Symbol.asyncDispose]();
  await beta?.[Symbol.asyncDispose]();
});

/** Words that reach a node, for after `--`. */
const through = (node: LabNode): string[] => ['--', ...esotericWords(['attest', '{}', ...node.arguments])];

async function judged(
  ...args: string[]
): Promise<{ status: number | null; report: AttestReport; stderr: string }> {
  const [verb = '', ...rest] = args;
  const { status, stdout, stderr } = await esoteric(['attest', verb, '--json', ...rest]);
  try {
    return { status, report: JSON.parse(stdout.toString()) as AttestReport, stderr };
  } catch {
    throw new Error(`attest ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`);
  }
}
const of = (report: AttestReport, name: string) => report.claims.find(({ claim }) => claim === name);
const failures = (report: AttestReport) =>
  report.claims.filter(({ result }) => result === 'failed').map(({ claim }) => claim);

const enrolling = (output: string, ...more: string[]): string[] => [
  'enrol',
  ...['--ek-ca', ca, '--verifier-key', key, '--by', 'auditor', '--output', output],
  ...more,
];

/** Runs one side of an exchange over files and leaves what it printed in a file. */
async function step(output: string, args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await esoteric(['attest', ...args]);
  if (status !== 0) throw new Error(`attest ${args.join(' ')} ended with ${status}: ${stdout}${stderr}`);
  const path = scratch.at(output);
  writeFileSync(path, stdout);
  return path;
}

describe('provision --ek-ca', () => {
  it('ties its TPM to the maker, and the attestation key to the TPM; a simulator stays one', async () => {
    const notes = async (...more: string[]): Promise<readonly string[]> => {
      const { assurance } = await alpha.ask<ProvisionResult>(['provision', ...more]);
      expect(assurance.tpm).toBe('simulator');
      return assurance.notes;
    };
    const untied = expect.stringMatching(/^the TPM was not tied to its maker: /);
    expect(await notes()).toContainEqual(untied);
    expect(await notes('--ek-ca', foreign)).toContainEqual(untied);
    const tied = await notes('--ek-ca', ca);
    expect(tied).not.toContainEqual(untied);
    expect(tied).toContainEqual(expect.stringMatching(/^the maker’s certificate names a simulator: .*swtpm/));
    expect((await alpha.ask<ProvisionResult>(['provision', '--ek-ca', ca])).changed).toEqual([]);
    expect(await notes()).toEqual(tied);
    expect(JSON.parse(readFileSync(`${alpha.stateDirectory}/enrolment.json`, 'utf8'))).toMatchObject({
      endorsement: { keys: [{ kind: 'rsa', certificate: expect.any(String) }] },
    });
  });
});

describe('enrolment over a pipe', () => {
  const output = scratch.at('alpha.json');

  it('ties the attestation key to the certified TPM, and still calls a simulator one: 3, and nothing is kept', async () => {
    const { status, report, stderr } = await judged(...enrolling(output, ...through(alpha)));
    expect(status).toBe(3);
    expect(report.verdict).toBe('incomplete');
    expect(of(report, 'TPM identity')).toMatchObject({
      result: 'not-proven',
      detail: expect.stringMatching(
        /the TPM says that it is a simulator; the maker’s certificate names a simulator: .*swtpm/,
      ),
      checks: {
        endorsement: { result: 'proven' },
        activation: { result: 'proven' },
        TPM: { result: 'not-proven' },
      },
    });
    expect(existsSync(output)).toBe(false);
    expect(stderr).toContain('Made the verifier’s key');
    expect(statSync(key).mode & 0o777).toBe(0o600);
  });

  it('keeps the record where that is allowed, signed by the verifier, and the node notes that it was enrolled', async () => {
    const { status, report } = await judged(...enrolling(output, '--allow-bypassed', ...through(alpha)));
    expect([status, failures(report)]).toEqual([0, []]);
    expect(report).toMatchObject({
      enrolment: output,
      endorsementKey: { kind: 'rsa', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    const record = parseEnrolment(readFileSync(output, 'utf8'));
    expect(record).toMatchObject({
      node: alpha.name,
      assurance: { tpm: 'simulator', notes: expect.arrayContaining(['the TPM says that it is a simulator']) },
      endorsement: {
        keys: [{ kind: 'rsa', certificate: expect.any(String) }],
        activation: { by: 'auditor', kind: 'rsa' },
      },
    });
    const log = await alpha.ask<CustodyRecord[]>(['custody', 'show']);
    expect(log.filter(({ event }) => event === 'credential-activated')).toHaveLength(2);
  });

  it('rejects a TPM that no pinned CA vouches for, also with --allow-bypassed', async () => {
    const args = enrolling(
      scratch.at('never.json'),
      '--allow-bypassed',
      '--ek-ca',
      foreign,
      ...through(alpha),
    );
    const { status, report } = await judged(...args);
    expect([status, report.verdict, failures(report)]).toEqual([3, 'rejected', ['TPM identity']]);
    expect(existsSync(scratch.at('never.json'))).toBe(false);
  });

  it('enrols a TPM without any certificate only where that is allowed, and says so in the record', async () => {
    const path = scratch.at('beta.json');
    expect((await judged(...enrolling(path, ...through(beta)))).status).toBe(3);
    const { status, report } = await judged(...enrolling(path, '--allow-bypassed', ...through(beta)));
    expect([status, failures(report)]).toEqual([0, []]);
    expect(of(report, 'TPM identity')?.checks?.endorsement?.detail).toContain(
      'holds no endorsement key certificate',
    );
    expect(parseEnrolment(readFileSync(path, 'utf8')).assurance.tpm).toBe('simulator');
  });

  it('never lets another node take the place of an enrolled one', async () => {
    const before = readFileSync(output);
    const refusal = await refusalOf(
      ['attest', ...enrolling(output, '--allow-bypassed', ...through(beta))].flatMap((word) =>
        word === '--' ? ['--json', word] : [word],
      ),
    );
    expect(refusal).toMatchObject({ status: 1, code: 'enrolled-otherwise' });
    expect(readFileSync(output)).toEqual(before);
  });
});

describe('appraisal over a pipe', () => {
  const known = ['--enrolment', scratch.at('alpha.json'), '--ek-ca', ca, '--enrolled-by', `${key}.pub`];

  it('finds the enrolled node as it was, with nothing failed, and remembers its clock', async () => {
    const seen = ['--last-seen', scratch.at('seen.json')];
    const first = await judged('appraise', ...known, ...seen, '--allow-bypassed', ...through(alpha));
    expect([first.status, failures(first.report)]).toEqual([0, []]);
    expect(first.report.claims.map(({ claim }) => claim)).toEqual([
      ...['freshness', 'quote', 'node', 'TPM identity', 'signing key', 'PCR policy', 'event log', 'clock'],
    ]);
    expect(of(first.report, 'node')?.result).toBe('proven');
    const { status } = await judged('appraise', ...known, ...seen, ...through(alpha));
    expect(status).toBe(3); // A simulator.
    const kept = JSON.parse(readFileSync(scratch.at('seen.json'), 'utf8')) as { clock: string };
    writeFileSync(scratch.at('seen.json'), JSON.stringify({ ...kept, clock: `${kept.clock}000` }));
    const back = await judged('appraise', ...known, ...seen, '--allow-bypassed', ...through(alpha));
    expect([back.status, failures(back.report)]).toEqual([3, ['clock']]);
  });

  it('rejects another node that answers in its place', async () => {
    const { status, report } = await judged('appraise', ...known, '--allow-bypassed', ...through(beta));
    expect([status, report.verdict]).toEqual([3, 'rejected']);
    expect(of(report, 'node')?.detail).toContain('not that of');
  });

  it('shows a table to people, with why each claim is not proven', async () => {
    const { status, stdout } = await esoteric(['attest', 'appraise', ...known, ...through(alpha)]);
    expect(status).toBe(3);
    expect(stdout.toString()).toMatch(/freshness +not proven +The evidence was made within/);
    expect(stdout.toString()).toMatch(/incomplete \(not accepted\)\n$/);
  });

  it('says what the node said when it does not answer', async () => {
    const refusal = await refusalOf(['attest', 'appraise', '--json', ...known, '--', 'false']);
    expect(refusal).toMatchObject({ status: 1, code: 'node-silent' });
    expect(await refusalOf(['attest', 'appraise', ...known])).toMatchObject({ status: 2, code: 'usage' });
  });
});

describe('enrolment and appraisal over files', () => {
  const session = scratch.at('session');
  const trusted = ['--session', session, '--ek-ca', ca];

  it('take the same steps one by one, and the challenge serves once', async () => {
    const request = await step('request.json', ['challenge', '--session', session]);
    const evidence = await step('evidence.json', ['evidence', request, ...alpha.arguments]);
    const challenge = await step('challenge.json', ['challenge', ...trusted, evidence]);
    const foreignNode = await refusalOf(['attest', 'activate', challenge, ...beta.arguments]);
    expect(foreignNode).toMatchObject({ status: 1, code: 'challenge-refused' });
    const answer = await step('answer.json', ['activate', challenge, ...alpha.arguments]);
    expect(statSync(session).mode & 0o777).toBe(0o600);
    const path = scratch.at('by-files.json');
    const last = enrolling(path, '--allow-bypassed', '--session', session, answer);
    expect((await judged(...last)).status).toBe(0);
    expect(parseEnrolment(readFileSync(path, 'utf8')).node).toBe(alpha.name);
    expect(await refusalOf(['attest', ...last])).toMatchObject({ status: 2, code: 'session-missing' });
  });

  it('reject evidence that was made for an earlier request', async () => {
    await step('request-2.json', ['challenge', '--session', session]);
    const known = [
      '--enrolment',
      scratch.at('alpha.json'),
      '--enrolled-by',
      `${key}.pub`,
      '--allow-bypassed',
    ];
    const { status, report } = await judged('appraise', ...trusted, ...known, scratch.at('evidence.json'));
    expect([status, failures(report)]).toEqual([3, ['freshness']]);
    const none = await judged('challenge', ...trusted, scratch.at('evidence.json'));
    expect([none.status, failures(none.report)]).toEqual([3, ['freshness']]);
    const answered = await refusalOf([
      'attest',
      ...enrolling(scratch.at('x.json'), '--session', session, scratch.at('answer.json')),
    ]);
    expect(answered).toMatchObject({ status: 2, code: 'session-unanswered' });
  });

  it('name the file that is missing, or no document of theirs', async () => {
    const nowhere = scratch.at('nowhere.json');
    expect(await refusalOf(['attest', 'evidence', nowhere, ...alpha.arguments])).toMatchObject({
      status: 2,
      code: 'file-missing',
    });
    expect(await refusalOf(['attest', 'appraise', '--session', nowhere, 'x'])).toMatchObject({
      status: 2,
      code: 'session-missing',
    });
    writeFileSync(nowhere, '{}');
    expect(await refusalOf(['attest', 'evidence', nowhere, ...alpha.arguments])).toMatchObject({
      status: 2,
      code: 'attest-request-invalid',
    });
    expect(await refusalOf(['attest', 'appraise', '--session', session, nowhere])).toMatchObject({
      status: 3,
      code: 'attest-evidence-invalid',
    });
    const bad = ['--verifier-key', nowhere, '--output', scratch.at('y.json'), '--session', session, nowhere];
    expect(await refusalOf(['attest', 'enrol', ...bad])).toMatchObject({
      status: 2,
      code: 'verifier-key-unsuitable',
    });
  });
});

describe('a node', () => {
  it('without a TPM has nothing to attest', async () => {
    await using bare = await labNode(scratch, 'bare');
    await bare.ask(['provision']);
    writeFileSync(scratch.at('any.json'), JSON.stringify(newRequest([0], new Date())));
    const refusal = await refusalOf(['attest', 'evidence', scratch.at('any.json'), ...bare.arguments]);
    expect(refusal).toMatchObject({ status: 1, code: 'tpm-bypassed' });
  });

  it('reads its request from a pipe, and answers with one line', async () => {
    const request = newRequest([0, 7, 14], new Date());
    const [command = '', ...args] = esotericWords(['attest', 'evidence', ...alpha.arguments]);
    const { status, stdout } = await runChild(command, args, { input: Buffer.from(JSON.stringify(request)) });
    expect(status).toBe(0);
    expect(stdout.toString().trimEnd().split('\n')).toHaveLength(1);
    expect(JSON.parse(stdout.toString()).statement.nonce).toBe(request.nonce);
  });

  it('is asked through its control socket while it runs', async () => {
    const { control } = stateLayout(alpha.stateDirectory);
    await alpha.run();
    const path = scratch.at('running.json');
    const { status, report } = await judged(...enrolling(path, '--allow-bypassed', ...through(alpha)));
    expect([status, failures(report)]).toEqual([0, []]);
    const wrong = askNode(control, 'attest-evidence', { document: { nonce: 'x' } });
    await expect(wrong).rejects.toMatchObject({ code: 'attest-request-invalid' });
    await expect(askNode(control, 'attest-activate')).rejects.toMatchObject({
      code: 'attest-challenge-invalid',
    });
    expect(await alpha.stop()).toBe(0);
  });

  it('that is locked is rejected, until its TPM is reset', async () => {
    const known = [
      '--enrolment',
      scratch.at('alpha.json'),
      '--ek-ca',
      ca,
      '--enrolled-by',
      `${key}.pub`,
      '--allow-bypassed',
    ];
    {
      await using tpm = await openTpm({ tcti: alpha.tpm?.tcti ?? '' });
      await tpm.pcrExtend(14, { sha256: new Uint8Array(32).fill(1) });
    }
    const locked = await judged('appraise', ...known, ...through(alpha));
    expect([locked.status, failures(locked.report)]).toEqual([3, ['PCR policy']]);
    expect(of(locked.report, 'PCR policy')?.detail).toContain('PCR 14 is capped');
    await alpha.reboot();
    const after = await judged('appraise', ...known, ...through(alpha));
    expect([after.status, failures(after.report)]).toEqual([0, []]);
    expect(after.report.clock?.resetCount).toBe((locked.report.clock?.resetCount ?? 0) + 1);
  });
});

describe('a bundle of an enrolled node', () => {
  it('is held against the record that the verifier signed, and against no other', async () => {
    const { archive } = await alpha.ask<BundleMade>(['collect-forensics', '--reason', 'a test']);
    const verify = async (record: string, ...more: string[]) => {
      const { stdout } = await esoteric([
        'verify',
        archive,
        '--json',
        '--enrolment',
        record,
        '--allow-bypassed',
        ...more,
      ]);
      const { claims } = JSON.parse(stdout.toString()) as VerifyReport;
      const { result, detail = '' } = claims.find(({ claim }) => claim === 'TPM identity') ?? {};
      return { result, detail };
    };
    const own = scratch.at('alpha.json');
    expect(await verify(own)).toMatchObject({ result: 'not-proven' });
    expect((await verify(own, '--ek-ca', ca, '--enrolled-by', `${key}.pub`)).detail).toMatch(/simulator/);
    const policy = scratch.at('verify.toml');
    writeFileSync(policy, '[enrolment]\nek_ca = "ca"\nenrolled_by = "verifier.pem.pub"\n');
    expect((await verify(own, '--policy', policy)).result).toBe('not-proven');
    const edited = scratch.at('edited.json');
    writeFileSync(edited, readFileSync(own, 'utf8').replace('"tpm": "simulator"', '"tpm": "hardware"'));
    expect(await verify(edited, '--policy', policy)).toMatchObject({
      result: 'failed',
      detail: expect.stringContaining('not as auditor signed it'),
    });
  });
});

describe('the verifier’s files', () => {
  it('are named where they cannot be used', async () => {
    const verify = (...more: string[]) =>
      refusalOf(['attest', 'appraise', ...more, '--session', scratch.at('none'), 'x']);
    expect(await verify('--ek-ca', scratch.at('nowhere'))).toMatchObject({
      status: 2,
      code: 'ek-ca-missing',
    });
    const odd = scratch.at('odd');
    mkdirSync(odd);
    expect(await verify('--ek-ca', odd)).toMatchObject({
      status: 2,
      code: 'ek-ca-invalid',
      message: `${odd} holds no certificate.`,
    });
    writeFileSync(`${odd}/README`, 'certificates of makers');
    const named = await verify('--ek-ca', odd);
    expect(named).toMatchObject({ status: 2, code: 'ek-ca-invalid' });
    expect(named.message).toContain(`${odd}/README cannot be taken`);
    const { pem } = await new Maker(scratch.path).authority('leaf', undefined, 'basicConstraints=CA:FALSE\n');
    writeFileSync(`${odd}/README`, pem);
    expect((await verify('--ek-ca', odd)).message).toContain('it is the certificate of no CA');
    expect(await verify('--enrolled-by', `${odd}/README`)).toMatchObject({
      status: 2,
      code: 'enrolled-by-invalid',
    });
    expect(await verify('--enrolled-by', key)).toMatchObject({ status: 2, code: 'enrolled-by-invalid' });
    expect(await verify('--enrolled-by', scratch.at('nobody'))).toMatchObject({
      status: 2,
      code: 'enrolled-by-missing',
    });
    expect(await verify('--max-age', 'soon')).toMatchObject({ status: 2, code: 'usage' });
  });
});
