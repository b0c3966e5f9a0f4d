// tpm2-tss through koffi: the TCTI loader, the Enhanced System API and the marshalling library (TCG TSS 2.0 ESAPI).
// Loaded on first use, so that a node without a TPM needs none of it.
import koffi, { type KoffiFunc, type LibraryHandle } from 'koffi';
import { Failure, reasonOf } from '../host/failure.ts';
import { type Command, type CommandName, commandTable } from './commands.ts';
import { explainWith } from './responses.ts';

/** What a native function takes: numbers, addresses, strings, and memory by pointer. Never a secret by value. */
export type NativeArgument = number | bigint | string | null | Uint8Array | BigUint64Array | Uint32Array;
export type NativeFunction = (...args: NativeArgument[]) => number;

export interface Tss {
  readonly tctiInitialize: NativeFunction;
  readonly tctiFinalize: NativeFunction;
  readonly esysInitialize: NativeFunction;
  readonly esysFinalize: NativeFunction;
  readonly getSysContext: NativeFunction;
  readonly sysContextSize: NativeFunction;
  readonly closeObject: NativeFunction;
  readonly objectName: NativeFunction;
  readonly setSessionAttributes: NativeFunction;
  readonly sessionNonce: NativeFunction;
  command(name: CommandName): Command<NativeFunction>;
  /** `Tss2_MU_<type>_Marshal` or `_Unmarshal`. */
  marshaller(type: string, direction: 'Marshal' | 'Unmarshal'): NativeFunction;
  readonly memory: NativeMemory;
}

/** The C library's memory functions, on addresses. */
export interface NativeMemory {
  /** Zeroed. */
  readonly allocate: (byteLength: number) => bigint;
  readonly free: (address: bigint) => void;
  readonly usableSize: (address: bigint) => number;
  readonly cleanse: (address: bigint, byteLength: number) => void;
  /** Copies between addresses without a detour through JavaScript. */
  readonly move: (to: bigint, from: bigint, byteLength: number) => void;
  readonly read: (address: bigint, byteLength: number) => Uint8Array;
  readonly store: (address: bigint, bytes: Uint8Array, byteLength: number) => void;
  readonly find: (
    address: bigint,
    byteLength: number,
    needle: bigint | Uint8Array,
    needleLength: number,
  ) => bigint;
}

const packages = 'libtss2-esys-3.0.2-0 libtss2-mu0 libtss2-tctildr0 libtss2-tcti-device0 libtss2-tcti-swtpm0';
const defaultLibraries = {
  tctildr: 'libtss2-tctildr.so.0',
  esys: 'libtss2-esys.so.0',
  sys: 'libtss2-sys.so.1',
  mu: 'libtss2-mu.so.0',
};
export type TssLibraries = typeof defaultLibraries;

let loaded: Tss | undefined;

/**
 * The libraries, loaded once a thread.
 * @throws Failure `tss-missing` when one is not installed.
 */
export function loadTss(): Tss {
  if (loaded === undefined) {
    loaded = loadTssFrom(defaultLibraries);
    explainWith(explanations());
  }
  return loaded;
}

/** As `loadTss`, from other file names. */
export function loadTssFrom(libraries: TssLibraries): Tss {
  silence();
  const tctildr = open(libraries.tctildr);
  const esys = open(libraries.esys);
  const sys = open(libraries.sys);
  const mu = open(libraries.mu);
  const commands = new Map<CommandName, Command<NativeFunction>>();
  const marshallers = new Map<string, NativeFunction>();
  return {
    tctiInitialize: tctildr.func('Tss2_TctiLdr_Initialize', 'uint32_t', ['const char *', 'void *']),
    tctiFinalize: tctildr.func('Tss2_TctiLdr_Finalize', 'void', ['void *']),
    esysInitialize: esys.func('Esys_Initialize', 'uint32_t', ['void *', 'uintptr_t', 'void *']),
    esysFinalize: esys.func('Esys_Finalize', 'void', ['void *']),
    getSysContext: esys.func('Esys_GetSysContext', 'uint32_t', ['uintptr_t', 'void *']),
    sysContextSize: sys.func('Tss2_Sys_GetContextSize', 'size_t', ['size_t']),
    closeObject: esys.func('Esys_TR_Close', 'uint32_t', ['uintptr_t', 'void *']),
    objectName: esys.func('Esys_TR_GetName', 'uint32_t', ['uintptr_t', 'uint32_t', 'void *']),
    setSessionAttributes: esys.func('Esys_TRSess_SetAttributes', 'uint32_t', [
      'uintptr_t',
      'uint32_t',
      'uint8_t',
      'uint8_t',
    ]),
    sessionNonce: esys.func('Esys_TRSess_GetNonceTPM', 'uint32_t', ['uintptr_t', 'uint32_t', 'void *']),
    command: (name) => fromMap(commands, name, () => bindCommand(esys, name)),
    marshaller: (type, direction) =>
      fromMap(marshallers, type + direction, () =>
        mu.func(`Tss2_MU_${type}_${direction}`, 'uint32_t', [
          direction === 'Marshal' ? 'uintptr_t' : 'void *',
          direction === 'Marshal' ? 'void *' : 'size_t',
          direction === 'Marshal' ? 'size_t' : 'void *',
          'void *',
        ]),
      ),
    memory: loadMemory(),
  };
}

