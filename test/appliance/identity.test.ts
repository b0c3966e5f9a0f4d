// The courier's identity, end to end: a person signs in, or a CI job gives a token; bundles are countersigned under it, and no
// credential is anywhere but where it belongs.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dropJob } from '../../src/alerts/spool.ts';
import type { BundleJob } from '../../src/appliance/bundle-job.ts';
import { type Config, loadConfig } from '../../src/appliance/config.ts';
import { runCourier } from '../../src/appliance/courier.ts';
import { CourierIdentity, issuerClient } from '../../src/appliance/courier-identity.ts';
import { deprovision } from '../../src/appliance/deprovision.ts';
import type { BundleMade } from '../../src/appliance/evidence.ts';
import { readLogin, removeLogin, writeLogin } from '../../src/appliance/identity-login.ts';
import { provision } from '../../src/appliance/provision.ts';
import { identityStatus, login, logout, type SignedIn } from '../../src/appliance/sigstore-login.ts';
import { type StateLayout, stateLayout } from '../../src/appliance/state-layout.ts';
import { retryUploads, uploadsOf } from '../../src/appliance/uploads.ts';
import { verifyFiles } from '../../src/appliance/verify.ts';
import type { IdentityEnvironment } from '../../src/attestation/identity-environment.ts';
import { signIn as askIssuer, type DevicePrompt } from '../../src/attestation/identity-issuer.ts';
import { findUser } from '../../src/host/privileges.ts';
import { esoteric, esotericWords, type LabNode } from '../lab/node.ts';
import { type LocalSigstore, startSigstore } from '../lab/sigstore.ts';
import { labNode, profile, Scratch, until } from './scene.ts';

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const identity = 'ops@example.org';
const person = { sub: 'CgQxMjM0', email: identity, email_verified: true };
const isRoot = process.geteuid?.() === 0;

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The command line of the process while it waited. */
  readonly commandLine: string;
}

/** `sigstore login`, with a person who does `act` once the code is shown. */
async function signIn(words: readonly string[], act: (code: string) => void): Promise<Ended> {
  const [program = '', ...rest] = esotericWords(['sigstore', 'login', ...words]);
  const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = once(child, 'close');
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const code = await until('the code is shown', () => /\b[0-9A-F]{4}-[0-9A-F]{4}\b/.exec(stderr)?.[0]);
  const commandLine = readFileSync(`/proc/${child.pid}/cmdline`, 'utf8');
  act(code);
  const [status] = (await closed) as [number | null];
  return { status, stdout, stderr, commandLine };
}

const configuration = (lab: LocalSigstore): string => `
[sigstore]
fulcio = "${lab.fulcio}"
rekor = "${lab.rekor}"
tsa = "${lab.tsa}"
identity = "${identity}"
issuer = "${lab.issuer}"
trusted_root = "${scratch.at('root.json')}"
stand_ins = ["fulcio", "rekor", "timestamp authority"]
`;

