// What has happened already is written into the custody log; a log that cannot be written (a full disk) is told, and holds nothing up.
import type { CustodyRecord } from '../custody/chain.ts';
import type { CustodyLog } from '../custody/log.ts';
import { reasonOf } from '../host/failure.ts';
import type { Announcer } from './announce.ts';

/** Undefined where the record could not be written. What must not happen unrecorded is appended by `CustodyLog.append`, which throws. */
export function recordPast(
  { custody, announcer }: { readonly custody: CustodyLog; readonly announcer: Announcer },
  event: string,
  detail: object,
): CustodyRecord | undefined {
  try {
    return custody.append(event, detail);
  } catch (error) {
    const why = reasonOf(error);
    announcer.event('CUSTODY_UNWRITABLE', `The custody log lacks "${event}": ${why}`, { record: event, why });
    return undefined;
  }
}
