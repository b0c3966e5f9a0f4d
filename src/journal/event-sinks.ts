// Where events go beside journald: a file of JSON lines for a SIEM, and standard output in a container, which has no journald. A sink
// that fails never holds back what it tells of; that a file fails is said once, so that nobody takes silence for quiet.
import { closeSync, constants, existsSync, openSync, writeSync } from 'node:fs';
import { reasonOf } from '../host/failure.ts';
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

/**
 * Opened for each line, so that whoever rotates the file need tell nobody. `onTrouble` hears why a line was lost, of the first in a row,
 * and `undefined` when lines are taken again.
 */
export function fileSink(path: string, onTrouble: (why: string | undefined) => void): EventSink {
  let failing = false;
  return (line) => {
    const why = appended(path, `${JSON.stringify(line)}\n`);
    const changed = (why !== undefined) !== failing;
    failing = why !== undefined;
    if (changed) onTrouble(why); // Last: what hears it may come here again.
  };
}

/** Undefined where it was written, else why not. */
function appended(path: string, text: string): string | undefined {
  try {
    const fd = openSync(path, flags | constants.O_NONBLOCK, 0o640);
    try {
      writeSync(fd, text);
      return undefined;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    return reasonOf(error);
  }
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
