// OpenSSL's EVP functions out of the node binary itself, so that secrets go to them as addresses into the arena.
// node:crypto would copy key bytes into objects that live until the collector takes them; here every copy that OpenSSL
// makes is freed, and cleansed by OpenSSL as it frees it, before the call returns (each comment says which).
import koffi from 'koffi';
import type { SecretBuffer } from './arena.ts';
import { Failure } from './failure.ts';

/** Bytes in place: a view, or an address with its length known from elsewhere. Never copied on the way in. */
type Pointer = Uint8Array | bigint | null;

const library = koffi.load(null);
const x25519Nid = 1034;

const digestOnce: (
  data: Pointer,
  length: number,
  out: Pointer,
  outLength: null,
  digest: bigint,
  engine: null,
) => number = library.func('int EVP_Digest(const void *, size_t, uint8_t *, void *, const void *, void *)');
const fetchDigest: (context: null, name: string, properties: null) => bigint | null = library.func(
  'void *EVP_MD_fetch(void *, const char *, const char *)',
);
const hmacOnce: (
  digest: bigint,
  key: Pointer,
  keyLength: number,
  data: Pointer,
  length: number,
  out: Pointer,
  outLength: null,
) => bigint | null = library.func(
  'void *HMAC(const void *, const void *, int, const uint8_t *, size_t, uint8_t *, void *)',
);
const fetchMac: (context: null, name: string, properties: null) => bigint | null = library.func(
  'void *EVP_MAC_fetch(void *, const char *, const char *)',
);
const newMacContext: (mac: bigint) => bigint | null = library.func('void *EVP_MAC_CTX_new(void *)');
const freeMacContext: (context: bigint) => void = library.func('void EVP_MAC_CTX_free(void *)');
interface Parameter {
  readonly key: string | null;
  readonly data_type: number;
  readonly data: string | null;
  readonly data_size: number;
  readonly return_size: number;
}
koffi.struct('OSSL_PARAM', {
  key: 'const char *',
  data_type: 'unsigned int',
  data: 'const char *',
  data_size: 'size_t',
  return_size: 'size_t',
});
const macInit: (
  context: bigint,
  key: Pointer,
  keyLength: number,
  parameters: readonly Parameter[] | null,
) => number = library.func('int EVP_MAC_init(void *, const uint8_t *, size_t, const OSSL_PARAM *)');
const macUpdate: (context: bigint, data: Pointer, length: number) => number = library.func(
  'int EVP_MAC_update(void *, const uint8_t *, size_t)',
);
const macFinal: (context: bigint, out: Pointer, outLength: null, outSize: number) => number = library.func(
  'int EVP_MAC_final(void *, uint8_t *, void *, size_t)',
);
const fetchCipher: (context: null, name: string, properties: null) => bigint | null = library.func(
  'void *EVP_CIPHER_fetch(void *, const char *, const char *)',
);
const newCipherContext: () => bigint | null = library.func('void *EVP_CIPHER_CTX_new()');
const freeCipherContext: (context: bigint) => void = library.func('void EVP_CIPHER_CTX_free(void *)');
const resetCipherContext: (context: bigint) => number = library.func('int EVP_CIPHER_CTX_reset(void *)');
const encryptInit: (context: bigint, cipher: bigint, key: Pointer, iv: Pointer, parameters: null) => number =
  library.func(
    'int EVP_EncryptInit_ex2(void *, const void *, const uint8_t *, const uint8_t *, const void *)',
  );
const encryptUpdate: (
  context: bigint,
  out: Pointer,
  outLength: Int32Array,
  input: Pointer,
  length: number,
) => number = library.func('int EVP_EncryptUpdate(void *, uint8_t *, int *, const uint8_t *, int)');
const newRawPrivateKey: (type: number, engine: null, key: Pointer, length: number) => bigint | null =
  library.func('void *EVP_PKEY_new_raw_private_key(int, void *, const uint8_t *, size_t)');
const getRawPublicKey: (key: bigint, out: Uint8Array, length: BigUint64Array) => number = library.func(
  'int EVP_PKEY_get_raw_public_key(const void *, uint8_t *, size_t *)',
);
const freeKey: (key: bigint) => void = library.func('void EVP_PKEY_free(void *)');
const cleanseMemory: (data: Pointer, length: number) => void = library.func(
  'void OPENSSL_cleanse(void *, size_t)',
);

export const digestLength = { sha256: 32, sha512: 64 } as const;
export type DigestName = keyof typeof digestLength;

const digests: Record<DigestName, bigint> = {
  sha256: found(fetchDigest(null, 'SHA2-256', null), 'SHA-256'),
  sha512: found(fetchDigest(null, 'SHA2-512', null), 'SHA-512'),
};
const hmac = found(fetchMac(null, 'HMAC', null), 'HMAC');
const utf8String = 4;
/** OSSL_PARAM(3): one, and the one that ends them. */
const withSha256: readonly Parameter[] = [
  { key: 'digest', data_type: utf8String, data: 'SHA2-256', data_size: 8, return_size: 0 },
  { key: null, data_type: 0, data: null, data_size: 0, return_size: 0 },
];
const aes256ctr = found(fetchCipher(null, 'AES-256-CTR', null), 'AES-256-CTR');

/**
 * One-shot digest of `data` into `out` (32 or 64 bytes), both in place. OpenSSL's copy is the hash context (the last
 * block of the data), cleansed when `EVP_Digest` frees it.
 */
