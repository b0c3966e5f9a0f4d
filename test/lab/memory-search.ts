// Searches the memory of a process for secrets, in every form in which one could lie there: as it is, in parts of eight bytes, as
// text (base64 at each alignment, hex), as UTF-16 of that text, and as the schedule of an AES key (FIPS 197, 5.2).
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

/** What one part of a secret looks like in a form: at least eight bytes. */
export interface Needle {
  readonly form: string;
  readonly bytes: Buffer;
}

const part = 8;

/** Every form of a secret, cut into parts of eight bytes of it at every offset. */
export function needlesOf(name: string, secret: Uint8Array): Needle[] {
  const bytes = Buffer.from(secret);
  const windows = (form: string, whole: Buffer, length: number, step = 1): Needle[] =>
    Array.from({ length: Math.max(0, Math.floor((whole.length - length) / step) + 1) }, (_, n) => ({
      form: `${name} ${form}`,
      bytes: whole.subarray(n * step, n * step + length),
    }));
  const texts: [string, string][] = [
    ...[0, 1, 2].flatMap((skip): [string, string][] =>
      (['base64', 'base64url'] as const).map((kind) => [
        kind,
        // Whole groups of three only: what is at the ends depends on what stands beside it.
        bytes.subarray(skip, skip + 3 * Math.floor((bytes.length - skip) / 3)).toString(kind),
      ]),
    ),
    ['hex', bytes.toString('hex')],
    ['hex', bytes.toString('hex').toUpperCase()],
  ];
  return [
    ...windows('as it is', bytes, part),
    ...texts.flatMap(([kind, text]) => [
      ...windows(`in ${kind}`, Buffer.from(text), 2 * part),
      ...windows(`in ${kind}, UTF-16`, Buffer.from(text, 'utf16le'), 4 * part, 2),
    ]),
    ...[16, 32]
      .filter((length) => length <= bytes.length)
      .flatMap((length) =>
        scheduleOf(bytes.subarray(0, length)).flatMap((schedule) =>
          windows(`as an AES-${length * 8} schedule`, schedule.subarray(length), part, 4),
        ),
      ),
  ];
}

/** The expanded key, in the byte order of the standard and in that of a little-endian machine's words. */
function scheduleOf(key: Buffer): Buffer[] {
  const words = key.length / 4;
  const rounds = words + 6;
  const schedule = Buffer.alloc(16 * (rounds + 1));
  key.copy(schedule);
  for (let n = words, constant = 1; n < schedule.length / 4; n += 1) {
    const word = [...schedule.subarray(4 * (n - 1), 4 * n)];
    if (n % words === 0) {
      word.push(word.shift() ?? 0);
      for (let at = 0; at < 4; at += 1) word[at] = substitute[word[at] ?? 0] ?? 0;
      word[0] = (word[0] ?? 0) ^ constant;
      constant = double(constant);
    } else if (words > 6 && n % words === 4) {
      for (let at = 0; at < 4; at += 1) word[at] = substitute[word[at] ?? 0] ?? 0;
    }
    for (let at = 0; at < 4; at += 1)
      schedule[4 * n + at] = (schedule[4 * (n - words) + at] ?? 0) ^ (word[at] ?? 0);
  }
  return [schedule, Buffer.from(schedule).swap32()];
}

const double = (value: number): number => ((value << 1) ^ (value & 0x80 ? 0x11b : 0)) & 0xff;

/** SubBytes (FIPS 197, 5.1.1): the inverse in GF(2^8) by a walk over its generator 3, then the affine map. */
const substitute = ((): Uint8Array => {
  const table = new Uint8Array(256);
  for (let p = 1, q = 1; ; ) {
    p ^= double(p);
    q ^= q << 1;
    q ^= q << 2;
    q = (q ^ (q << 4)) & 0xff;
    if (q & 0x80) q ^= 0x09;
    const turned = [1, 2, 3, 4].map((by) => ((q << by) | (q >> (8 - by))) & 0xff);
    table[p] = turned.reduce((sum, each) => sum ^ each, q) ^ 0x63;
    if (p === 1) break;
  }
  table[0] = 0x63;
  return table;
})();

interface Region {
  readonly from: bigint;
  readonly to: bigint;
}

/** How often each form occurs in what can be read of a process: everything but what files give to all who map them. */
export function memoryHits(pid: number, needles: readonly Needle[]): Map<string, number> {
  const search = new Search(needles);
  for (const bytes of memoryOf(pid)) search.look(bytes);
  return search.hits;
}

export function hitsIn(bytes: Buffer, needles: readonly Needle[]): Map<string, number> {
  const search = new Search(needles);
  search.look(bytes);
  return search.hits;
}

