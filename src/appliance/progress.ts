// What an interrupted provisioning was about to make and has made: a step's plan (which handle, which index) is on the medium
// before the TPM is touched, its result before the next step starts. So whatever a kill left in the TPM is known for ours.
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { readIfPresent, syncDirectory, writeDurably } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';

interface Step {
  readonly plan: unknown;
  readonly result?: unknown;
}

/** What `make` answers when its plan no longer holds: somebody else took the place meanwhile. */
export const overtaken = Symbol('overtaken');
const mostPlans = 3;

export class Progress {
  readonly #path: string;
  #steps: Record<string, Step>;

  constructor(path: string) {
    this.#path = path;
    this.#steps = JSON.parse(readIfPresent(path) ?? '{}') as Record<string, Step>;
  }

  /** Both must survive JSON. `resumed` is true where a killed run had this plan: what stands there is of its making. */
  async step<P, T>(
    name: string,
    plan: () => Promise<P>,
    make: (plan: P, resumed: boolean) => Promise<T | typeof overtaken>,
  ): Promise<T> {
    for (let tries = 0; tries < mostPlans; tries += 1) {
      const known = this.#steps[name];
      if (known !== undefined && 'result' in known) return known.result as T;
      const planned = known === undefined ? await plan() : (known.plan as P);
      if (known === undefined) this.#note(name, { plan: planned });
      const result = await make(planned, known !== undefined);
      if (result !== overtaken) {
        this.#note(name, { plan: planned, result });
        return result;
      }
      delete this.#steps[name];
    }
    throw new Failure(
      'tpm-handles-taken',
      `Each place in the TPM that step ${name} chose was taken meanwhile.`,
      {
        kept: 'What others defined was left alone.',
        remedy: 'Repeat the command once nobody else makes objects in this TPM.',
      },
    );
  }

  /** What was planned, by step, made or not. */
  plans(): [step: string, plan: unknown][] {
    return Object.entries(this.#steps).map(([step, { plan }]) => [step, plan]);
  }

  /** What a step was planned to be; undefined where it was not. */
  plan(step: string): unknown {
    return this.#steps[step]?.plan;
  }

  /** What this step made, or all of them, is recorded elsewhere. */
  finish(step?: string): void {
    if (step !== undefined) delete this.#steps[step];
    if (step !== undefined && Object.keys(this.#steps).length > 0) {
      this.#write();
      return;
    }
    this.#steps = {};
    rmSync(this.#path, { force: true });
    syncDirectory(dirname(this.#path));
  }

  #note(name: string, step: Step): void {
    this.#steps[name] = step;
    this.#write();
  }

  #write(): void {
    writeDurably(this.#path, `${JSON.stringify(this.#steps)}\n`);
  }
}
