// Follows the custody log: whether it is whole, and brings its head into the TPM, which tells when it knows another history. What was
// read before and lies there untouched is not read again; at the start, now and then, and for a bundle it is. Never stops what it
// belongs to.
import { checkAside } from '../custody/aside.ts';
import type { LogCheck, Settled } from '../custody/check.ts';
import { Failure } from '../host/failure.ts';
import { utcNow } from '../host/time.ts';
import type { Announcer } from './announce.ts';
import type { Config } from './config.ts';
import { type Anchored, NodeKeys } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

/** How the log was found when it was last looked at. */
export interface CustodyFound {
  /** RFC 3339. */
  readonly at: string;
  /** The first broken line and why, or that the TPM was told another history; null where it is whole and what the TPM was told. */
  readonly problem: string | null;
}

interface Trouble {
  /** The chain is whole in itself, and the TPM was told another. */
  readonly rewritten: boolean;
  readonly problem: string;
}

const day = 86_400_000;

export class CustodyFollower {
  readonly #path: string;
  readonly #keys: () => NodeKeys | null;
  readonly #tell: (trouble: Trouble) => void;
  #settled: Settled | undefined;
  #found: CustodyFound | null = null;

  /** `keys`: null without a TPM. `tell` is called once for each trouble. */
  constructor(layout: StateLayout, keys: () => NodeKeys | null, tell: (trouble: Trouble) => void) {
    this.#path = layout.custody;
    this.#keys = keys;
    this.#tell = tell;
  }

  /** Null before it was looked at. */
  get found(): CustodyFound | null {
    return this.#found;
  }

  /**
   * Undefined without a TPM that answers, where the log is whole: the next anchoring makes up for it. Where the TPM knows another history,
   * that is certified, so that a bundle that is made now contradicts itself. `whole`: every line is read. Never rejects.
   */
  async anchor(whole = false): Promise<Anchored | undefined> {
    const keys = this.#keys();
    let log: LogCheck | undefined;
    let anchored: Anchored | undefined;
    let rewritten: string | undefined;
    const compare = async (held: Uint8Array) => {
      log = await this.#check(whole, held);
      return log.standing;
    };
    try {
      anchored = await keys?.anchorCustody(compare);
    } catch (error) {
      if (error instanceof Failure && error.code === 'custody-rewritten') rewritten = error.message;
    }
    try {
      log ??= await this.#check(whole);
    } catch {
      return anchored; // What cannot be read is told by who needs it.
    }
    const problem = log.problem ?? rewritten;
    this.#note(problem, log.ok);
    if (rewritten !== undefined) {
      const certification = (await keys?.certifyCustody(compare).catch(() => null)) ?? null;
      return { last: null, certification, problem: problem ?? rewritten };
    }
    return problem === undefined ? anchored : { ...(anchored ?? untold), problem };
  }

  /** The last record that the TPM was told of, every line being read; null without a TPM. @throws as `NodeKeys.custodyFollowed`. */
  async followed(): Promise<number | null> {
    const compare = async (held: Uint8Array) => (await this.#check(true, held)).standing;
    return (await this.#keys()?.custodyFollowed(compare)) ?? null;
  }

  /** Somebody may edit what nobody reads. */
  lookDaily(): Disposable {
    const timer = setInterval(() => void this.anchor(true), day).unref();
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  async #check(whole: boolean, held?: Uint8Array): Promise<LogCheck> {
    const from = whole ? undefined : this.#settled;
    const { check, settled } = await checkAside(this.#path, { from, held });
    this.#settled = settled;
    // The TPM may be behind what was read before.
    const isBehind = from !== undefined && held !== undefined && check.standing.followed === undefined;
    return isBehind ? await this.#check(true, held) : check;
  }

  #note(problem: string | undefined, rewritten: boolean): void {
    const isNew = problem !== undefined && problem !== this.#found?.problem;
    this.#found = { at: utcNow(), problem: problem ?? null };
    if (isNew) this.#tell({ rewritten, problem });
  }
}

const untold: Anchored = { last: null, certification: null };

/** For a command that has no TPM open; told by the next start where it does not work out. */
export async function anchorOnce(config: Config, layout: StateLayout, record: NodeRecord): Promise<void> {
  if (record.tpm === null || config.tpm.mode === 'none') return;
  await using keys = await NodeKeys.open(config, record.tpm);
  await new CustodyFollower(
    layout,
    () => keys,
    () => {},
  ).anchor();
}

export const custodyRemedy =
  'Keep the log and its copies in earlier bundles as evidence: it was cut, edited or put back, or its disk is failing. `custody check` tells what is wrong. Then deprovision, and provision anew.';

/** The alert of a custody log that is not the one that the node has written. */
export function alertCustody(
  announcer: Announcer,
  record: NodeRecord,
  { rewritten, problem }: Trouble,
): void {
  announcer.alert({
    key: `${record.node}-custody-${rewritten ? 'rewritten' : 'broken'}`,
    severity: 'alert',
    title: `${record.node}: the custody log ${rewritten ? 'was rewritten' : 'is broken'}`,
    body: [problem, custodyRemedy].join('\n'),
    facts: { why: problem },
  });
}