/** Error messages of tpm2-tss (tss2_rc.h), where they are installed; it says of most codes that it does not know. */
export function explanations(library = 'libtss2-rc.so.0'): (rc: number) => string | undefined {
  const rc = optional(library);
  if (rc === undefined) return () => undefined;
  const decode = rc.func('Tss2_RC_Decode', 'const char *', ['uint32_t']) as (code: number) => string;
  return (code) => {
    const words = decode(code);
    return /0x|\(null\)|unknown error/i.test(words) ? undefined : words;
  };
}

const tctiNames = [
  'device',
  'swtpm',
  'mssim',
  'pcap',
  'tabrmd',
  'cmd',
  'libtpms',
  'spi-helper',
  'i2c-helper',
];

/** Of those that tpm2-tss has, the ones whose modules are installed. */
export const installedTctis = (): string[] => tctiNames.filter(hasTcti);

/** By a short name (`swtpm`) or a file's, as the loader of tpm2-tss looks for it. */
export const hasTcti = (name: string): boolean =>
  [name, `libtss2-tcti-${name}.so.0`, `libtss2-tcti-${name}.so`].some((file) => optional(file) !== undefined);

function optional(library: string): LibraryHandle | undefined {
  try {
    return koffi.load(library);
  } catch {
    return undefined;
  }
}

const typeNames = { h: 'uint32_t', w: 'uint16_t', b: 'uint8_t', p: 'void *' } as const;

function bindCommand(esys: LibraryHandle, name: CommandName): Command<NativeFunction> {
  const [inputs, outputs] = commandTable[name];
  const inputTypes = [...inputs].map((letter) => typeNames[letter as keyof typeof typeNames]);
  const outputTypes = [...outputs].map(() => 'void *');
  return {
    name,
    outputs,
    submit: esys.func(`Esys_${name}_Async`, 'uint32_t', ['uintptr_t', ...inputTypes]),
    finish: esys.func(`Esys_${name}_Finish`, 'uint32_t', ['uintptr_t', ...outputTypes]),
  };
}

/** Runs a native function on a thread of the pool; what its pointers lead to must stay alive until then. */
export function inBackground(native: NativeFunction, args: NativeArgument[]): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  (native as KoffiFunc<NativeFunction>).async(...args, (error: Error | null, result: number) =>
    error === null || error === undefined ? resolve(result) : reject(error),
  );
  return promise;
}

function loadMemory(): NativeMemory {
  const libc = koffi.load('libc.so.6');
  const copyOut = libc.func('void *memcpy(void *, uintptr_t, size_t)');
  const allocate = libc.func('uintptr_t calloc(size_t, size_t)');
  const find = libc.func('uintptr_t memmem(uintptr_t, size_t, const void *, size_t)');
  return {
    allocate: (byteLength) => BigInt(allocate(1, byteLength)),
    free: libc.func('void free(uintptr_t)'),
    usableSize: libc.func('size_t malloc_usable_size(uintptr_t)'),
    cleanse: libc.func('void explicit_bzero(uintptr_t, size_t)'),
    move: libc.func('uintptr_t memmove(uintptr_t, uintptr_t, size_t)'),
    store: libc.func('uintptr_t memcpy(uintptr_t, const void *, size_t)'),
    read: (address, byteLength) => {
      const bytes = new Uint8Array(byteLength);
      if (byteLength > 0) copyOut(bytes, address, byteLength);
      return bytes;
    },
    find: (address, byteLength, needle, needleLength) =>
      BigInt(find(address, byteLength, needle, needleLength)),
  };
}

/** tpm2-tss writes its log to standard error unless told otherwise; its errors reach the operator as failures. */
function silence(): void {
  koffi.load('libc.so.6').func('int setenv(const char *, const char *, int)')('TSS2_LOG', 'all+none', 0);
}

function open(library: string): LibraryHandle {
  try {
    return koffi.load(library);
  } catch (cause) {
    throw new Failure('tss-missing', `The TPM software stack cannot be loaded: ${reasonOf(cause)}`, {
      remedy: `Install it (Debian: \`apt-get install ${packages}\`), or run without a TPM (--no-tpm).`,
      cause,
    });
  }
}

function fromMap<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const existing = map.get(key);
  if (existing !== undefined) return existing;
  const made = make();
  map.set(key, made);
  return made;
}
