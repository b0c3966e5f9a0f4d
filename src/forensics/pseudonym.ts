// Pseudonyms: what stands in a bundle for what must not leave the node, `‹ip:1a2b3c4d›`. The digits are the first of an HMAC-SHA-256
// (FIPS 198-1) under the key of the case. Text is handled as Latin-1, one character a byte.
import { createHmac } from 'node:crypto';

export const caseKeyBytes = 32;

/** Names a case key without telling it; stands in the manifest. */
export const caseKeyId = (key: Uint8Array): string =>
  createHmac('sha256', key).update('esoteric-appliance/case-key/1').digest('hex');

/** Kinds whose originals are the same in capitals. */
const foldsCase: ReadonlySet<string> = new Set(['host', 'ip', 'mac']);

/** The HMAC of an original (Latin-1 text), in hex. */
export const originalHmac = (key: Uint8Array, kind: string, original: string): string =>
  createHmac('sha256', key)
    .update(`${kind}\0${sameInCase(kind, original)}`, 'latin1')
    .digest('hex');

/** Remembers what comes again and again, which addresses and names do; keys and credentials never are. */
export class OriginalHmacs {
  readonly #key: Uint8Array;
  readonly #known = new Map<string, string>();

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  of(kind: string, original: string): string {
    if (!foldsCase.has(kind)) return originalHmac(this.#key, kind, original);
    const name = `${kind}\0${sameInCase(kind, original)}`;
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    if (this.#known.size >= mostKnown) this.#known.clear();
    const hmac = originalHmac(this.#key, kind, original);
    this.#known.set(name, hmac);
    return hmac;
  }
}

const mostKnown = 10_000;

/** Letters of ASCII only: the bytes of a name in UTF-8 are no letters of Latin-1. */
const sameInCase = (kind: string, original: string): string =>
  foldsCase.has(kind) ? original.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : original;

/** In the UTF-8 bytes of `‹kind:1a2b3c4d›`, as Latin-1 text. */
export const pseudonym = (kind: string, hmac: string): string =>
  `\xe2\x80\xb9${kind}:${hmac.slice(0, 8)}\xe2\x80\xba`;

/** Of a pseudonym in Latin-1 text: groups are the kind and the digits. */
export const pseudonymPattern = '\\xe2\\x80\\xb9([a-z]{1,12}):([0-9a-f]{8})\\xe2\\x80\\xba';

/** One character a byte, so that whatever is not replaced passes unchanged. */
export const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
