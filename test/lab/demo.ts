// The demo: two nodes, a cable pulled, a verified bundle, on this machine. The program, the protocols and the kernel are real; what
// stands in for hardware and public services is named on the screen and in `assurance`.
import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OutboxRow } from '../../src/alerts/outbox.ts';
import type { DemoOptions, DemoReport } from '../../src/appliance/checkout.ts';
import type { ZeroizeSummary } from '../../src/appliance/incident.ts';
import type { ProvisionResult } from '../../src/appliance/provision-result.ts';
import { stopSignal } from '../../src/cli/command.ts';
import type { CustodyRecord } from '../../src/custody/chain.ts';
import type { EntropyStatus } from '../../src/entropy/status.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import { SecretArena } from '../../src/host/arena.ts';
import { requireChild, runChild } from '../../src/host/child.ts';
import { exitStatus, Failure } from '../../src/host/failure.ts';
import { holdLock } from '../../src/host/lock.ts';
import { TpmError } from '../../src/tpm/responses.ts';
import type { Pull } from './cable.ts';
import type { Fetched } from './fetch.ts';
import { createNetwork, inside, type LabNetwork } from './network.ts';
import { esoteric, LabNode } from './node.ts';
import { type Services, startServices } from './services.ts';
import { Story } from './story.ts';
import { unsealByForce } from './unseal.ts';

const prefix = 'ea-demo';
const script = (name: string): string => join(import.meta.dirname, name);
const profile = resolve(import.meta.dirname, '../../provisioning/demo.toml');
const tunnel = { alpha: '10.66.0.1', beta: '10.66.0.2' } as const;
type Name = keyof typeof tunnel;
const other = (name: Name): Name => (name === 'alpha' ? 'beta' : 'alpha');
const identityOf = (name: Name): string => `https://nodes.example/${name}`;

