// Where events go beside journald: a file of JSON lines for a SIEM, and standard output in a container, which has no journald. A sink
// that fails is told to nobody but the others: an event must never hold back what it tells of.
import { closeSync, constants, existsSync, openSync, writeSync } from 'node:fs';
import type { EventName, EventSeverity } from './events.ts';

/** One event as a line of JSON has it; the field names are stable. */
export interface EventLine {
  /** RFC 3339, UTC. */
  readonly time: string;
  readonly node: string;
  readonly event: EventName;
  readonly severity: EventSeverity;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export type EventSink = (line: EventLine) => void;

const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW;

/** Opened for each line, so that whoever rotates the file need tell nobody. */
export function fileSink(path: string): EventSink {
  return (line) => {
    try {
      const fd = openSync(path, flags | constants.O_NONBLOCK, 0o640);
      try {
        writeSync(fd, `${JSON.stringify(line)}\n`);
      } finally {
        closeSync(fd);
      }
    } catch {}
  };
}

export const outputSink =
  (output: NodeJS.WritableStream): EventSink =>
  (line) => {
    output.write(`${JSON.stringify(line)}\n`);
  };

/**
 * Whether this process is what a container without a journald was started for: its first process, or a child of that. (Podman,
 * Docker, systemd-nspawn and Kubernetes leave marks.) A command that somebody runs in there speaks for itself.
 */
export function isContainersOwn(
  root = '/',
  environment: NodeJS.ProcessEnv = process.env,
  ids: readonly number[] = [process.pid, process.ppid],
): boolean {
  if (!ids.includes(1)) return false;
  const marks = ['.dockerenv', 'run/.containerenv', 'run/systemd/container'];
  const container =
    environment.container !== undefined ||
    environment.KUBERNETES_SERVICE_HOST !== undefined ||
    marks.some((mark) => existsSync(`${root}${mark}`));
  return container && !existsSync(`${root}run/systemd/journal/socket`);
}
