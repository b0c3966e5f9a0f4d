// Pseudonyms: what stands in a bundle for what must not leave the node, `‹ip:1a2b3c4d›`. The digits are the first of an HMAC-SHA-256
// (FIPS 198-1) under the key of the case. Text is handled as Latin-1, one character a byte.
import { createHmac, type Hmac } from 'node:crypto';
import { HmacSeries, hmacInto } from '../host/openssl.ts';

export const caseKeyBytes = 32;

/** Names a case key without telling it; stands in the manifest. */
export const caseKeyId = (key: Uint8Array): string =>
  createHmac('sha256', key).update('esoteric-appliance/case-key/1').digest('hex');

/** Kinds whose originals are the same in capitals; of ASCII only, for the bytes of a name in UTF-8 are no letters of Latin-1. */
const foldsCase: ReadonlySet<string> = new Set(['host', 'ip', 'mac']);

/** The HMACs of originals, in hex. What comes again and again, as addresses and names do, is remembered; keys and credentials never are. */
export class OriginalHmacs {
  readonly #key: Uint8Array;
  readonly #digest = Buffer.alloc(32);
  #series: HmacSeries | undefined;
  readonly #known = new Map<string, string>();
  /**
   * The beginnings of HMACs that were computed lately. Only what comes twice is remembered: what never comes again would drive out what
   * does, and be garbage that has grown old.
   */
  readonly #lately = new Int32Array(1 << 15);

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  /** Of an original in Latin-1 text. */
  of(kind: string, original: string): string {
    if (!foldsCase.has(kind)) return this.#compute(bytesOf(kind, original));
    const folded = /[A-Z]/.test(original)
      ? original.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
      : original;
    const known = this.#known.get(`${kind}\0${folded}`);
    if (known !== undefined) return known;
    const bytes = bytesOf(kind, folded);
    const hmac = this.#compute(bytes);
    if (this.#wasLately(this.#digest.readInt32LE())) {
      if (this.#known.size >= mostKnown) this.#known.clear();
      // A name that is made of a part of the text would keep the text in memory.
      this.#known.set(bytes.toString('latin1'), hmac);
    }
    return hmac;
  }

  /** Does work, at once, that asks for many: meanwhile the key is in OpenSSL. */
  during<T>(work: () => T): T {
    using series = new HmacSeries(this.#key);
    this.#series = series;
    try {
      return work();
    } finally {
      this.#series = undefined;
    }
  }

  #wasLately(beginning: number): boolean {
    const place = beginning & (this.#lately.length - 1);
    const was = this.#lately[place] === beginning;
    this.#lately[place] = beginning;
    return was;
  }

  /** For an original that comes in pieces: what is updated with all of them gives its HMAC. */
  begin(kind: string): Hmac {
    return createHmac('sha256', this.#key).update(`${kind}\0`, 'latin1');
  }

  /** Through OpenSSL at once: an object for each would take five times as long, and hold the key until it is collected. */
  #compute(bytes: Uint8Array): string {
    if (this.#series === undefined) hmacInto('sha256', this.#key, bytes, this.#digest);
    else this.#series.into(bytes, this.#digest);
    return this.#digest.toString('hex');
  }
}

const bytesOf = (kind: string, original: string): Buffer => Buffer.from(`${kind}\0${original}`, 'latin1');

const mostKnown = 10_000;

/** In the UTF-8 bytes of `‹kind:1a2b3c4d›`, as Latin-1 text. */
export const pseudonym = (kind: string, hmac: string): string =>
  `\xe2\x80\xb9${kind}:${hmac.slice(0, 8)}\xe2\x80\xba`;

/** Of a pseudonym in Latin-1 text: groups are the kind and the digits. */
export const pseudonymPattern = '\\xe2\\x80\\xb9([a-z]{1,12}):([0-9a-f]{8})\\xe2\\x80\\xba';

/** One character a byte, so that whatever is not replaced passes unchanged. */
export const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