/** @throws Failure `not-root`; `demo-running` while another demo runs; an Error that names the step that went wrong. */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  if (process.geteuid?.() !== 0) {
    throw new Failure('not-root', 'The demo makes network namespaces and locks memory, which needs root.', {
      kept: 'Nothing was touched.',
      remedy: 'Repeat it as root: `sudo ./scripts/demo`.',
      status: exitStatus.failed,
    });
  }
  using _lock = holdLock(join(tmpdir(), `${prefix}.lock`), 'The demo');
  for (const name of readdirSync(tmpdir())) {
    if (name.startsWith(`${prefix}-`)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
  const directory = mkdtempSync(join(tmpdir(), `${prefix}-`));
  try {
    await requireChild('chmod', ['711', directory]);
    return await new Demo(options, directory).tell();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

class Demo {
  readonly #options: DemoOptions;
  readonly #directory: string;
  readonly #story: Story;
  readonly #output: string;

  constructor(options: DemoOptions, directory: string) {
    this.#options = options;
    this.#directory = directory;
    this.#story = new Story(options.quiet, stopSignal());
    this.#output = resolve(options.output);
  }

  async tell(): Promise<DemoReport> {
    const story = this.#story;
    const { tpm, sigstore } = this.#options;
    story.title('esoteric-appliance: two nodes, one cable, one pull');
    writeFileSync(join(this.#directory, 'case.key'), randomBytes(32), { mode: 0o600 });
    clearOutput(this.#output);
    story.standIns([
      ...(tpm ? ['swtpm for a hardware TPM', 'a synthetic firmware event log for measured boot'] : []),
      ...(sigstore ? ['local Fulcio, Rekor and timestamp authority for Sigstore'] : []),
      'a local S3 server and a local webhook for theirs',
    ]);
    if (!tpm) story.bypass('--no-tpm: volatile keys, unsigned evidence');
    if (!sigstore) story.bypass('--no-sigstore: no transparency log, no timestamps');

    await using network = await story.step('A cable between two network namespaces', () =>
      createNetwork(prefix),
    );
    await using services = await story.step('Services behind a management link', () =>
      startServices(network.namespaces.services, network.addresses.services, [
        identityOf('alpha'),
        identityOf('beta'),
      ]),
    );
    await using alpha = await story.step('alpha: TPM, firmware log, journal', () =>
      this.#node('alpha', network, services),
    );
    await using beta = await story.step('beta:  TPM, firmware log, journal', () =>
      this.#node('beta', network, services),
    );
    const nodes = { alpha, beta };

    using _logs = { [Symbol.dispose]: () => this.#keepLogs(nodes) };
    await this.#provision(nodes);
    await this.#run(nodes, network);
    await this.#plannedFlap(nodes, network);
    const heads = { alpha: await headOf(alpha), beta: await headOf(beta) };
    const zeroized = await this.#pull(nodes, network);
    const delivered = await this.#delivery(nodes, services);
    await story.step('Both nodes are stopped', () => Promise.all([alpha.stop(), beta.stop()]));
    const unsealAfter = await this.#unsealAfter(nodes);
    const verified = await this.#verify(nodes, services, heads);
    story.evidence(this.#output, verified.commands);
    return {
      ok: true,
      timeline: zeroized.timeline,
      zeroize: zeroized.zeroize,
      unsealAfter,
      alerts: delivered,
      bundle: verified.bundle,
      flippedByteVerdict: verified.flippedByteVerdict,
    };
  }

  async #node(name: Name, network: LabNetwork, { started }: Services): Promise<LabNode> {
    const directory = join(this.#directory, name);
    const { s3, sigstore, channels } = started;
    const peer = other(name);
    const upload = `s3://${s3.bucket}/${name}?endpoint=${encodeURIComponent(s3.endpoint)}&region=us-east-1`;
    mkdirSync(directory, { recursive: true, mode: 0o711 });
    writeFileSync(join(directory, 'trusted_root.json'), JSON.stringify(sigstore.trustedRoot));
    return await LabNode.create({
      name,
      directory,
      namespace: network.namespaces[name],
      tpm: this.#options.tpm,
      probed: false,
      sigstore: this.#options.sigstore,
      interfaces: [network.cable],
      courierUser: 'nobody',
      courierFiles: {
        's3-credentials': `[default]\naws_access_key_id = ${s3.accessKeyId}\naws_secret_access_key = ${s3.secretAccessKey}\n`,
        'identity-token': sigstore.identityTokens[identityOf(name)] ?? '',
      },
      configuration: `
[[links]]
name = "ea-wg-${name}"
address = "${tunnel[name]}/24"
[[links.peers]]
name = "${peer}"
enrolment = "${join(this.#directory, peer, 'state', 'enrolment.json')}"
endpoint = "${network.addresses[peer]}:51820"
allowed_ips = ["${tunnel[peer]}/32"]
keepalive = 1
[entropy]
http = ["${tunnel[name]}:8080", "127.0.0.1:8080"]
[sigstore]
fulcio = "${sigstore.fulcio}"
rekor = "${sigstore.rekor}"
tsa = "${sigstore.tsa}"
identity = "${identityOf(name)}"
issuer = "${sigstore.issuer}"
identity_token_file = "${join(directory, 'identity-token')}"
trusted_root = "${join(directory, 'trusted_root.json')}"
stand_ins = ["fulcio", "rekor", "timestamp authority", "s3"]
[forensics]
upload = "${upload}"
case_key = "${join(this.#directory, 'case.key')}"
[courier]
user = "nobody"
s3_credentials_file = "${join(directory, 's3-credentials')}"
[[alerts.channels]]
url = "${channels.json}"
[[alerts.channels]]
url = "${channels.ntfy}"
`,
    });
  }

  /** What the nodes and their couriers said is worth most when something went wrong. */
  #keepLogs(nodes: Record<Name, LabNode>): void {
    mkdirSync(this.#output, { recursive: true });
    for (const node of Object.values(nodes)) writeFileSync(join(this.#output, `${node.name}.log`), node.log);
  }

  async #provision(nodes: Record<Name, LabNode>): Promise<void> {
    const story = this.#story;
    story.chapter('Provisioning');
    for (const node of Object.values(nodes)) {
      const first = await story.step(`${node.name}: provision`, () =>
        node.ask<ProvisionResult>(['provision', '--profile', profile]),
      );
      const again = await node.ask<ProvisionResult>(['provision', '--profile', profile]);
      require(again.changed.length === 0, 'a second provision changes nothing');
      for (const key of first.keys) {
        story.detail(
          key.sealed
            ? `${key.name} key ${key.publicKey} sealed under SRK ${first.tpm?.srk.handle}, PCRs 0, 7 and 14`
            : `${key.name} key volatile: made when the node runs`,
        );
      }
    }
  }

  async #run(nodes: Record<Name, LabNode>, network: LabNetwork): Promise<void> {
    const story = this.#story;
    story.chapter('Running');
    await story.step('Both nodes run: keys unsealed, tunnel up, noise collected', () =>
      Promise.all([nodes.alpha.run(), nodes.beta.run()]),
    );
    await story.step(`alpha pings beta through the tunnel (${tunnel.beta})`, () => this.#ping(network));
    const healthy = await story.step('At least six noise sources pass their start-up tests', () =>
      until('six noise sources are healthy', async () => {
        const { sources } = (await nodes.alpha.status()).entropy as EntropyStatus;
        const passing = sources.filter(({ state }) => state === 'healthy');
        return passing.length >= 6 ? passing : undefined;
      }),
    );
    story.detail(healthy.map(({ name }) => name).join(', '));
    const random = await this.#fetch(network, 'alpha', `http://${tunnel.beta}:8080/random?bytes=65536`);
    require(random.status === 200 &&
      random.bytes === 65_536, 'random bytes come over HTTP through the tunnel');
    story.detail('alpha got 65,536 random bytes from beta over HTTP through the tunnel');
    const streamed = await esoteric(['stream', '--bytes', '1M', ...nodes.alpha.arguments]);
    require(streamed.stdout.length === 1 << 20, '`stream --bytes 1M` gives 1 MiB');
    story.detail('`stream --bytes 1M` gave 1 MiB');
  }

  async #plannedFlap(nodes: Record<Name, LabNode>, network: LabNetwork): Promise<void> {
    const story = this.#story;
    story.chapter('A planned flap');
    const failures = async (): Promise<number[]> =>
      Promise.all(
        Object.values(nodes).map(async (node) =>
          ((await node.status()).entropy as EntropyStatus).sources.reduce(
            (sum, source) => sum + source.failures,
            0,
          ),
        ),
      );
    const before = await failures();
    for (const node of Object.values(nodes)) {
      await node.ask([
        'maintenance',
        'begin',
        '--duration',
        '60',
        '--flaps',
        '2',
        '--reason',
        'replace the cable',
      ]);
    }
    await story.step('`maintenance begin` on both, the cable goes down and up', async () => {
      await this.#cable(network, 'beta', 'down');
      await sleep(300);
      const paused = ((await nodes.alpha.status()).entropy as EntropyStatus).state;
      require(paused === 'paused', `collection pauses in the window, but it is ${paused}`);
      await this.#cable(network, 'beta', 'up');
      await sleep(100);
    });
    for (const node of Object.values(nodes)) {
      await node.ask(['maintenance', 'end']);
      const status = await node.status();
      require(status.state === 'running', `${node.name} is still running`);
      const custody = await node.ask<CustodyRecord[]>(['custody', 'show']);
      const flap = custody.find(({ event }) => event === 'planned-flap');
      require(flap !== undefined, `the custody log of ${node.name} tells of the planned flap`);
      story.detail(`${node.name}: nothing wiped; custody record ${flap?.sequence} says planned-flap`);
    }
    require(JSON.stringify(await failures()) === JSON.stringify(before), 'no health test failed');
    await story.step('The tunnel is still there', () => this.#ping(network));
  }

  async #pull(
    nodes: Record<Name, LabNode>,
    network: LabNetwork,
  ): Promise<Pick<DemoReport, 'timeline' | 'zeroize'>> {
    const story = this.#story;
    story.chapter('The cable is pulled');
    const pull = await story.step('The cable goes down, and nobody has announced it', () =>
      this.#cable(network, 'beta', 'down'),
    );
    const outcomes: { readonly name: Name; readonly zeroize: ZeroizeSummary }[] = [];
    for (const name of ['alpha', 'beta'] as const) {
      const status = await until(`${name} is zeroized`, async () => {
        const now = await nodes[name].status();
        return now.state === 'zeroized' && now.zeroize !== null && 'stages' in now.zeroize ? now : undefined;
      });
      const zeroize = status.zeroize as ZeroizeSummary;
      require(zeroize.cause === 'link-flap' &&
        zeroize.interface === network.cable, `${name} names the cause`);
      require(zeroize.stages.kernel.failures === 0, `${name}: no kernel action failed`);
      if (this.#options.tpm)
        require(zeroize.stages.tpm.result === 'done', `${name}: the cap PCR was extended`);
      outcomes.push({ name, zeroize });
    }
    const timeline = timelineOf(pull, outcomes);
    story.timeline(timeline);
    await story.step('On both: the tunnel is gone, output refuses', async () => {
      for (const name of ['alpha', 'beta'] as const) {
        const links = await runChild('ip', ['-n', network.namespaces[name], 'link', 'show', `ea-wg-${name}`]);
        require(links.status !== 0, `the tunnel of ${name} is gone`);
        const refused = await this.#fetch(network, name, 'http://127.0.0.1:8080/random?bytes=32');
        require(refused.status === 503, `HTTP on ${name} answers 503, not ${refused.status}`);
        const streamed = await esoteric(['stream', '--bytes', '32', ...nodes[name].arguments]);
        require(streamed.status === exitStatus.zeroized &&
          streamed.stdout.length ===
            0, `stream on ${name} ends with 4 and gives nothing, not ${streamed.status}`);
      }
    });
    story.detail('HTTP answers 503, `stream` ends with status 4');
    const detect = outcomes.map(({ zeroize }) => zeroize.detectedAtMicros - pull.before);
    const wipe = outcomes.map(({ zeroize }) => zeroize.stages.memory.micros);
    return { timeline, zeroize: { detectMicros: Math.max(...detect), wipeMicros: Math.max(...wipe) } };
  }

  async #delivery(nodes: Record<Name, LabNode>, services: Services): Promise<DemoReport['alerts']> {
    const story = this.#story;
    story.chapter('Evidence and alert');
    const rows = await story.step(
      'The couriers deliver: alerts to two channels, bundles to S3, read back',
      () =>
        until('everything is delivered', async () => {
          const outboxes = await Promise.all(
            Object.values(nodes).map((node) => node.ask<OutboxRow[]>(['alert', 'status'])),
          );
          const whole = outboxes.every(
            (outbox) =>
              outbox.some(({ kind }) => kind === 'bundle') &&
              outbox.filter(({ key }) => key.includes('-zeroize-')).length === 2 &&
              outbox.every(({ state }) => state === 'delivered'),
          );
          return whole ? outboxes.flat() : undefined;
        }),
    );
    const received = (await services.alerts()).filter(({ key }) => key.includes('-zeroize-'));
    for (const name of ['alpha', 'beta']) {
      const paths = received.filter(({ key }) => key.startsWith(name)).map(({ path }) => path);
      require(new Set(paths).size ===
        2, `the alert of ${name} arrived at two channels, not ${paths.join(', ')}`);
    }
    const alerts = rows.filter(({ kind, key }) => kind === 'alert' && key.includes('-zeroize-'));
    for (const { key, channel, state } of alerts) story.detail(`${key} to ${channel}: ${state}`);
    mkdirSync(this.#output, { recursive: true });
    writeFileSync(join(this.#output, 'alerts.json'), `${JSON.stringify(received, null, 2)}\n`);
    return alerts.map(({ key, channel, state }) => ({
      channel: `${key.split('-')[0]} ${channel}`,
      status: state,
    }));
  }

  /** Asks the TPM itself, with the daemon gone: the sealed blob is there, the PCRs are not what they were. */
  async #unsealAfter(nodes: Record<Name, LabNode>): Promise<string> {
    if (!this.#options.tpm) return 'no TPM';
    const story = this.#story;
    const results = await story.step(
      'The TPMs are asked for the sealed keys, with the blobs at hand',
      async () => {
        using arena = SecretArena.allocate({ byteLength: 4096 });
        return await Promise.all(Object.values(nodes).map((node) => tryToUnseal(node, arena)));
      },
    );
    story.detail(`both TPMs refuse: ${results.join('; ')}`);
    require(results.every((result) =>
      result.startsWith('tpm-policy'),
    ), `the TPM refuses, but: ${results.join(', ')}`);
    return 'refused';
  }

  async #verify(nodes: Record<Name, LabNode>, services: Services, heads: Record<Name, string>) {
    const story = this.#story;
    story.chapter('Verification, offline');
    const output = this.#output;
    const downloaded: string[] = [];
    for (const name of ['alpha', 'beta'] as const) {
      const files = await services.download(`${name}/`, output);
      downloaded.push(...files);
      copyFileSync(
        join(nodes[name].stateDirectory, 'enrolment.json'),
        join(output, `${name}.enrolment.json`),
      );
      copyFileSync(join(nodes[name].stateDirectory, 'custody.jsonl'), join(output, `${name}.custody.jsonl`));
    }
    copyFileSync(join(this.#directory, 'case.key'), join(output, 'case.key'));
    writeFileSync(join(output, 'trusted_root.json'), JSON.stringify(services.started.sigstore.trustedRoot));
    const archiveOf = (name: Name): string =>
      join(
        output,
        downloaded.find((file) => file.startsWith(`${name}-`) && file.endsWith('.tar.gz')) ?? 'missing',
      );
    const argumentsFor = (name: Name, archive: string): string[] => [
      'verify',
      archive,
      '--enrolment',
      join(output, `${name}.enrolment.json`),
      '--trusted-root',
      join(output, 'trusted_root.json'),
      '--case-key',
      join(output, 'case.key'),
      '--known-head',
      heads[name],
      ...(this.#options.tpm && this.#options.sigstore
        ? ['--identity', identityOf(name), '--issuer', services.started.sigstore.issuer]
        : []),
      '--allow-bypassed',
    ];
    const reports = await story.step('verify, without a network, on what was downloaded', async () => {
      const alphaReport = await this.#verifyOffline(argumentsFor('alpha', archiveOf('alpha')));
      const betaReport = await this.#verifyOffline(argumentsFor('beta', archiveOf('beta')));
      return { alpha: alphaReport, beta: betaReport };
    });
    story.claims(reports.alpha.report);
    for (const { report, status } of Object.values(reports)) {
      const failed = report.claims.filter(({ result }) => result === 'failed');
      require(failed.length ===
        0, `no claim failed, but ${failed.map(({ claim, detail }) => `${claim}: ${detail}`).join('; ')}`);
      require(status === exitStatus.done, `verify accepts, not ${status}: ${report.reasons.join(' ')}`);
    }
    const strict = await this.#verifyOffline(
      argumentsFor('alpha', archiveOf('alpha')).filter((word) => word !== '--allow-bypassed'),
    );
    require(strict.status === exitStatus.rejected, 'without --allow-bypassed the stand-ins are not accepted');
    const flipped = join(this.#directory, basename(archiveOf('alpha')));
    const bytes = readFileSync(archiveOf('alpha'));
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
    writeFileSync(flipped, bytes);
    copyFileSync(`${archiveOf('alpha')}.sigstore.json`, `${flipped}.sigstore.json`);
    const tampered = await story.step('One bit of the archive is flipped', () =>
      this.#verifyOffline(argumentsFor('alpha', flipped)),
    );
    require(tampered.status === exitStatus.rejected, `a flipped bit ends with 3, not ${tampered.status}`);
    story.detail(`verdict: ${tampered.report.verdict}, status 3`);
    return {
      bundle: {
        archive: archiveOf('alpha'),
        sigstore: `${archiveOf('alpha')}.sigstore.json`,
        uploadedTo: `s3://${services.started.s3.bucket}/alpha/${basename(archiveOf('alpha'))}`,
        verdict: reports.alpha.report.verdict,
        failedClaims: reports.alpha.report.claims
          .filter(({ result }) => result === 'failed')
          .map(({ claim }) => claim),
      },
      flippedByteVerdict: tampered.report.verdict,
      commands: [
        `./scripts/esoteric-appliance ${argumentsFor('alpha', archiveOf('alpha')).join(' ')}`,
        `tar -tzf ${archiveOf('alpha')}`,
        `less ${join(output, 'alpha.custody.jsonl')}`,
      ],
    };
  }

  /** In a namespace of its own without any interface: nothing can be fetched. */
  async #verifyOffline(args: readonly string[]): Promise<{ status: number | null; report: VerifyReport }> {
    const main = resolve(import.meta.dirname, '../../src/cli/main.ts');
    const words = [process.execPath, '--disable-warning=ExperimentalWarning', main, ...args, '--json'];
    const { status, stdout, stderr } = await runChild('unshare', ['--net', ...words], {
      timeoutMilliseconds: 30_000,
    });
    if (stdout.length === 0) throw new Error(`verify said nothing: ${stderr}`);
    return { status, report: JSON.parse(stdout.toString()) as VerifyReport };
  }

  async #cable(network: LabNetwork, name: Name, state: 'up' | 'down'): Promise<Pull> {
    const [command, args] = inside(
      network.namespaces[name],
      process.execPath,
      script('cable.ts'),
      network.cable,
      state,
    );
    return JSON.parse((await requireChild(command, args)).stdout.toString()) as Pull;
  }

  async #ping(network: LabNetwork): Promise<void> {
    const [command, args] = inside(network.namespaces.alpha, 'ping', '-c', '1', '-W', '1', tunnel.beta);
    await until('beta answers through the tunnel', async () =>
      (await runChild(command, args)).status === 0 ? true : undefined,
    );
  }

  async #fetch(network: LabNetwork, from: Name, url: string): Promise<Fetched> {
    const [command, args] = inside(network.namespaces[from], process.execPath, script('fetch.ts'), url);
    return JSON.parse((await requireChild(command, args)).stdout.toString()) as Fetched;
  }
}

/** Removes what an earlier demo left, and nothing else. */
function clearOutput(directory: string): void {
  if (!existsSync(directory)) return;
  const ours = /^(alpha|beta)[-.]|^(alerts\.json|case\.key|trusted_root\.json)$/;
  for (const name of readdirSync(directory))
    if (ours.test(name)) rmSync(join(directory, name), { recursive: true });
}

/** The head of a node's custody log, as whoever asks for its status may keep it. */
async function headOf(node: LabNode): Promise<string> {
  const { custody } = await node.status();
  return `${custody?.sequence}:${custody?.hash}`;
}

async function tryToUnseal(node: LabNode, arena: SecretArena): Promise<string> {
  if (node.tpm === null) return 'nothing to unseal';
  try {
    using _key = await unsealByForce(node, arena, 'wireguard');
    return 'unsealed';
  } catch (error) {
    if (error instanceof TpmError) return `${error.code} (0x${error.rc.toString(16)})`;
    throw error;
  }
}

function timelineOf(
  pull: Pull,
  outcomes: readonly { readonly name: Name; readonly zeroize: ZeroizeSummary }[],
): DemoReport['timeline'] {
  const events = outcomes.flatMap(({ name, zeroize }) => {
    const { memory, kernel, tpm, disk } = zeroize.stages;
    const detected = zeroize.detectedAtMicros - pull.before;
    const wiped = detected + memory.micros;
    const unlinked = wiped + kernel.micros;
    const locked = unlinked + tpm.micros;
    return [
      { atMicros: detected, node: name, event: 'carrier loss noticed' },
      { atMicros: wiped, node: name, event: 'memory wiped' },
      { atMicros: unlinked, node: name, event: 'link keys out of the kernel' },
      ...(tpm.result === 'done' ? [{ atMicros: locked, node: name, event: 'TPM locked' }] : []),
      { atMicros: locked + disk.micros, node: name, event: 'state on disk: zeroized' },
    ];
  });
  return [
    { atMicros: 0, node: 'cable', event: 'pulled' },
    { atMicros: pull.after - pull.before, node: 'cable', event: 'kernel has answered' },
    ...events,
  ].sort((a, b) => a.atMicros - b.atMicros);
}

function require(condition: boolean, expectation: string): void {
  if (!condition) throw new Error(`The demo expected that ${expectation}.`);
}

/** Asks every 100 ms for at most 30 s. */
async function until<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; await sleep(100)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
  }
  throw new Error(`The demo waited 30 s in vain until ${what}.`);
}
