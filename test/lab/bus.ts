// What whoever probes the bus between a node and its TPM is after: the node's keys, and the shares and payloads that they are made
// of. They are opened here, past the probe, and searched for in what it recorded.
import { storedApprovals } from '../../src/appliance/approvals.ts';
import type { Config } from '../../src/appliance/config.ts';
import { NodeKeys } from '../../src/appliance/node-keys.ts';
import { readNodeRecord } from '../../src/appliance/node-record.ts';
import { stateLayout } from '../../src/appliance/state-layout.ts';
import { SecretArena, type SecretBuffer } from '../../src/host/arena.ts';
import { Failure } from '../../src/host/failure.ts';
import { type SealedKey, sealedKeysIn } from '../../src/keys/sealed.ts';
import { hitsIn, type Needle, needlesOf } from './memory-search.ts';

/** The node is not whole, its TPM is gone or another, or it opens nothing in this state. */
const refusals: ReadonlySet<string> = new Set([
  'approval-invalid',
  'share-destroyed',
  'tpm-connection-lost',
  'tpm-policy',
  'tpm-swapped',
  'tpm-unreachable',
]);

export class BusSearch implements Disposable {
  readonly #arena = SecretArena.allocate({ allowSwappable: true });
  readonly #needles: Needle[] = [];
  readonly #learned = new Set<string>();

  /**
   * Learns what a node has sealed by now, if its TPM opens it in this state. `config` is the node's, with a way to the TPM on
   * which nothing is recorded.
   */
  async learn(config: Config): Promise<void> {
    const layout = stateLayout(config.node.state_dir);
    const fresh = sealedKeysIn(layout.directory).filter((sealed) => !this.#learned.has(sealed.private));
    if (fresh.length === 0) return;
    try {
      const { tpm: anchors } = readNodeRecord(layout);
      const [approval] = storedApprovals(layout);
      if (anchors === null || approval === undefined) return;
      await using keys = await NodeKeys.open(config, anchors, 'leave');
      for (const sealed of fresh) {
        using key = await keys.unseal(this.#arena, layout.directory, sealed.name, approval);
        await this.learnOpened(keys, anchors.srk.handle, sealed, key);
      }
    } catch (error) {
      if (!(error instanceof Failure && refusals.has(error.code))) throw error;
    }
  }

  /** The same of a key that is open already. */
  async learnOpened(keys: NodeKeys, srkHandle: number, sealed: SealedKey, key: SecretBuffer): Promise<void> {
    if (this.#learned.has(sealed.private)) return;
    using share = await this.#shareOf(keys, srkHandle, sealed);
    this.#remember(`key ${sealed.name}`, key.bytes);
    this.#remember(`share of key ${sealed.name}`, share.bytes);
    for (let at = 0; at < key.byteLength; at++)
      share.bytes[at] = (share.bytes[at] ?? 0) ^ (key.bytes[at] ?? 0);
    this.#remember(`payload of key ${sealed.name}`, share.bytes);
    this.#learned.add(sealed.private);
  }

  /** How many secrets are known: three for each key. */
  get secrets(): number {
    return 3 * this.#learned.size;
  }

  /** Which secrets were there to see, and in which form. */
  sightings(recorded: Buffer): string[] {
    return [...hitsIn(recorded, this.#needles).keys()];
  }

  [Symbol.dispose](): void {
    for (const { bytes } of this.#needles) bytes.fill(0);
    this.#arena[Symbol.dispose]();
  }

  #shareOf(
    keys: NodeKeys,
    srkHandle: number,
    { name, shareIndex, byteLength }: SealedKey,
  ): Promise<SecretBuffer> {
    return keys.use(async (tpm) => {
      await using srk = await tpm.at(srkHandle);
      await using session = await tpm.startPolicySession(srk, 'policy');
      return await tpm.nvReadSecret(shareIndex, byteLength, session, this.#arena, `share of ${name}`);
    });
  }

  #remember(name: string, secret: Uint8Array): void {
    this.#needles.push(...needlesOf(name, Buffer.from(secret)));
  }
}
