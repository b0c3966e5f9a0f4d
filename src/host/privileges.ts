// Giving up root for good: groups, group, user, and no way back through a set-user-id program (prctl(2), PR_SET_NO_NEW_PRIVS).
import { readFileSync } from 'node:fs';
import { exitStatus, Failure } from './failure.ts';
import { prctl } from './libc.ts';

const PR_SET_NO_NEW_PRIVS = 38;

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
}

/** A user of this machine. @throws Failure `user-unknown`, usage. */
export function findUser(name: string): User {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((entry) => entry.startsWith(`${name}:`));
  const [, , uid, gid, , home = '/'] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined) {
    throw new Failure('user-unknown', `This machine has no user "${name}".`, {
      remedy: `Create it (\`useradd --system ${name}\`), or name another in courier.user.`,
      status: exitStatus.usage,
    });
  }
  return { name, uid: Number(uid), gid: Number(gid), home };
}

/** Becomes `user`, irrevocably, at home where that user is: what libraries look for in `~` is not root's. Modules must be loaded before: the program's files may be root's. */
export function becomeUser(user: User): void {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (process.geteuid?.() !== 0) return;
  process.setgroups?.([user.gid]);
  process.setgid?.(user.gid);
  process.setuid?.(user.uid);
  process.env.HOME = user.home;
}