export function digestInto(name: DigestName, data: Uint8Array | SecretBuffer, out: Uint8Array): void {
  if (out.byteLength < digestLength[name]) throw new RangeError(`${name} needs ${digestLength[name]} bytes`);
  require1(digestOnce(pointer(data), data.byteLength, out, null, digests[name], null), 'EVP_Digest');
}

/**
 * One-shot HMAC (FIPS 198-1) of `data` under `key` into `out` (32 or 64 bytes). OpenSSL's copies are the padded key and
 * three hash contexts, cleansed when `HMAC` frees its context.
 */
export function hmacInto(
  name: DigestName,
  key: Uint8Array | SecretBuffer,
  data: Uint8Array | SecretBuffer,
  out: Uint8Array,
): void {
  if (out.byteLength < digestLength[name]) throw new RangeError(`${name} needs ${digestLength[name]} bytes`);
  const result = hmacOnce(
    digests[name],
    pointer(key),
    key.byteLength,
    pointer(data),
    data.byteLength,
    out,
    null,
  );
  found(result, 'HMAC');
}

/**
 * HMAC-SHA-256 (FIPS 198-1) of one text after the other under one key, in a third of the time of `hmacInto`. From the first on the key
 * is in OpenSSL, with two hash contexts that follow from it, until this is disposed of: all are cleansed as they are freed.
 */
export class HmacSeries implements Disposable {
  readonly #key: Uint8Array | SecretBuffer;
  #context: bigint | undefined;

  constructor(key: Uint8Array | SecretBuffer) {
    this.#key = key;
  }

  /** Of `data` into `out`, 32 bytes. */
  into(data: Uint8Array, out: Uint8Array): void {
    if (out.byteLength < digestLength.sha256)
      throw new RangeError(`HMAC-SHA-256 needs ${digestLength.sha256} bytes`);
    const context = this.#ready();
    require1(macUpdate(context, data, data.byteLength), 'EVP_MAC_update');
    require1(macFinal(context, out, null, out.byteLength), 'EVP_MAC_final');
  }

  [Symbol.dispose](): void {
    if (this.#context !== undefined) freeMacContext(this.#context);
    this.#context = undefined;
  }

  #ready(): bigint {
    if (this.#context !== undefined) {
      require1(macInit(this.#context, null, 0, null), 'EVP_MAC_init'); // Under the same key.
      return this.#context;
    }
    this.#context = found(newMacContext(hmac), 'EVP_MAC_CTX_new');
    require1(macInit(this.#context, pointer(this.#key), this.#key.byteLength, withSha256), 'EVP_MAC_init');
    return this.#context;
  }
}

/**
 * The public key (32 bytes) of an X25519 private key (32 bytes, RFC 7748; OpenSSL clamps a copy). OpenSSL's copies: the
 * key object's in its secure heap or heap, cleansed by `EVP_PKEY_free`; one on the stack, cleansed by the scalar
 * multiplication.
 */
export function x25519PublicKey(privateKey: SecretBuffer): Uint8Array {
  const { bytes } = privateKey;
  if (bytes.byteLength !== 32) throw new RangeError('an X25519 private key has 32 bytes');
  const key = found(newRawPrivateKey(x25519Nid, null, privateKey.address, 32), 'X25519');
  try {
    const publicKey = new Uint8Array(32);
    require1(getRawPublicKey(key, publicKey, new BigUint64Array([32n])), 'EVP_PKEY_get_raw_public_key');
    return publicKey;
  } finally {
    freeKey(key);
  }
}

/** Overwrites bytes with zeros in a way that no compiler removes. */
export function cleanse(bytes: Uint8Array): void {
  cleanseMemory(bytes, bytes.byteLength);
}

/**
 * An AES-256-CTR stream (SP 800-38A 6.5, 128-bit big-endian counter) whose key is in OpenSSL only between `begin` and
 * `reset`. The key schedule and counter are the copies; `reset` frees and cleanses them.
 */
export class CtrStream implements Disposable {
  #context: bigint | undefined = found(newCipherContext(), 'EVP_CIPHER_CTX_new');
  readonly #written = new Int32Array(1);

  /** `key`: 32 bytes, `counter`: 16 bytes, each an address into the arena or a view. */
  begin(key: bigint | Uint8Array, counter: bigint | Uint8Array): void {
    require1(encryptInit(this.#live(), aes256ctr, key, counter, null), 'EVP_EncryptInit_ex2');
  }

  /** Writes input XOR the next `length` bytes of the stream to `out`; the two may be the same memory. */
  apply(input: Uint8Array | bigint, out: Uint8Array | bigint, length: number): void {
    require1(encryptUpdate(this.#live(), out, this.#written, input, length), 'EVP_EncryptUpdate');
  }

  reset(): void {
    require1(resetCipherContext(this.#live()), 'EVP_CIPHER_CTX_reset');
  }

  [Symbol.dispose](): void {
    if (this.#context !== undefined) freeCipherContext(this.#context);
    this.#context = undefined;
  }

  #live(): bigint {
    if (this.#context === undefined) throw new Error('The cipher stream has been disposed of.');
    return this.#context;
  }
}

function pointer(data: Uint8Array | SecretBuffer): Uint8Array {
  return data instanceof Uint8Array ? data : data.bytes;
}

function found(result: bigint | null, what: string): bigint {
  if (result !== null && result !== 0n) return result;
  throw new Failure('openssl-failed', `OpenSSL ${process.versions.openssl} refused ${what}.`, {
    remedy: 'Run on an unmodified Node 24.',
  });
}

function require1(result: number, what: string): void {
  if (result !== 1) found(null, what);
}
