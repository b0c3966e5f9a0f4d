// What a node tells of what its interlock has seen and not answered with a zeroize: carriers, planned flaps, interfaces that appear.
import type { CustodyLog } from '../custody/log.ts';
import type { InterlockEvent } from '../interlock/interlock.ts';
import type { WindowClosed } from '../interlock/window.ts';
import type { Announcer } from './announce.ts';
import { recordPast } from './record.ts';

type Told = Exclude<InterlockEvent, WindowClosed>;
interface Hearers {
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
}

export function tellEvent(event: Told, hearers: Hearers): void {
  const { announcer } = hearers;
  if (event.kind === 'late') {
    const { thread, milliseconds, limitMilliseconds: limit } = event;
    announcer.event(
      'HEARTBEAT_LATE',
      `The ${thread} thread was silent for ${milliseconds} ms; after ${limit} ms it counts as lost, and the node is zeroized. Where the machine is that busy, raise interlock.heartbeat_milliseconds.`,
      { thread, milliseconds, limit },
    );
    return;
  }
  const { interface: name } = event;
  if (event.kind === 'planned-flap') {
    const { flaps } = event;
    recordPast(hearers, 'planned-flap', { interface: name, flaps });
    announcer.event('LINK_FLAP_PLANNED', `Planned flap on ${name}: nothing was wiped.`, {
      interface: name,
      flaps,
    });
  } else if (event.kind === 'carrier') {
    const [what, how] = event.up ? (['CARRIER_UP', 'up'] as const) : (['CARRIER_DOWN', 'down'] as const);
    announcer.event(what, `Carrier on ${name} is ${how}.`, { interface: name });
  } else {
    const watched = event.link !== undefined;
    recordPast(hearers, 'interface-appeared', { interface: name, watched });
    announcer.event(
      watched ? 'INTERFACE_APPEARED' : 'INTERFACE_UNWATCHED',
      watched
        ? `${name} has appeared and is watched from now on.`
        : `${name} has appeared and is NOT watched: there is no room for more interfaces.`,
      { interface: name },
    );
  }
}