describe('a courier whose identity is that of a person', () => {
  let node: LabNode;
  let lab: LocalSigstore;
  let config: Config;
  let layout: StateLayout;
  let made: BundleMade;
  /** What the node left to the courier: path, and the proof of possession. */
  let job: BundleJob;
  let count = 0;
  let log = '';

  /** The bundle again, as one that was made just now and waits. */
  const anotherBundle = (changes: Partial<BundleJob> = {}): string => {
    count += 1;
    const sigstore = `${made.sigstore.replace(/\.tar\.gz\.sigstore\.json$/, '')}-${count}.tar.gz.sigstore.json`;
    copyFileSync(made.sigstore, sigstore);
    dropJob(layout.spool, {
      kind: 'bundle',
      key: `bundle-${count}`,
      payload: { ...job, sigstore, ...changes },
    });
    return join(layout.countersigned, basename(sigstore));
  };
  /** What waits is due now, and is tried: the number of those that wait still, and why. */
  const deliver = async (environment: IdentityEnvironment = {}): Promise<{ queued: number; why: string }> => {
    if (existsSync(layout.outbox)) retryUploads(config);
    const signal = new AbortController().signal;
    const queued = await runCourier(config, {
      once: true,
      signal,
      environment,
      log: (line) => {
        log += `${line}\n`;
      },
    });
    return { queued, why: uploadsOf(config).bundles.find(({ state }) => state === 'queued')?.error ?? '' };
  };
  const approve = ({ code }: DevicePrompt): void => lab.oidc.approve(code, person);
  const never = new AbortController().signal;

  beforeAll(async () => {
    lab = await startSigstore();
    writeFileSync(scratch.at('root.json'), JSON.stringify(lab.trustedRoot));
    node = await labNode(scratch, 'eta', { tpm: true, sigstore: true, configuration: configuration(lab) });
    config = loadConfig({ path: node.config });
    layout = stateLayout(node.stateDirectory);
    await node.ask(['provision', '--profile', profile('leaf')]);
    made = await node.ask<BundleMade>(['collect-forensics', '--lines', '1']);
    const [dropped = ''] = readdirSync(layout.spool).filter((name) => name.endsWith('.json'));
    job = JSON.parse(readFileSync(join(layout.spool, dropped), 'utf8')).payload;
  });
  afterAll(async () => {
    await node[Symbol.asyncDispose]();
    await lab.stop();
  });

  it('keeps a bundle pending until somebody signs in, says so, and then delivers it under that name', async () => {
    const waiting = await deliver();
    expect(waiting.queued).toBe(1);
    expect(waiting.why).toMatch(/identity token, and the courier has none: nobody has signed in/);
    expect(identityStatus(config)).toMatchObject({ source: null, identity, token: null });

    const ended = await signIn([...node.arguments, '--json'], (code) => lab.oidc.approve(code, person));
    expect(ended).toMatchObject({ status: 0 });
    expect(JSON.parse(ended.stdout) as SignedIn).toMatchObject({
      issuer: lab.issuer,
      subject: identity,
      renewable: true,
    });
    expect(ended.stderr).toContain(`${lab.issuer}/device`);
    expect(statSync(layout.identity).mode & 0o777).toBe(0o600);

    expect(await deliver()).toEqual({ queued: 0, why: '' });
    const { report, accepted } = await verifyFiles({
      archive: made.archive,
      sigstore: join(layout.countersigned, basename(made.sigstore)),
      enrolment: layout.enrolment,
      trustedRoot: scratch.at('root.json'),
      identity: { subject: identity, issuer: lab.issuer },
      allowBypassed: true,
    });
    const signer = report.claims.find(({ claim }) => claim === 'signer identity');
    expect(signer?.detail).toContain(`${identity}, vouched for by ${lab.issuer}`);
    expect(accepted).toBe(true);
    for (const credential of lab.oidc.credentials) {
      expect(ended.stdout + ended.stderr + ended.commandLine).not.toContain(credential);
    }
  });

  it('renews the token by itself, once for all bundles that wait, and keeps what renews it next', async () => {
    const bundles = [anotherBundle(), anotherBundle(), anotherBundle()];
    const old = JSON.parse(readFileSync(layout.identity, 'utf8'));
    const expired = lab.identityToken(person.sub, { ...person, exp: Math.floor(Date.now() / 1000) - 60 });
    writeFileSync(layout.identity, JSON.stringify({ ...old, idToken: expired }));
    expect(identityStatus(config)).toMatchObject({ problem: null, token: { renewable: true } });
    const before = lab.requests.length;
    expect((await deliver()).queued).toBe(0);
    expect(bundles.map((path) => existsSync(path))).toEqual([true, true, true]);
    expect(lab.requests.slice(before).filter(({ path }) => path === '/token')).toHaveLength(1);
    expect(JSON.parse(readFileSync(layout.identity, 'utf8')).refreshToken).not.toBe(old.refreshToken);
  });

  it('has those countersigned too that were made before Fulcio was configured: by the proof of a later one', async () => {
    // No proof has come yet.
    for (const end of ['', '-wal', '-shm']) rmSync(`${layout.outbox}${end}`, { force: true });
    const own = anotherBundle({ proofOfPossession: null });
    expect((await deliver()).why).toMatch(/proof of possession .* collect a bundle\./);
    expect(existsSync(own)).toBe(false);
    const later = anotherBundle();
    expect(await deliver()).toEqual({ queued: 0, why: '' });
    const proven = await Promise.all(
      [own, later].map((file) =>
        verifyFiles({
          archive: made.archive,
          sigstore: file,
          enrolment: layout.enrolment,
          trustedRoot: scratch.at('root.json'),
          identity: { subject: identity, issuer: lab.issuer },
          allowBypassed: true,
        }),
      ),
    );
    expect(proven.map(({ accepted }) => accepted)).toEqual([true, true]);
  });

  it('is told to sign in again where the issuer ends it, and after `logout`, which the issuer hears of', async () => {
    anotherBundle();
    const kept = JSON.parse(readFileSync(layout.identity, 'utf8'));
    expect(await logout(config)).toEqual({ removed: true, revoked: true });
    expect(existsSync(layout.identity)).toBe(false);
    expect((await deliver()).why).toContain('nobody has signed in');
    const expired = lab.identityToken(person.sub, { ...person, exp: Math.floor(Date.now() / 1000) - 60 });
    writeFileSync(layout.identity, JSON.stringify({ ...kept, idToken: expired }));
    expect((await deliver()).why).toMatch(
      /^The sign-in is over.*Run `esoteric-appliance sigstore login` again\.$/,
    );
    await login(config, approve, never);
    expect((await deliver()).queued).toBe(0);
  });

  it('does not keep the sign-in of somebody whom no node proves its key for, nor one that the issuer denies', async () => {
    const kept = readFileSync(layout.identity);
    const other = login(
      config,
      ({ code }) => lab.oidc.approve(code, { ...person, email: 'someone-else@example.org' }),
      never,
    );
    await expect(other).rejects.toMatchObject({
      code: 'identity-token-mismatch',
      status: 2,
      message: expect.stringMatching(
        /"someone-else@example.org", and the node proved its key for "ops@example.org"/,
      ),
      remedy: expect.stringContaining('sigstore.identity'),
    });
    const denied = login(config, ({ code }) => lab.oidc.deny(code), never);
    await expect(denied).rejects.toMatchObject({ code: 'identity-login-denied', status: 1 });
    expect(readFileSync(layout.identity)).toEqual(kept);
  });

  it('takes the token of a CI job before the sign-in, and is told where that is for somebody else', async () => {
    const path = anotherBundle();
    const github = {
      ACTIONS_ID_TOKEN_REQUEST_URL: `${lab.issuer}/job/token`,
      ACTIONS_ID_TOKEN_REQUEST_TOKEN: lab.oidc.jobPermit,
    };
    expect((await deliver(github)).why).toContain(`for "${lab.oidc.jobSubject}", and the node proved`);
    lab.oidc.jobSubject = identity;
    expect((await deliver(github)).queued).toBe(0);
    expect(existsSync(path)).toBe(true);

    const another = anotherBundle();
    const stale = lab.identityToken(identity, { exp: Math.floor(Date.now() / 1000) - 60 });
    expect((await deliver({ SIGSTORE_ID_TOKEN: stale })).why).toMatch(
      /identity token expired at .*Start the job anew/,
    );
    const fresh = lab.identityToken(identity);
    expect((await deliver({ SIGSTORE_ID_TOKEN: fresh })).queued).toBe(0);
    expect(existsSync(another)).toBe(true);
    for (const secret of [stale, fresh, ...lab.oidc.credentials]) expect(log).not.toContain(secret);
  });

  it('leaves no credential in anything that the node or the courier wrote, but in the one file', () => {
    const holders = readdirSync(node.stateDirectory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .filter((path) => {
        const text = readFileSync(path, 'latin1');
        return lab.oidc.credentials.some((credential) => text.includes(credential));
      });
    expect(holders).toEqual([layout.identity]);
  });
});

describe('a sign-in', () => {
  let lab: LocalSigstore;
  let config: Config;
  let layout: StateLayout;
  beforeAll(async () => {
    lab = await startSigstore();
    const path = scratch.at('kappa.toml');
    writeFileSync(
      path,
      `[node]\nname = "kappa"\nstate_dir = "${scratch.at('kappa')}"\n${configuration(lab)}`,
    );
    config = loadConfig({ path, overrides: { noTpm: true } });
    layout = stateLayout(config.node.state_dir);
    await provision(config);
  });
  afterAll(() => lab.stop());

  /** As it is once its identity token has expired. */
  const signedIn = async () => {
    const never = new AbortController().signal;
    const { idToken, refreshToken } = await askIssuer(
      issuerClient(config),
      ({ code }) => lab.oidc.approve(code, person),
      never,
    );
    const expired = lab.identityToken(person.sub, { ...person, exp: Math.floor(Date.now() / 1000) - 60 });
    const made = { issuer: lab.issuer, clientId: 'sigstore', idToken: expired, refreshToken };
    writeLogin(layout, made);
    return { ...made, fresh: idToken };
  };
  const renewed = (): Promise<{ identityToken: string }> => new CourierIdentity(config, layout, {}).token();

  it('that ends while it is renewed is not written again, nor one over another; the token is used once', async () => {
    await signedIn();
    const ended = renewed();
    removeLogin(layout);
    expect(lab.oidc.credentials).toContain((await ended).identityToken);
    expect(existsSync(layout.identity)).toBe(false);

    await signedIn();
    const replaced = renewed();
    const { fresh, ...other } = await signedIn();
    expect((await replaced).identityToken).not.toBe(fresh);
    expect(readLogin(layout)).toEqual(other);
  });

  it('leaves nothing that a killed writer had begun, after `logout` and after `deprovision`', async () => {
    const begun = `${layout.identity}.123.new`;
    await signedIn();
    copyFileSync(layout.identity, begun);
    removeLogin(layout);
    expect(existsSync(begun)).toBe(false);

    await signedIn();
    copyFileSync(layout.identity, begun);
    const giveUp = () => deprovision(config, { confirmed: true, keepStorageRoot: false });
    await giveUp();
    expect(readdirSync(dirname(layout.identity)).filter((name) => name.startsWith('identity'))).toEqual([]);
    await provision(config);
    rmSync(dirname(layout.identity), { recursive: true });
    await giveUp();
    expect(existsSync(layout.node)).toBe(false);
  });
});

describe.skipIf(!isRoot)(`a courier of another user${isRoot ? '' : ' (skipped: needs root)'}`, () => {
  it('has its sign-in for itself: root gives itself up before it asks, and root’s own files stay untouched', async () => {
    await using lab = await startSigstore();
    const config = scratch.at('theta.toml');
    const state = scratch.at('theta');
    const flags = ['--config', config, '--no-tpm'];
    writeFileSync(
      config,
      `[node]\nname = "theta"\nstate_dir = "${state}"\n[courier]\nuser = "nobody"\n${configuration(lab)}`,
    );
    expect((await esoteric(['provision', ...flags])).status).toBe(0);
    expect((await signIn(flags, (code) => lab.oidc.approve(code, person))).status).toBe(0);
    const { uid, mode } = statSync(join(state, 'courier', 'identity.json'));
    expect({ uid, mode: mode & 0o777 }).toEqual({ uid: findUser('nobody').uid, mode: 0o600 });
    const told = await esoteric(['sigstore', 'status', '--json', ...flags]);
    expect(JSON.parse(told.stdout.toString())).toMatchObject({
      source: 'sign-in',
      token: { subject: identity, renewable: true },
      problem: null,
    });
  });
});