/** As `memoryHits`, in a file, such as a core, most of which is empty. */
export function hitsInFile(path: string, needles: readonly Needle[]): Map<string, number> {
  const search = new Search(needles);
  const fd = openSync(path, 'r');
  const buffer = Buffer.alloc(block);
  try {
    for (let at = 0; ; at += block - overlap) {
      const size = readSync(fd, buffer, 0, block, at);
      if (size === 0) return search.hits;
      if (!buffer.equals(empty)) search.look(buffer.subarray(0, size));
      if (size < block) return search.hits;
    }
  } finally {
    closeSync(fd);
  }
}

/** Many needles at once: three bytes of a place rule out nearly all of them. */
class Search {
  readonly hits = new Map<string, number>();
  readonly #first = new Uint8Array(1 << 21);
  readonly #needles = new Map<number, Needle[]>();

  constructor(needles: readonly Needle[]) {
    for (const needle of needles) {
      const [a = 0, b = 0, c = 0] = needle.bytes;
      const key = a | (b << 8) | (c << 16);
      this.#first[key >> 3] = (this.#first[key >> 3] ?? 0) | (1 << (key & 7));
      const same = this.#needles.get(key);
      if (same === undefined) this.#needles.set(key, [needle]);
      else same.push(needle);
    }
  }

  look(bytes: Buffer): void {
    let key = (bytes[0] ?? 0) << 8;
    key |= (bytes[1] ?? 0) << 16;
    for (let at = 2; at < bytes.length; at += 1) {
      key = (key >> 8) | ((bytes[at] ?? 0) << 16);
      if (((this.#first[key >> 3] ?? 0) & (1 << (key & 7))) === 0) continue;
      for (const { form, bytes: needle } of this.#needles.get(key) ?? []) {
        if (
          bytes.compare(needle, 0, needle.length, at - 2, Math.min(bytes.length, at - 2 + needle.length)) ===
          0
        )
          this.hits.set(form, (this.hits.get(form) ?? 0) + 1);
      }
    }
  }
}

/** Small, because most of what is mapped is empty, and a block that is can be left out. */
const block = 128 << 10;
const empty = Buffer.alloc(block);
/** Longer than any needle, so that none is cut in two. */
const overlap = 64;

function* memoryOf(pid: number): Iterable<Buffer> {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const buffer = Buffer.alloc(block);
  try {
    for (const { from, to } of regionsOf(pid)) {
      for (let at = from; at < to; ) {
        const wanted = Number(to - at < BigInt(block) ? to - at : BigInt(block));
        let size: number;
        try {
          size = readSync(memory, buffer, 0, wanted, at as unknown as number);
        } catch {
          break; // A guard page, or reserved and never touched.
        }
        if (size === 0) break;
        const read = buffer.subarray(0, size);
        if (!read.equals(empty.subarray(0, size))) yield read;
        at += BigInt(size);
        if (at < to && size > overlap) at -= BigInt(overlap);
      }
    }
  } finally {
    closeSync(memory);
  }
}

function regionsOf(pid: number): Region[] {
  return readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, from = '', to = '', writable = '', name = ''] =
        /^([0-9a-f]+)-([0-9a-f]+) r(.)\S+ \S+ \S+ \S+ *(.*)$/.exec(line) ?? [];
      if (from === '' || name.startsWith('[v') || (name.startsWith('/') && writable !== 'w')) return [];
      return [{ from: BigInt(`0x${from}`), to: BigInt(`0x${to}`) }];
    });
}

/** The secret arenas of a process: mappings that are locked, left out of core dumps, and wiped in children. */
export function arenasOf(pid: number): Buffer[] {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    return readFileSync(`/proc/${pid}/smaps`, 'utf8')
      .split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
      .filter((entry) => /^VmFlags:(?=.* lo\b)(?=.* dd\b)(?=.* wf\b)/m.test(entry))
      .map((entry) => {
        const [, from = '0', to = '0'] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(entry) ?? [];
        const start = BigInt(`0x${from}`);
        const bytes = Buffer.alloc(Number(BigInt(`0x${to}`) - start));
        readSync(memory, bytes, 0, bytes.length, start as unknown as number);
        return bytes;
      });
  } finally {
    closeSync(memory);
  }
}

/** What looks random in there, in parts of 16 bytes: keys, seeds, the state of a generator. */
export function randomPartsOf(bytes: Buffer): Buffer[] {
  return Array.from({ length: bytes.length / 16 }, (_, n) => bytes.subarray(n * 16, n * 16 + 16)).filter(
    (chunk) => new Set(chunk).size >= 12,
  );
}
