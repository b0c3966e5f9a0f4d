// The node daemon: unseals, brings the links up, collects entropy, serves it, and stands by when the interlock has struck. The
// watcher is armed before the first unseal; a marker written before it makes an unclean end visible at the next start.

import { CustodyLog } from '../custody/log.ts';
import type { RandomServer } from '../entropy/outputs/http.ts';
import { Turns } from '../entropy/outputs/turns.ts';
import type { EntropyPool } from '../entropy/pool.ts';
import { removeAbandoned } from '../forensics/working-directory.ts';
import { SecretArena } from '../host/arena.ts';
import { Failure } from '../host/failure.ts';
import { hardenProcess } from '../host/hardening.ts';
import { shareNativeHeaps } from '../host/heap.ts';
import { holdLock } from '../host/lock.ts';
import { linkDeletion } from '../host/netlink.ts';
import { findUser } from '../host/privileges.ts';
import { type InterlockPolicy, loadInterlockPolicy } from '../interlock/policy.ts';
import { Lifecycle } from '../keys/lifecycle.ts';
import { Announcer } from './announce.ts';
import { type Installed, installApproval, parseBrought } from './approvals.ts';
import { linkKeysOf } from './asked.ts';
import { assuranceNow, bypassLines, requireSameKind } from './assurance.ts';
import { Collecting } from './collecting.ts';
import type { Config } from './config.ts';
import { alertCustody, CustodyFollower } from './custody-anchor.ts';
import { kernelFeed, poolNews, serveAt } from './entropy-node.ts';
import { type BundleMade, type BundleRequest, type EvidenceContext, makeBundle } from './evidence.ts';
import { readyForEvidence } from './evidence-ready.ts';
import { NodeGuard } from './guard.ts';
import { Housekeeping } from './housekeeping.ts';
import { finishInterrupted } from './interrupted.ts';
import { tellFinished } from './killed-zeroize.ts';
import { Links } from './links.ts';
import { type LiveState, liveCollectors } from './live-state.ts';
import { Maintenance, recoveredEvents } from './maintenance.ts';
import { NodeKeys, type TpmStanding } from './node-keys.ts';
import { type NodeRecord, readNodeRecord } from './node-record.ts';
import { NodeSecrets } from './node-secrets.ts';
import { policyPath } from './policies.ts';
import { startPool } from './pool.ts';
import { type Preview, previewBundle } from './preview.ts';
import { admitProgram, type ProgramAppraisal } from './program.ts';
import { recordPast } from './record.ts';
import { failedClaimsOfOwn } from './self-appraisal.ts';
import { makeReceipts, type StateLayout, stateLayout } from './state-layout.ts';
import { Striking } from './striking.ts';
import { conditionOf } from './tpm-condition.ts';
import { heldKeys, putAside } from './zeroize-certificate.ts';

export class Node implements AsyncDisposable {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly custody: CustodyLog;
  readonly custodyFollower: CustodyFollower;
  readonly announcer: Announcer;
  readonly arena: SecretArena;
  readonly maintenance: Maintenance;
  readonly striking: Striking;
  readonly #lifecycle: Lifecycle;
  readonly #policy: InterlockPolicy;
  readonly #cleanup = new AsyncDisposableStack();
  #secrets: NodeSecrets | undefined;
  #tpm: NodeKeys | null = null;
  #tpmAtStart: TpmStanding | null = null;
  #links: Links | undefined;
  #pool: EntropyPool | undefined;
  #servers: RandomServer[] = [];
  #guard: NodeGuard | undefined;
  /** The marker of a running node is on disk. */
  #marked = false;
  readonly #collecting: Collecting;
  #program: ProgramAppraisal | null = null;

  private constructor(
    config: Config,
    layout: StateLayout,
    record: NodeRecord,
    arena: SecretArena,
    log: (line: string) => void,
  ) {
    this.config = config;
    this.layout = layout;
    this.record = record;
    this.#policy = loadInterlockPolicy(policyPath('interlock.toml'));
    this.#lifecycle = new Lifecycle(layout.directory);
    this.custody = this.#cleanup.use(CustodyLog.open(layout.custody));
    this.announcer = this.#cleanup.use(new Announcer(config, layout, log));
    this.arena = this.#cleanup.use(arena);
    this.maintenance = this.#maintain();
    this.striking = this.#readyToStrike();
    this.custodyFollower = new CustodyFollower(
      layout,
      () => this.#tpm,
      (trouble) => alertCustody(this.announcer, record, trouble),
    );
    this.#collecting = new Collecting({
      ...this.#standing,
      make: (request, onProgress) => makeBundle({ ...this.#evidence, onProgress }, request),
    });
  }

