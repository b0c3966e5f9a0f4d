// The keys of a running node: unsealed where there is a TPM, else made for this run, whose public halves then stand in the enrolment
// record. All of them lie in the arena, so a zeroize takes them whatever holds them.
import type { CustodyHead } from '../custody/chain.ts';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { generateKey, publicHalf } from '../keys/sealed.ts';
import { enrolmentOf } from './enrolment.ts';
import type { NodeKeys } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

export interface KeyHolder {
  readonly record: NodeRecord;
  readonly layout: StateLayout;
  readonly arena: SecretArena;
  /** Null without a TPM. */
  readonly tpm: NodeKeys | null;
}

export class NodeSecrets {
  readonly #keys = new Map<string, SecretBuffer>();
  readonly #holder: KeyHolder;

  constructor(holder: KeyHolder) {
    this.#holder = holder;
  }

  /** One after the other; those that are open already are told by `names`. @throws as `NodeKeys.approval` and `NodeKeys.unseal`. */
  async open(): Promise<void> {
    const { record, arena, tpm } = this.#holder;
    const unseal = tpm === null || record.keys.length === 0 ? null : await unsealer(this.#holder, tpm);
    for (const { name, purpose } of record.keys) {
      this.#keys.set(name, unseal === null ? generateKey(arena, name, purpose) : await unseal(name));
    }
  }

  get names(): string[] {
    return [...this.#keys.keys()];
  }

  /** @throws Failure `key-missing`. */
  of(name: string): SecretBuffer {
    const key = this.#keys.get(name);
    if (key === undefined) {
      throw new Failure(
        'key-missing',
        `The link asks for the key "${name}", which this node does not have.`,
        { remedy: 'Add it to the profile or to [[keys]], and run `esoteric-appliance provision` again.' },
      );
    }
    return key;
  }

  /** The sealed key that the seed file is kept under, where the node has one. */
  get seedKey(): SecretBuffer | undefined {
    const { record, tpm } = this.#holder;
    const name = record.keys.find(({ purpose }) => purpose === 'seed')?.name;
    return name === undefined || tpm === null ? undefined : this.#keys.get(name);
  }

  /** Of keys that live as long as this run: their public halves, for the peers. */
  enrolVolatile(head: CustodyHead): void {
    const { record, layout, tpm } = this.#holder;
    if (tpm !== null) return;
    const volatile = record.keys.flatMap(({ name, purpose }) => {
      const publicKey = publicHalf(this.of(name), purpose);
      return publicKey === null ? [] : [{ name, purpose, publicKey }];
    });
    const enrolment = enrolmentOf(record, layout, head, volatile);
    writeDurably(layout.enrolment, `${JSON.stringify(enrolment, null, 2)}\n`, 0o644);
  }
}

async function unsealer(
  { record, arena, layout }: KeyHolder,
  tpm: NodeKeys,
): Promise<(name: string) => Promise<SecretBuffer>> {
  const approval = await tpm.approval(layout, record);
  return (name) => tpm.unseal(arena, layout.directory, name, approval);
}
