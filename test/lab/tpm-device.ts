// A software TPM behind a character device, to be opened as the kernel's /dev/tpm0 is: swtpm holds one end of a pseudoterminal in raw
// mode, the other end has a path. Unlike the kernel's, it has no exclusive owner and no resource manager.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdirSync, openSync } from 'node:fs';
import { resolve } from 'node:path';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const openMaster: (flags: number) => number = libc.func('int posix_openpt(int)');
const unlockSlave: (fd: number) => number = libc.func('int unlockpt(int)');
const slaveName: (fd: number, name: Uint8Array, length: number) => number = libc.func(
  'int ptsname_r(int, char *, size_t)',
);
const getSettings: (fd: number, settings: Uint8Array) => number = libc.func('int tcgetattr(int, void *)');
const makeRaw: (settings: Uint8Array) => void = libc.func('void cfmakeraw(void *)');
const setSettings: (fd: number, when: number, settings: Uint8Array) => number = libc.func(
  'int tcsetattr(int, int, const void *)',
);
/** More than struct termios. */
const settingsLength = 128;

export interface TpmDevice extends AsyncDisposable {
  /** `device:/dev/pts/N` */
  readonly tcti: string;
  readonly pid: number;
}

/** A TPM with its state in `directory`, behind a device of its own. */
export async function startTpmDevice(directory: string): Promise<TpmDevice> {
  const state = resolve(directory);
  mkdirSync(state, { recursive: true });
  const master = openMaster(constants.O_RDWR | constants.O_NOCTTY);
  const name = new Uint8Array(64);
  if (master < 0 || unlockSlave(master) !== 0 || slaveName(master, name, name.length) !== 0) {
    throw new Error('There is no pseudoterminal to be had.');
  }
  const path = Buffer.from(name.subarray(0, name.indexOf(0))).toString();
  // Open until the end: a master whose slave nobody has open reads as broken.
  const slave = openSync(path, constants.O_RDWR | constants.O_NOCTTY);
  const settings = new Uint8Array(settingsLength);
  getSettings(slave, settings);
  makeRaw(settings);
  setSettings(slave, 0, settings);
  const child: ChildProcess = spawn(
    'setpriv',
    [
      ...['--pdeathsig', 'KILL', 'swtpm', 'chardev', '--tpm2', '--fd', '3'],
      ...['--tpmstate', `dir=${state}`, '--flags', 'not-need-init,startup-clear'],
    ],
    { stdio: ['ignore', 'ignore', 'inherit', master] },
  );
  closeSync(master);
  await once(child, 'spawn');
  return {
    tcti: `device:${path}`,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit');
        child.kill('SIGKILL');
        await ended;
      }
      closeSync(slave);
    },
  };
}
