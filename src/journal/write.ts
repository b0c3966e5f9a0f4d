// Out to journald: the native protocol (systemd's JOURNAL_NATIVE_PROTOCOL), one datagram an entry.
import { Failure } from '../host/failure.ts';
import { close, errno, sendto, socket } from '../host/libc.ts';

const AF_UNIX = 1;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0o4000 | 0o2000000;
const MSG_DONTWAIT_NOSIGNAL = 0x40 | 0x4000;
const EMSGSIZE = 90;
const ENOBUFS = 105;
/** Below the kernel's default send buffer (212,992 bytes), its bookkeeping included. */
const largestSureDatagram = 160 << 10;
/** `sun_path`, without its terminating zero. */
const longestSocketPath = 107;
/** systemd.journal-fields(7): capitals, digits, underscores; those that begin with an underscore are journald's own. */
const fieldName = /^[A-Z][A-Z0-9_]{0,63}$/;
/** What systemd accepts as the name of a namespace, dots at its start excepted. */
const namespaceName = /^[A-Za-z0-9_][A-Za-z0-9:_.-]{0,127}$/;

export interface JournalWriterOptions {
  /** A journal namespace; the system's own journal where there is none. */
  readonly namespace?: string;
  /** Instead of the socket under /run/systemd. */
  readonly socketPath?: string;
}

/**
 * Writes structured entries to journald. It holds an unconnected socket, so that a journald that comes late or comes
 * again is simply found.
 * @throws Failure `journal-namespace-invalid`, from the constructor only.
 */
export class JournalWriter implements Disposable {
  readonly socketPath: string;
  readonly #address: Uint8Array | undefined;
  #fd: number;

  constructor(options: JournalWriterOptions = {}) {
    this.socketPath = options.socketPath ?? journalSocketPath(options.namespace);
    this.#address = unixAddress(this.socketPath);
    this.#fd = this.#address === undefined ? -1 : socket(AF_UNIX, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0);
  }

  /**
   * Sends one entry without waiting. Field names are those of systemd.journal-fields(7) (`MESSAGE`, `PRIORITY`,
   * `SYSLOG_IDENTIFIER`, …); a field with any other name is left out, as journald itself would. An entry that is too large for
   * a datagram goes out with its MESSAGE cut short.
   * @returns false where journald took nothing: absent, its queue full, no valid field, or too large even so. Never throws.
   */
  send(fields: Readonly<Record<string, string>>): boolean {
    if (this.#fd < 0) return false;
    const entry = encodeEntry(fields);
    if (entry.length === 0) return false;
    const result = this.#transmit(entry);
    if (result !== 'too large') return result === 'sent';
    const shorter = shortened(fields, largestSureDatagram);
    return shorter !== undefined && this.#transmit(encodeEntry(shorter)) === 'sent';
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) close(this.#fd);
    this.#fd = -1;
  }

  #transmit(entry: Uint8Array): 'sent' | 'too large' | 'refused' {
    if (this.#address === undefined) return 'refused';
    const sent = sendto(
      this.#fd,
      entry,
      entry.length,
      MSG_DONTWAIT_NOSIGNAL,
      this.#address,
      this.#address.length,
    );
    if (sent === entry.length) return 'sent';
    const code = errno();
    return code === EMSGSIZE || code === ENOBUFS ? 'too large' : 'refused';
  }
}

/** Where journald listens for native entries. @throws Failure `journal-namespace-invalid`. */
export function journalSocketPath(namespace?: string): string {
  if (namespace === undefined) return '/run/systemd/journal/socket';
  if (!namespaceName.test(namespace)) {
    throw new Failure('journal-namespace-invalid', `"${namespace}" cannot name a journal namespace.`, {
      remedy: 'Use letters, digits, hyphens and underscores.',
    });
  }
  return `/run/systemd/journal.${namespace}/socket`;
}

/**
 * The native wire form of one entry: `NAME=value\n`, or for a value with line breaks `NAME\n`, its length in bytes as
 * 64 bits little endian, the value, `\n`. Fields with invalid names are left out. The export format of journalctl is
 * the same, with an empty line after each entry.
 */
export function encodeEntry(fields: Readonly<Record<string, string>>): Uint8Array {
  const parts = Object.entries(fields)
    .filter(([name]) => fieldName.test(name))
    .map(([name, value]) => {
      if (!value.includes('\n')) return Buffer.from(`${name}=${value}\n`);
      const bytes = Buffer.from(value);
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(bytes.length));
      return Buffer.concat([Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n')]);
    });
  return Buffer.concat(parts);
}

/** The same entry with MESSAGE cut so that the whole fits; undefined where the other fields alone are too large. */
function shortened(
  fields: Readonly<Record<string, string>>,
  limit: number,
): Record<string, string> | undefined {
  const message = Buffer.from(fields.MESSAGE ?? '');
  const others = encodeEntry({ ...fields, MESSAGE: '\n' }).length;
  const mark = ` … (cut, ${message.length} bytes in all)`;
  const room = limit - others - Buffer.byteLength(mark);
  if (room < 0) return undefined;
  const kept = message.subarray(0, room).toString('utf8').replace(/�+$/, '');
  return { ...fields, MESSAGE: kept + mark };
}

/** `struct sockaddr_un`, or undefined for a path that does not fit. */
function unixAddress(path: string): Uint8Array | undefined {
  const bytes = Buffer.from(path);
  if (bytes.length > longestSocketPath) return undefined;
  return Buffer.concat([Uint8Array.of(AF_UNIX, 0), bytes, Uint8Array.of(0)]);
}
