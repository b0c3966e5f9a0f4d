// The C library through koffi: the few calls that Node does not offer. Numbers are those of Linux on x86-64 and arm64.
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

/** The negative result of a call, turned into its errno (a positive number). */
export const errno = (): number => koffi.errno();

export const errnoName = (code: number): string =>
  Object.entries(koffi.os.errno).find(([, value]) => value === code)?.[0] ?? `errno ${code}`;

// Addresses are passed as `uintptr_t` (BigInt): a secret travels as a pointer into the arena, never by value.
export const mmap: (
  address: bigint | number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => bigint | number = libc.func('uintptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)');
export const munmap: (address: bigint, length: number) => number = libc.func('int munmap(uintptr_t, size_t)');
export const mlock: (address: bigint, length: number) => number = libc.func('int mlock(uintptr_t, size_t)');
export const munlock: (address: bigint, length: number) => number = libc.func(
  'int munlock(uintptr_t, size_t)',
);
export const madvise: (address: bigint, length: number, advice: number) => number = libc.func(
  'int madvise(uintptr_t, size_t, int)',
);
export const prctl: (option: number, argument: number, a3: number, a4: number, a5: number) => number =
  libc.func('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)');

export const socket: (domain: number, type: number, protocol: number) => number =
  libc.func('int socket(int, int, int)');
export const bind: (fd: number, address: Uint8Array, length: number) => number = libc.func(
  'int bind(int, const uint8_t *, uint32_t)',
);
export const setsockopt: (
  fd: number,
  level: number,
  option: number,
  value: Uint8Array,
  length: number,
) => number = libc.func('int setsockopt(int, int, int, const uint8_t *, uint32_t)');
export const send: (fd: number, data: Uint8Array, length: number, flags: number) => number = libc.func(
  'int64_t send(int, const uint8_t *, size_t, int)',
);
export const sendto: (
  fd: number,
  data: Uint8Array,
  length: number,
  flags: number,
  address: Uint8Array,
  addressLength: number,
) => number = libc.func('int64_t sendto(int, const uint8_t *, size_t, int, const uint8_t *, uint32_t)');
export const recv: (fd: number, data: Uint8Array, length: number, flags: number) => number = libc.func(
  'int64_t recv(int, uint8_t *, size_t, int)',
);
/** `fds` is an array of `struct pollfd` (8 bytes each: int fd, short events, short revents). */
export const poll: (fds: Uint8Array, count: number, timeoutMilliseconds: number) => number = libc.func(
  'int poll(uint8_t *, unsigned long, int)',
);
export const ioctl: (fd: number, request: number, argument: Uint8Array) => number = libc.func(
  'int ioctl(int, unsigned long, uint8_t *)',
);
/** Fills `time` with seconds and nanoseconds. */
export const clockGettime: (clock: number, time: BigInt64Array) => number = libc.func(
  'int clock_gettime(int, int64_t *)',
);
/** As `poll`, with a `struct timespec` (16 bytes) and the signals to be blocked meanwhile. */
export const ppoll: (fds: Uint8Array, count: number, timeout: Uint8Array, signals: null) => number =
  libc.func('int ppoll(uint8_t *, unsigned long, const uint8_t *, const void *)');
export const eventfd: (initial: number, flags: number) => number = libc.func(
  'int eventfd(unsigned int, int)',
);
export const read: (fd: number, data: Uint8Array, length: number) => number = libc.func(
  'int64_t read(int, uint8_t *, size_t)',
);
export const write: (fd: number, data: Uint8Array, length: number) => number = libc.func(
  'int64_t write(int, const uint8_t *, size_t)',
);
/** Fills `fds` with the read end and the write end. */
export const pipe2: (fds: Int32Array, flags: number) => number = libc.func('int pipe2(int *, int)');
/** `flock(2)`: held until the descriptor is closed, also by kill -9. */
export const fcntl: (fd: number, command: number, argument: number) => number =
  libc.func('int fcntl(int, int, int)');
export const flock: (fd: number, operation: number) => number = libc.func('int flock(int, int)');
export const close: (fd: number) => number = libc.func('int close(int)');
export const syscall: (number: number, a1: number, a2: number, a3: number, a4: number) => number = libc.func(
  'long syscall(long, long, long, long, long)',
);
/** `parameter` is a `struct sched_param`: the priority. `pid` 0 is the calling thread. */
export const schedSetScheduler: (pid: number, policy: number, parameter: Int32Array) => number = libc.func(
  'int sched_setscheduler(int, int, const int *)',
);

/** `struct rlimit`: two 64-bit words, soft and hard. */
export const setrlimit: (resource: number, limits: BigUint64Array) => number = libc.func(
  'int setrlimit(int, const uint64_t *)',
);

/** mallopt(3). */
export const mallopt: (parameter: number, value: number) => number = libc.func('int mallopt(int, int)');

/** The address of a variable's value; 0 where there is none. */
export const getenv: (name: string) => bigint | number = libc.func('uintptr_t getenv(const char *)');
export const strlen: (address: bigint) => bigint | number = libc.func('size_t strlen(uintptr_t)');

/** A view of native memory. The memory must outlive every use of the view. */
export function viewMemory(address: bigint, byteLength: number): Uint8Array {
  return new Uint8Array(koffi.view(address, byteLength));
}