  /**
   * @throws Failure `unprovisioned`, `provisioned-otherwise`, `state-in-use`, `memory-unlockable`, `zeroized`, `program-unverified`, `tpm-unreachable`, `tpm-swapped`, `interface-missing`;
   *   TpmError `tpm-policy` where the TPM refuses to unseal.
   */
  static async start(
    config: Config,
    log: (line: string) => void,
    options: { readonly allowSwappable?: boolean } = {},
  ): Promise<Node> {
    const layout = stateLayout(config.node.state_dir);
    const known = readNodeRecord(layout);
    requireSameKind(config, known);
    const arena = SecretArena.allocate(options);
    const record = { ...known, assurance: assuranceNow(config, known, arena.locked) };
    const lock = holdLock(layout.lock, `The state directory ${layout.directory}`);
    let node: Node | undefined;
    try {
      removeAbandoned(layout.bundles);
      node = new Node(config, layout, record, arena, log);
      node.#cleanup.use(lock);
      await node.#start();
      return node;
    } catch (error) {
      if (node === undefined) lock[Symbol.dispose]();
      else await node[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { record, announcer, custody } = this;
    for (const line of bypassLines(record.assurance)) announcer.event('BYPASS', line, { what: line });
    for (const trouble of hardenProcess())
      announcer.event('HARDENING_INCOMPLETE', `This process is less hardened: ${trouble}.`, {
        what: trouble,
      });
    shareNativeHeaps();
    const finished = await finishInterrupted({ ...this.#standing, policy: this.#policy });
    if (finished !== undefined) tellFinished(this, finished);
    await this.striking.requireUnzeroized(finished);
    putAside(this.layout); // Of another life.
    this.#program = await admitProgram(this.#standing);
    const unclean = this.#lifecycle.endedUncleanly;
    if (record.tpm !== null) this.#tpm = this.#cleanup.use(await NodeKeys.open(this.config, record.tpm));
    this.#tpmAtStart = (await this.#tpm?.standing()) ?? null;
    await this.#cleanup.use(this.striking).arm();
    this.#lifecycle.markRunning();
    this.#marked = true;
    this.maintenance.recover(await custody.recall({ events: recoveredEvents }));
    if (unclean) await this.striking.afterUncleanEnd();
    custody.append('started', { assurance: record.assurance, unclean });
    const { user } = this.config.courier;
    makeReceipts(this.layout, () => (user === '' ? undefined : findUser(user)));
    this.#cleanup.use(new Housekeeping(this.#standing));
    const anchored = this.custodyFollower.anchor(); // Of a log of years this takes as long as all that follows.
    this.#cleanup.use(this.custodyFollower.lookDaily());
    await this.#collecting.alone(() => readyForEvidence(this.#standing)); // A zeroize may have begun one.
    const secrets = new NodeSecrets({ ...this.#standing, arena: this.arena, tpm: this.#tpm });
    this.#secrets = secrets; // Before the first is open: a zeroize tells of what was there.
    await secrets.open();
    secrets.enrolVolatile(custody.head());
    this.maintenance.askAgain();
    this.#links = this.#cleanup.use(
      await Links.up({
        links: this.config.links,
        arena: this.arena,
        key: (name) => secrets.of(name),
        onRemoval: (removal) => this.striking.interlock.addKernelAction(removal),
        onLost: (link) => this.striking.linkLost(link),
        onTrouble: (message) => announcer.event('LINK_TROUBLE', message, { what: message }),
      }),
    );
    this.#pool = this.#cleanup.use(
      await startPool(this.config, this.arena, {
        fallbackDirectory: this.layout.directory,
        seedFile: { key: secrets.seedKey },
        ...poolNews(record.node, announcer),
      }),
    );
    await anchored;
    await this.#serve();
    this.#guard = this.#cleanup.use(this.#standGuard());
  }

  /** Tells that it runs: once whoever waits for that can ask it. */
  ready(): void {
    this.announcer.event('NODE_STARTED', `Node ${this.record.node} is running.`);
    this.#collecting.start();
  }

  #maintain(): Maintenance {
    return new Maintenance({
      ...this.#standing,
      interlock: () => this.striking.interlock,
      pause: (why) => this.pool.pause(why),
      resume: () => this.#pool?.resume(),
      linkKeys: () => linkKeysOf(this.config, this.layout),
      appraise: () => failedClaimsOfOwn(this),
      zeroized: () => this.zeroized,
    });
  }

  #readyToStrike(): Striking {
    return new Striking({
      ...this.#standing,
      arena: this.arena,
      policy: this.#policy,
      maintenance: () => this.maintenance,
      keys: () => this.#tpm,
      held: () =>
        heldKeys(this.record, this.config.links).filter(({ name }) => this.#secrets?.names.includes(name)),
      endOutput: () => {
        for (const server of this.#servers) server.closeNow();
      },
      anchor: () => this.custodyFollower.anchor(),
      collect: (request) => this.collect(request),
    });
  }

  get #standing(): Pick<Node, 'config' | 'layout' | 'record' | 'custody' | 'announcer'> {
    const { config, layout, record, custody, announcer } = this;
    return { config, layout, record, custody, announcer };
  }

  get zeroized(): boolean {
    return this.arena.zeroized;
  }

  /** What is attested of the program, as it was found when this node started. */
  get program(): ProgramAppraisal | null {
    return this.#program;
  }

  /** Null without a TPM. */
  get keys(): NodeKeys | null {
    return this.#tpm;
  }

  get pool(): EntropyPool {
    if (this.#pool === undefined) throw new Failure('node-starting', 'The node is still starting.');
    return this.#pool;
  }

  get guard(): NodeGuard {
    if (this.#guard === undefined) throw new Failure('node-starting', 'The node is still starting.');
    return this.#guard;
  }

  async live(): Promise<LiveState> {
    return {
      links: (await this.#links?.status()) ?? [],
      entropy: this.#pool?.status() ?? null,
      interlock: this.striking.armed?.status() ?? null,
      observed: this.#guard?.decided ?? [],
      zeroize: this.striking.incident?.summary ?? null,
      tpm: this.#tpm === null ? null : await conditionOf(this.#tpm, this.layout, this.record),
    };
  }

  /** One bundle after the other. */
  collect(request: BundleRequest, onProgress?: (step: string) => void): Promise<BundleMade> {
    return this.#collecting.collect(request, onProgress);
  }

  /** What `collect` would do now; changes nothing. */
  preview(request: BundleRequest, onProgress: (step: string) => void): Promise<Preview> {
    return previewBundle(this.#evidence, request, onProgress);
  }

  get #evidence(): EvidenceContext {
    return {
      ...this.#standing,
      keys: this.#tpm,
      program: this.#program ?? undefined,
      anchor: (whole) => this.custodyFollower.anchor(whole),
      collectors: [...liveCollectors(() => this.live()), ...(this.striking.incident?.collectors ?? [])],
    };
  }

  /** Keeps an approval for the state after an update, or for this one. @throws as `parseBrought`; Failure `no-tpm`. */
  async approve(text: string): Promise<Installed> {
    if (this.#tpm === null) {
      throw new Failure('no-tpm', 'Without a TPM nothing is sealed, so there is nothing to approve.');
    }
    const expected = await this.#tpm.expectation(this.record);
    return installApproval(this, parseBrought(text, expected), expected);
  }

  /** A clean end: links and processes go, the marker is cleared. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.striking.told();
    await this.maintenance.appraised;
    await this.#collecting[Symbol.asyncDispose]();
    for (const server of this.#servers) {
      server.closeAllConnections();
      server.close();
    }
    try {
      if (this.#marked) {
        recordPast(this, 'stopped', { zeroized: this.zeroized });
        await this.custodyFollower.anchor();
        this.#lifecycle.clearRunning();
      }
    } finally {
      await this.#cleanup.disposeAsync(); // Links go whatever the disk says.
    }
  }

  #standGuard(): NodeGuard {
    return new NodeGuard({
      ...this.#standing,
      policy: this.#policy,
      tpmAtStart: this.#tpmAtStart,
      entropy: () => this.#pool?.status(),
      linkChanges: async () => (this.zeroized ? 0 : ((await this.#links?.changes()) ?? 0)),
      takeAlong: (index) => this.striking.interlock.addKernelAction({ message: linkDeletion(index) }),
      strike: (cause, level) => {
        if (!this.zeroized || level !== undefined) void this.striking.strike(cause, level).catch(() => {});
      },
      collect: (request) => this.collect(request),
    });
  }

  async #serve(): Promise<void> {
    const turns = new Turns();
    for (const listen of this.config.entropy.http)
      this.#servers.push(await serveAt(listen, this.pool, turns));
    const { kernel_feed_seconds: feedSeconds } = this.config.entropy;
    if (feedSeconds > 0) this.#cleanup.use(kernelFeed(this.pool, feedSeconds, this.announcer));
  }
}
