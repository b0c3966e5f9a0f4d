// The room on the disk that a bundle may take. What is collected lies there twice for a while, deflated, in files and in the archive, so
// each byte is granted only while it would fit a second time; and since others write to the same disk, it is measured anew all along.

/** How much may be written between two looks at the disk. */
const lookEvery = 1 << 20;

export class Room {
  /** Bytes that a member which yields (the journal) leaves to the others. */
  readonly others: number;
  readonly #free: () => number;
  #left: number;
  #staged = 0;
  #sinceLook = 0;

  /** `free`: bytes that may be taken of the disk as it stands now, whatever must stay free left out. */
  constructor(free: () => number, others = 0) {
    this.others = others;
    this.#free = free;
    this.#left = free();
  }

  /** Bytes that would be granted now. */
  get left(): number {
    return Math.max(0, Math.floor((this.#left - this.#staged) / 2));
  }

  /** Takes the bytes, all or none; `keep`: as many must stay for others. */
  take(bytes: number, keep = 0): boolean {
    if (this.#sinceLook + bytes > lookEvery) {
      this.#left = this.#free();
      this.#sinceLook = 0;
    }
    if (bytes > this.left - keep) return false;
    this.#left -= bytes;
    this.#staged += bytes;
    this.#sinceLook += bytes;
    return true;
  }

  /** What was taken and does not lie there any more. */
  giveBack(bytes: number): void {
    this.#left += bytes;
    this.#staged -= bytes;
  }
}
