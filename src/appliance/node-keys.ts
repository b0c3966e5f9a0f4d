// The node's use of its TPM: what only the keys in there can do. One connection, renewed where the interlock had to take it over.
import { createHash } from 'node:crypto';
import { type Standing, unanchored } from '../custody/anchor.ts';
import type { CustodyHead } from '../custody/chain.ts';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { Failure } from '../host/failure.ts';
import { pinnedStorageRoot } from '../keys/anchors.ts';
import { type Expectation, signedStateOf } from '../keys/approval.ts';
import type { Approval } from '../keys/approval-format.ts';
import { satisfyApproved } from '../keys/policy.ts';
import { readSealedKey, unsealKey } from '../keys/sealed.ts';
import { openTpm, type Tpm } from '../tpm/context.ts';
import type { TpmObject } from '../tpm/object.ts';
import type { TpmProperties } from '../tpm/properties.ts';
import type { RawChannel } from '../tpm/raw.ts';
import { TpmError } from '../tpm/responses.ts';
import type { SignedAttest } from '../tpm/signing.ts';
import { expectationOf, fittingApproval, presentState, storedApprovals } from './approvals.ts';
import type { Config } from './config.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

/** PCRs of the firmware and boot chain, which every quote covers beside the cap PCR. */
const quotedPcrs = [0, 1, 2, 3, 4, 5, 6, 7];
/** Bundles that the counter is brought after at once. More are those of another TPM, and each takes a write of its NV memory. */
const mostMissed = 100;

export interface Quoted {
  readonly attest: Uint8Array;
  readonly signature: Uint8Array;
  /** By PCR number, hex. */
  readonly pcrs: Record<string, string>;
}

/** As JSON carries it: base64. */
export const signedText = ({ attest, signature }: SignedAttest): { attest: string; signature: string } => ({
  attest: Buffer.from(attest).toString('base64'),
  signature: Buffer.from(signature).toString('base64'),
});

export interface Anchored {
  /** The last record whose hash the TPM holds; null for none. */
  readonly last: CustodyHead | null;
  readonly certification: SignedAttest | null;
  /** Why the TPM did not follow: it was told another history, which the certification shows. */
  readonly problem?: string;
}

/** Holds the custody log against what the TPM holds of it. Nothing is extended meanwhile. */
type Compare = (held: Uint8Array) => Promise<Standing>;

/** Against which a reset of the TPM and wrong authorizations show. */
export interface TpmStanding {
  readonly resetCount: number;
  /** Wrong authorizations that the TPM remembers. */
  readonly failures: number;
}

export class NodeKeys implements AsyncDisposable {
  readonly #tcti: string;
  readonly #anchors: NonNullable<NodeRecord['tpm']>;
  #tpm: Tpm;
  /** One after the other: what the index holds decides what it gets. */
  #anchoring: Promise<unknown> = Promise.resolve();
  /** The pinned storage root key, as ESYS knows it from the start on: nobody on the bus is asked for it again. */
  #srk: TpmObject;

  private constructor(tcti: string, anchors: NonNullable<NodeRecord['tpm']>, tpm: Tpm, srk: TpmObject) {
    this.#tcti = tcti;
    this.#anchors = anchors;
    this.#tpm = tpm;
    this.#srk = srk;
  }

  /**
   * For the holder of the state's lock, who is alone at the TPM and flushes what was abandoned there; whoever only looks leaves it.
   * @throws Failure `tpm-unreachable`, `tss-missing`; `tpm-swapped` when it is another TPM.
   */
  static async open(
    config: Config,
    anchors: NonNullable<NodeRecord['tpm']>,
    abandoned: 'flush' | 'leave' = 'flush',
  ): Promise<NodeKeys> {
    const tpm = await openTpm({ tcti: config.tpm.tcti });
    try {
      if (abandoned === 'flush') await tpm.flushAbandoned();
      return new NodeKeys(config.tpm.tcti, anchors, tpm, await pinnedStorageRoot(tpm, anchors));
    } catch (error) {
      await tpm.close();
      throw error;
    }
  }

  /** For the interlock's thread. */
  rawChannel(): RawChannel {
    return this.#tpm.rawChannel();
  }

