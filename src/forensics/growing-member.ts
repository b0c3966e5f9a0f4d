// A member and the records of what was redacted in it, as they come: deflated beside the thread that collects, and kept together. There is
// room for a piece of the one and the records that came with it, or the member ends before both.

import { GrowingBytes } from '../host/growing-bytes.ts';
import { PieceDeflater } from './deflated.ts';
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
  #bytes = new GrowingBytes();
  /** For pieces to come: new ones each time would cost more than what they are for. */
  readonly #spare: GrowingBytes[] = [];
  #replaced: RedactionRecord[] = [];
  /** While pieces come. One piece after the other, and so is each of them asked. */
  #deflaters: readonly [PieceDeflater, PieceDeflater] | undefined;
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
    try {
      if (this.#bytes.length > 0 || this.#replaced.length > 0) this.#deflate();
      while (this.#underWay.length > 0) await this.#underWay.shift();
    } finally {
      for (const deflater of this.#deflaters ?? []) deflater[Symbol.dispose]();
      this.#deflaters = undefined;
    }
    return !this.#isFull;
  }

  /** Begins anew, after `done`: nothing is kept. */
  reset(): void {
    this.member.reset();
    this.records.reset();
    this.counts.clear();
    this.#options.room?.giveBack(this.#taken);
    this.#taken = 0;
    this.#isFull = false;
  }

  /** What has come since the last time is a piece. */
  #deflate(): void {
    const bytes = this.#bytes;
    const replaced = this.#replaced;
    this.#bytes = this.#spare.pop() ?? new GrowingBytes();
    this.#replaced = [];
    const kept = this.#keep(this.#underWay.at(-1), bytes.view, replaced).then(() => {
      bytes.drop(bytes.length);
      this.#spare.push(bytes);
    });
    kept.catch(() => {}); // It is thrown where it is waited for.
    this.#underWay.push(kept);
  }

  async #keep(
    before: Promise<void> | undefined,
    bytes: Uint8Array,
    replaced: readonly RedactionRecord[],
  ): Promise<void> {
    this.#deflaters ??= [new PieceDeflater(), new PieceDeflater()];
    const [one, other] = this.#deflaters;
    const lines = Buffer.from(replaced.map((record) => `${JSON.stringify(record)}\n`).join(''));
    const deflating = Promise.all([one.deflate(bytes), other.deflate(lines)]);
    const [[deflatedBytes, deflatedLines]] = await Promise.all([deflating, before]);
    if (this.#isFull) return;
    const { room, keep, onGrowth } = this.#options;
    const parts = [
      [this.member, { plain: bytes, deflated: deflatedBytes }],
      [this.records, { plain: lines, deflated: deflatedLines }],
    ] as const;
    const size = deflatedBytes.length + deflatedLines.length;
    if (room?.take(size, keep) === false || !writeBoth(parts)) {
      this.#isFull = true;
      return;
    }
    this.#taken += size;
    for (const record of replaced)
      this.counts.set(record.rule, (this.counts.get(record.rule) ?? 0) + replacements(record));
    onGrowth(this.member.size);
  }
}
