// A member and the records of what was redacted in it, as they come: deflated beside the thread that collects, and kept together. There is
// room for a piece of the one and the records that came with it, or the member ends before both.
import { PieceDeflater } from './deflated.ts';
import { GrowingBytes } from './growing-bytes.ts';
import { type MemberFile, writeBoth } from './member-file.ts';
import { type RedactionRecord, replacements } from './redact.ts';
import type { Room } from './room.ts';

/** Bytes of a piece, or a little more: shorter ones would compress less, longer ones take more memory. */
const pieceBytes = 1 << 19;
/** Pieces that are deflated or wait for it: one for another thread, and one to go on with. */
const mostUnderWay = 2;

interface GrowingMemberOptions {
  /** Undefined: as much as there is. */
  readonly room: Room | undefined;
  /** Bytes that must stay for others. */
  readonly keep: number;
  /** Bytes that are kept so far. */
  readonly onGrowth: (bytes: number) => void;
}

export class GrowingMember {
  readonly member: MemberFile;
  readonly records: MemberFile;
  /** By rule, how often something was replaced in what is kept. */
  readonly counts = new Map<string, number>();
  readonly #options: GrowingMemberOptions;
  /** What belongs to the next piece. */
  readonly #bytes = new GrowingBytes();
  #replaced: RedactionRecord[] = [];
  #deflaters = [new PieceDeflater(), new PieceDeflater()] as const;
  /** The last settles when all have. */
  #underWay: Promise<void>[] = [];
  #isFull = false;
  /** Of the room. */
  #taken = 0;

  constructor(member: MemberFile, records: MemberFile, options: GrowingMemberOptions) {
    this.member = member;
    this.records = records;
    this.#options = options;
  }

  /** Takes what comes next, and copies it. False where the member has ended. */
  add(bytes: Uint8Array, replaced: readonly RedactionRecord[]): boolean {
    if (this.#isFull) return false;
    this.#bytes.copy(bytes);
    for (const record of replaced) this.#replaced.push(record);
    if (this.#bytes.length >= pieceBytes) this.#deflate();
    return true;
  }

  /** Waits until another piece may come. False where the member has ended. @throws Error where it cannot be written. */
  async ready(): Promise<boolean> {
    while (this.#underWay.length >= mostUnderWay) await this.#underWay.shift();
    return !this.#isFull;
  }

  /** All has been added: waits for it. False where the member has ended before. @throws as `ready`. */
  async done(): Promise<boolean> {
    if (this.#bytes.length > 0 || this.#replaced.length > 0) this.#deflate();
    while (this.#underWay.length > 0) await this.#underWay.shift();
    return !this.#isFull;
  }

  /** Begins anew: nothing is kept. */
  async reset(): Promise<void> {
    await this.done();
    this.member.reset();
    this.records.reset();
    this.counts.clear();
    this.#options.room?.giveBack(this.#taken);
    this.#taken = 0;
    this.#deflaters = [new PieceDeflater(), new PieceDeflater()];
    this.#isFull = false;
  }

  /** What has come since the last time is a piece. */
  #deflate(): void {
    const replaced = this.#replaced;
    const lines = replaced.map((record) => `${JSON.stringify(record)}\n`).join('');
    const plain = [Buffer.from(this.#bytes.view), Buffer.from(lines)] as const;
    this.#bytes.drop(this.#bytes.length);
    this.#replaced = [];
    const deflated = Promise.all([
      this.#deflaters[0].deflate(plain[0]),
      this.#deflaters[1].deflate(plain[1]),
    ]);
    const kept = this.#keep(this.#underWay.at(-1), plain, deflated, replaced);
    kept.catch(() => {}); // It is thrown where it is waited for.
    this.#underWay.push(kept);
  }

  async #keep(
    before: Promise<void> | undefined,
    plain: readonly [Uint8Array, Uint8Array],
    deflating: Promise<readonly [Uint8Array, Uint8Array]>,
    replaced: readonly RedactionRecord[],
  ): Promise<void> {
    const [deflated] = await Promise.all([deflating, before]);
    if (this.#isFull) return;
    const { room, keep, onGrowth } = this.#options;
    const parts = [
      [this.member, { plain: plain[0], deflated: deflated[0] }],
      [this.records, { plain: plain[1], deflated: deflated[1] }],
    ] as const;
    const bytes = deflated[0].length + deflated[1].length;
    if (room?.take(bytes, keep) === false || !writeBoth(parts)) {
      this.#isFull = true;
      return;
    }
    this.#taken += bytes;
    for (const record of replaced)
      this.counts.set(record.rule, (this.counts.get(record.rule) ?? 0) + replacements(record));
    onGrowth(this.member.size);
  }
}
