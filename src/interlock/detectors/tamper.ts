// Tamper contacts as the configuration names them, opened as descriptors for the watcher: a GPIO line (gpio:/dev/gpiochip0:17:rising)
// or a FIFO (fifo:/run/lid), into which whoever watches a housing writes a byte. A contact latches, so there is no debounce.
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { Failure, reasonOf } from '../../host/failure.ts';
import { type Edge, openLine } from '../../host/gpio.ts';
import { contactPattern } from './contact-pattern.ts';

/** Descriptors, in the order of the names; closed when disposed of. @throws Failure `tamper-unusable`, `gpio-unavailable`. */
export function openContacts(names: readonly string[]): Disposable & { readonly descriptors: number[] } {
  const descriptors: number[] = [];
  const release = (): void => {
    for (const fd of descriptors.splice(0)) closeSync(fd);
  };
  try {
    for (const name of names) descriptors.push(open(name));
  } catch (error) {
    release();
    throw error;
  }
  return { descriptors, [Symbol.dispose]: release };
}

function open(name: string): number {
  const [, fifo, chip, line, edge] = contactPattern.exec(name) ?? [];
  if (chip !== undefined) return openLine(chip, Number(line), (edge ?? 'both') as Edge);
  if (fifo === undefined) throw unusable(name, 'it is neither fifo:PATH nor gpio:CHIP:LINE');
  let fd: number;
  try {
    // For both, so that it has no end that could be closed: readable is what somebody has written.
    fd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    throw unusable(name, reasonOf(error));
  }
  const stat = fstatSync(fd);
  const problem = !stat.isFIFO()
    ? 'it is no FIFO'
    : (stat.mode & 0o022) !== 0
      ? 'others than its owner may write to it'
      : undefined;
  if (problem === undefined) return fd;
  closeSync(fd);
  throw unusable(name, problem);
}

function unusable(name: string, why: string): Failure {
  return new Failure('tamper-unusable', `The tamper contact ${name} cannot be watched: ${why}.`, {
    kept: 'No key has been unsealed.',
    remedy: 'Make it (`mkfifo -m 600 PATH`), or correct interlock.tamper.',
  });
}
