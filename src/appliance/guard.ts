// What guards a running node beside the cable: tamper contacts, observed causes, commands from afar. Told and struck here.
import { randomUUID } from 'node:crypto';
import type { CustodyLog } from '../custody/log.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import type { Cause, ZeroizeLevel } from '../interlock/causes.ts';
import { consequenceOf, type InterlockPolicy } from '../interlock/policy.ts';
import type { Announcer } from './announce.ts';
import type { BundleMade, BundleRequest } from './evidence.ts';
import { type Decided, Lookout } from './lookout.ts';
import { type ProbedNode, probesOf } from './probes.ts';
import { recordPast } from './record.ts';
import { RemoteCommands } from './remote-commands.ts';
import type { StateLayout } from './state-layout.ts';
import { wordsOf } from './told-cause.ts';

export interface GuardedNode extends ProbedNode {
  readonly layout: StateLayout;
  readonly policy: InterlockPolicy;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
  readonly strike: (cause: Cause, level?: ZeroizeLevel) => void;
  readonly collect: (request: BundleRequest) => Promise<BundleMade>;
}

export class NodeGuard implements Disposable {
  readonly #node: GuardedNode;
  readonly #lookout: Lookout;
  readonly #commands: RemoteCommands;
  readonly #probes: ReturnType<typeof probesOf>;

  /** @throws Failure `command-key-unusable`. */
  constructor(node: GuardedNode) {
    const { config, layout, record, announcer } = node;
    this.#node = node;
    this.#commands = new RemoteCommands({
      config,
      layout,
      node: record.node,
      onRefused: (why, from) => {
        recordPast(node, 'command-refused', { why, from });
        announcer.event('COMMAND_REFUSED', `A command from afar (${from}) was refused: ${why}.`, {
          why,
          from,
        });
      },
      onUnkept: (number, why) =>
        announcer.event('COMMAND_UNKEPT', `The number ${number} of a command is not on disk: ${why}`, {
          number,
          why,
        }),
      onAccepted: ({ number, level, reason }) => {
        node.strike('remote-command', level); // Has begun when this returns: wipe first, write later.
        recordPast(node, 'command-accepted', { number, level, reason });
        announcer.event('COMMAND_ACCEPTED', `Command ${number} from afar is obeyed.`, { number, level });
      },
    });
    this.#probes = probesOf(node, (name, message, details) => announcer.event(name, message, details));
    const commands = {
      name: 'commands',
      everyMilliseconds: config.interlock.look_milliseconds,
      look: () => {
        this.#commands.sweep();
        return {};
      },
    };
    this.#lookout = new Lookout({
      probes: [...this.#probes.probes, commands],
      rule: (cause) => this.#consequence(cause).rule,
      strike: (cause) => node.strike(cause),
      tell: (cause, value) => this.#tell(cause, value),
      trouble: (probe, error) => {
        const why = reasonOf(error);
        announcer.event('LOOK_FAILED', `The look at ${probe} fails: ${why}`, { probe, why });
      },
    });
  }

  get decided(): readonly Decided[] {
    return this.#lookout.decided;
  }

  /** A signed command that came through the control socket. @throws Failure `command-refused`. */
  obey(text: string): unknown {
    return this.#commands.obey(text, 'the control socket');
  }

  /** What a plug-in foresees, with a confidence from 0 to 1. */
  predict(source: string, confidence: number): { verdict: string } {
    if (!(confidence >= 0 && confidence <= 1)) {
      throw new Failure('usage', 'A confidence is a number from 0 to 1.', { status: exitStatus.usage });
    }
    const verdict = this.#lookout.observe('prediction', confidence);
    // Also where it is only told: the log is what says whose it was.
    if (verdict !== 'nothing') recordPast(this.#node, 'predicted', { source, confidence });
    return { verdict };
  }

  [Symbol.dispose](): void {
    this.#lookout[Symbol.dispose]();
    this.#probes[Symbol.dispose]();
  }

  #consequence(cause: Cause): ReturnType<typeof consequenceOf> {
    const { policy, record, config } = this.#node;
    return consequenceOf(policy, cause, record.role, config.interlock.level);
  }

  /** A cause that the policy does not have struck: told, and with a bundle if it says so. */
  #tell(cause: Cause, value: number): void {
    const { record, announcer, collect } = this.#node;
    const { severity, bundle } = this.#consequence(cause);
    const { seen, look } = wordsOf(cause, value);
    recordPast(this.#node, 'cause-told', { cause, value });
    announcer.event('CAUSE_OBSERVED', `${cause} was observed: ${seen}.`, { cause, value });
    const alert = {
      key: `${record.node}-${cause}-${randomUUID().slice(0, 8)}`,
      severity,
      title: `${record.node}: ${cause}`,
      body: `${cause} was observed: ${seen}. The policy says to tell it, so nothing was wiped.\n${look}`,
      facts: { cause, value: `${value}` },
    };
    announcer.alert(alert, bundle ? 'with its own bundle' : 'without a bundle');
    if (!bundle) return;
    const request = { reason: `observed: ${cause}`, trigger: 'observed', severity } as const;
    void collect(request).catch((error: unknown) =>
      announcer.event('BUNDLE_FAILED', `No bundle was made of ${cause}: ${reasonOf(error)}`, {
        why: reasonOf(error),
      }),
    );
  }
}