  /** What an approval is held against now. @throws Failure `armed-counter-gone`. */
  expectation(record: NodeRecord): Promise<Expectation> {
    const anchors = this.#anchors;
    return this.#fresh(async (tpm) =>
      expectationOf(record.node, record.keys, anchors.authorities, await presentState(tpm, anchors)),
    );
  }

  /**
   * The approval that opens the node's keys in the present state of the machine. Looked at here first, so that the operator is
   * told why; the TPM judges by itself.
   * @throws Failure `approval-missing`, `approval-pcrs`, `approval-stale` and the others of `checkApproval`.
   */
  async approval(layout: StateLayout, record: NodeRecord): Promise<Approval> {
    return fittingApproval(storedApprovals(layout), await this.expectation(record));
  }

  /** @throws Failure `key-missing`, `share-destroyed`; TpmError `tpm-policy` when the TPM does not accept the approval. */
  async unseal(
    arena: SecretArena,
    stateDirectory: string,
    name: string,
    approval: Approval,
  ): Promise<SecretBuffer> {
    const sealed = readSealedKey(stateDirectory, name);
    if (sealed === undefined) {
      throw new Failure('key-missing', `There is no sealed key "${name}".`, {
        remedy: 'Add it to the profile or to [[keys]], and run `esoteric-appliance provision` again.',
      });
    }
    return await this.#fresh((tpm, srk) =>
      unsealKey({ tpm, srk, arena }, sealed, (on, session, policy) =>
        satisfyApproved(on, session, policy, signedStateOf(approval, sealed)),
      ),
    );
  }

  /** A quote over `qualifyingData` of the boot PCRs and the cap PCR. */
  quote(qualifyingData: Uint8Array): Promise<Quoted> {
    const selection = [...new Set([...quotedPcrs, ...Object.keys(this.#anchors.pcrs).map(Number)])].sort(
      (a, b) => a - b,
    );
    return this.#fresh(async (tpm) => {
      await using ak = await tpm.at(this.#anchors.ak.handle);
      const values = await tpm.pcrRead('sha256', selection);
      const { attest, signature } = await tpm.quote(ak, qualifyingData, selection);
      return {
        attest,
        signature,
        pcrs: Object.fromEntries(
          [...values].map(([pcr, value]) => [pcr, Buffer.from(value).toString('hex')]),
        ),
      };
    });
  }

  /** DER signature by the bundle signing key over the SHA-256 of `message`. */
  sign(message: Uint8Array): Promise<Uint8Array> {
    return this.#fresh(async (tpm, srk) => {
      await using key = await tpm.load(srk, {
        public: Buffer.from(this.#anchors.signingKey.public, 'base64'),
        private: Buffer.from(this.#anchors.signingKey.private, 'base64'),
      });
      return await tpm.sign(key, createHash('sha256').update(message).digest());
    });
  }

  /** Counts the bundle sequence up, and on to `least` where it has missed a few bundles; returns it. */
  nextSequence(least: number): Promise<number> {
    const { sequenceIndex } = this.#anchors;
    return this.#fresh(async (tpm) => {
      const count = async (): Promise<number> => {
        await tpm.nvIncrement(sequenceIndex);
        return Number(await tpm.nvReadCounter(sequenceIndex));
      };
      let counted = await count();
      if (least - counted <= mostMissed) while (counted < least) counted = await count();
      return counted;
    });
  }

  /**
   * Extends into the TPM what the custody log asks for and the TPM has not had yet, and certifies what it then holds, over the
   * hash of the last such record.
   * @throws Failure `custody-rewritten` where the TPM was told another history than the log.
   */
  anchorCustody(compare: Compare): Promise<Anchored> {
    const { custodyIndex } = this.#anchors;
    return this.#inTurn(async (tpm) => {
      const { followed, pending, last } = await compare(await this.#custodyHeld(tpm));
      if (followed === undefined) throw custodyRewritten();
      for (const { hash } of pending) await tpm.nvExtend(custodyIndex, Buffer.from(hash, 'hex'));
      return { last, certification: await this.#certifyHead(tpm, last) };
    });
  }

  /** States what the TPM holds of the custody log, over the last record that the log asks it to hold, whether it does or not. */
  certifyCustody(compare: Compare): Promise<SignedAttest | null> {
    return this.#inTurn(async (tpm) =>
      this.#certifyHead(tpm, (await compare(await this.#custodyHeld(tpm))).last),
    );
  }

  /** States the content of the node's counters over `qualifyingData`. */
  certifyCounters(qualifyingData: Uint8Array): Promise<Record<'sequence' | 'armed', SignedAttest>> {
    const { ak, sequenceIndex, armedIndex } = this.#anchors;
    return this.#fresh(async (tpm) => {
      await using attestor = await tpm.at(ak.handle);
      return {
        sequence: await tpm.nvCertify(sequenceIndex, attestor, qualifyingData),
        armed: await tpm.nvCertify(armedIndex, attestor, qualifyingData),
      };
    });
  }

  /** The last record of the log that the TPM was told of; 0 where it was told of none. @throws as `anchorCustody`. */
  custodyFollowed(compare: Compare): Promise<number> {
    return this.#inTurn(async (tpm) => {
      const { followed } = await compare(await this.#custodyHeld(tpm));
      if (followed === undefined) throw custodyRewritten();
      return followed?.sequence ?? 0;
    });
  }

  /** One after the other, of what extends the log into the TPM and what looks how far that has come. */
  #inTurn<T>(work: (tpm: Tpm) => Promise<T>): Promise<T> {
    const turn = this.#anchoring.then(() => this.#fresh(work));
    this.#anchoring = turn.catch(() => {});
    return turn;
  }

  async #custodyHeld(tpm: Tpm): Promise<Uint8Array> {
    const { custodyIndex } = this.#anchors;
    const { attributes } = await tpm.nvPublic(custodyIndex);
    return attributes.includes('written') ? await tpm.nvRead(custodyIndex) : unanchored;
  }

  async #certifyHead(tpm: Tpm, last: CustodyHead | null): Promise<SignedAttest | null> {
    const { custodyIndex, ak } = this.#anchors;
    if (last === null) return null;
    await using attestor = await tpm.at(ak.handle);
    return await tpm.nvCertify(custodyIndex, attestor, Buffer.from(last.hash, 'hex'));
  }

  standing(): Promise<TpmStanding> {
    return this.#fresh(async (tpm) => {
      const { lockout, resetCount } = await tpm.properties();
      return { resetCount, failures: lockout.counter };
    });
  }

  /** Dictionary attack protection as it stands. */
  lockout(): Promise<TpmProperties['lockout']> {
    return this.#fresh(async (tpm) => (await tpm.properties()).lockout);
  }

  /** The cap PCR as it stands, hex. */
  capPcr(): Promise<string> {
    const { capPcr } = this.#anchors;
    return this.#fresh(async (tpm) =>
      Buffer.from((await tpm.pcrRead('sha256', [capPcr])).get(capPcr) ?? []).toString('hex'),
    );
  }

  /** For what is done with the node's TPM elsewhere: attestation. `work` may be run a second time, on a new connection. */
  use<T>(work: (tpm: Tpm) => Promise<T>): Promise<T> {
    return this.#fresh(work);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tpm.close();
  }

  /** Runs `work`; where the interlock has taken over the connection meanwhile, once more on a new one. */
  async #fresh<T>(work: (tpm: Tpm, srk: TpmObject) => Promise<T>): Promise<T> {
    try {
      return await work(this.#tpm, this.#srk);
    } catch (error) {
      if (!(error instanceof TpmError) || error.code !== 'tpm-overtaken') throw error;
      await this.#tpm.close();
      this.#tpm = await openTpm({ tcti: this.#tcti });
      this.#srk = await pinnedStorageRoot(this.#tpm, this.#anchors);
      return await work(this.#tpm, this.#srk);
    }
  }
}

const custodyRewritten = (): Failure =>
  new Failure('custody-rewritten', 'The TPM was told another history than the one in the custody log.', {
    kept: 'Neither the log nor the TPM was changed.',
    remedy:
      'Keep the log and its copies in earlier bundles as evidence: it was cut, edited or put back, or the index was removed. Then deprovision, and provision anew.',
  });
