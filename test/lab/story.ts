// The demo's voice: a short story on a terminal, plain text in a pipe, silence with --json.
import type { DemoReport } from '../../src/appliance/checkout.ts';
import { paint, table } from '../../src/cli/output.ts';
import type { VerifyReport } from '../../src/forensics/claims.ts';
import { Failure } from '../../src/host/failure.ts';

export class Story {
  readonly #quiet: boolean;
  readonly #began = performance.now();
  readonly #interrupted: Promise<never>;

  /** `signal` ends the story at the step it has come to, so that everything is cleaned up behind it. */
  constructor(quiet: boolean, signal: AbortSignal) {
    this.#quiet = quiet;
    const { promise, reject } = Promise.withResolvers<never>();
    signal.addEventListener('abort', () => reject(new Failure('interrupted', 'The demo was interrupted.')));
    promise.catch(() => {});
    this.#interrupted = promise;
  }

  title(text: string): void {
    this.#say(paint('bold', text));
  }

  standIns(parts: readonly string[]): void {
    this.#say(paint('yellow', 'Stand-ins on this machine; what hangs on them comes out as not proven:'));
    for (const part of parts) this.#say(paint('yellow', `  - ${part}`));
  }

  bypass(text: string): void {
    this.#say(paint(['yellow', 'bold'], `BYPASS ${text}`));
  }

  chapter(text: string): void {
    this.#say('');
    this.#say(paint(['bold', 'cyan'], text));
  }

  /** Tells a step when it is done, and how long it took. */
  async step<T>(text: string, work: () => Promise<T>): Promise<T> {
    const began = performance.now();
    try {
      const result = await Promise.race([work(), this.#interrupted]);
      this.#say(
        `  ${paint('green', 'ok')}  ${text} ${paint('dim', `(${Math.round(performance.now() - began)} ms)`)}`,
      );
      return result;
    } catch (error) {
      this.#say(`  ${paint(['red', 'bold'], 'no')}  ${text}`);
      throw error;
    }
  }

  detail(text: string): void {
    this.#say(`      ${text}`);
  }

  timeline(events: DemoReport['timeline']): void {
    const last = Math.max(...events.map(({ atMicros }) => atMicros));
    const width = 30;
    const rows = events.map(({ atMicros, node, event }) => [
      `      ${String(Math.round(atMicros)).padStart(8)} us`,
      `${'·'.repeat(Math.round((atMicros / last) * width))}${paint('red', '●')}`.padEnd(width + 1),
      node,
      event === 'memory wiped' ? paint(['red', 'bold'], event) : event,
    ]);
    for (const line of table(rows)) this.#say(line);
  }

  claims(report: VerifyReport): void {
    const marks = {
      proven: paint('green', 'proven'),
      failed: paint(['red', 'bold'], 'FAILED'),
      'not-proven': paint('yellow', 'not proven'),
    };
    const rows = report.claims.map(({ claim, result, detail }) => [
      `      ${claim}`,
      marks[result],
      result === 'proven' ? '' : detail,
    ]);
    for (const line of table(rows)) this.#say(line);
    this.#say(`      verdict: ${paint('bold', report.verdict)}`);
  }

  evidence(directory: string, commands: readonly string[]): void {
    const seconds = ((performance.now() - this.#began) / 1000).toFixed(1);
    this.#say('');
    this.#say(
      `${paint('bold', 'Done')} in ${seconds} s. The evidence lies in ${paint('bold', directory)}. Look at it yourself:`,
    );
    for (const command of commands) this.#say(`  $ ${command}`);
  }

  #say(line: string): void {
    if (!this.#quiet) process.stdout.write(`${line}\n`);
  }
}
