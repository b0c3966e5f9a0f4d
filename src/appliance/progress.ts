// What an interrupted provisioning has made already: each step's result, on the medium before the next step starts.
import { readIfPresent, writeDurably } from '../host/durable.ts';

export class Progress {
  readonly #path: string;
  readonly #done: Record<string, unknown>;

  constructor(path: string) {
    this.#path = path;
    this.#done = JSON.parse(readIfPresent(path) ?? '{}') as Record<string, unknown>;
  }

  async step<T>(name: string, make: () => Promise<T>): Promise<T> {
    if (!(name in this.#done)) {
      this.#done[name] = await make();
      writeDurably(this.#path, `${JSON.stringify(this.#done)}\n`);
    }
    return this.#done[name] as T;
  }
}
