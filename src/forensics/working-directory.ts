// Where the members of one bundle lie while it is made. Of a bundle that will be encrypted nothing stays in clear, however its making
// ends: what a kill left is removed at the next start.
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const secretPrefix = '.encrypting-';

export class WorkingDirectory implements Disposable {
  readonly path: string;
  readonly #secret: boolean;

  /** `secret`: it goes with this object, else what was collected is kept where the bundle fails. */
  constructor(parent: string, sequence: number, secret: boolean) {
    this.#secret = secret;
    this.path = join(parent, `${secret ? secretPrefix : '.collecting-'}${sequence}`);
    this.remove();
    mkdirSync(this.path, { mode: 0o700 });
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  [Symbol.dispose](): void {
    if (this.#secret) this.remove();
  }
}

/** Removes what was left by a kill while a bundle was made to be encrypted. Only where none is being made. */
export function removeAbandoned(parent: string): void {
  for (const name of readdirSync(parent)) {
    if (name.startsWith(secretPrefix) || /\.age\.\d+\.new$/.test(name))
      rmSync(join(parent, name), { recursive: true, force: true });
  }
}
