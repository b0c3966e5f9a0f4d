// What lies where, in the node's state directory and beside it, and whose it is.
import { chmodSync, chownSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { User } from '../host/privileges.ts';

export const defaultConfigPath = '/etc/esoteric-appliance/config.toml';
export const defaultStateDirectory = '/var/lib/esoteric-appliance';

export interface StateLayout {
  readonly directory: string;
  readonly node: string;
  readonly custody: string;
  readonly enrolment: string;
  /** What was begun in the TPM and is not in the record yet. */
  readonly provisioning: string;
  /** Approvals by the policy signer, and the node's question to it. */
  readonly approvals: string;
  readonly approvalRequest: string;
  /** Private keys that stand in for the policy signer and the recovery key. */
  readonly development: string;
  /** Held while a process works on the state. */
  readonly lock: string;
  readonly control: string;
  /** Jobs from the node to the courier, and what the courier makes of them. */
  readonly spool: string;
  readonly outbox: string;
  /** Held by the courier while it runs. */
  readonly courierLock: string;
  readonly bundles: string;
  /** Until when no maintenance window may be opened. */
  readonly forbidden: string;
  /** The number of the last signed command that was accepted. */
  readonly commandNumber: string;
  /** What the last run leaves to the next for its first seed. */
  readonly seed: string;
  /** Of the last zeroize, until the node is armed again. */
  readonly zeroizeCertificate: string;
  /** Of zeroizes before that, one a line. */
  readonly pastCertificates: string;
  /** When the timer last asked for a bundle. */
  readonly collectedByTimer: string;
  /** The courier's: signature files with what the Sigstore services added, under the names that they have in `bundles`. */
  readonly countersigned: string;
  /** The sign-in at the issuer of identity tokens, for the courier alone. */
  readonly identity: string;
  /** What the courier knows of uploads that are under way. */
  readonly uploads: string;
  /** The courier's, for the node to read: what became of deliveries. Not within `courier`, so that nobody else can exchange it. */
  readonly receipts: string;
}

export function stateLayout(directory: string): StateLayout {
  const at = (name: string): string => join(directory, name);
  return {
    directory,
    node: at('node.json'),
    custody: at('custody.jsonl'),
    enrolment: at('enrolment.json'),
    provisioning: at('provisioning.json'),
    approvals: at('approvals'),
    approvalRequest: at('approval-request.json'),
    development: at('development'),
    lock: at('lock'),
    control: at('control.sock'),
    spool: at('spool'),
    outbox: join(directory, 'courier', 'outbox.sqlite'),
    courierLock: join(directory, 'courier', 'lock'),
    bundles: at('bundles'),
    forbidden: at('maintenance-forbidden.json'),
    commandNumber: at('command-number'),
    seed: at('seed'),
    zeroizeCertificate: at('zeroize-certificate.json'),
    pastCertificates: at('zeroize-certificates.jsonl'),
    collectedByTimer: at('collected-by-timer'),
    countersigned: join(directory, 'courier', 'countersigned'),
    identity: join(directory, 'courier', 'identity.json'),
    uploads: join(directory, 'courier', 'uploads'),
    receipts: at('receipts'),
  };
}

/**
 * Creates the directories. `courier` is the user that the courier runs as: the spool, the outbox and what it countersigns are
 * that user's; the bundles are for its group to read and for nobody but the node to write. Everything else is its owner's
 * alone. The node writes nothing into a directory of the courier's but the spool, takes what it has read from the receipts, and
 * follows no link there.
 */
export function makeStateDirectories(layout: StateLayout, courier: User | undefined): void {
  const make = (path: string, mode: number, owner?: { uid: number; gid: number }): void => {
    mkdirSync(path, { recursive: true, mode });
    chmodSync(path, mode);
    if (owner !== undefined && process.geteuid?.() === 0) chownSync(path, owner.uid, owner.gid);
  };
  make(layout.directory, courier === undefined ? 0o700 : 0o711);
  make(join(layout.directory, 'keys'), 0o700);
  make(layout.spool, 0o700, courier);
  make(join(layout.directory, 'courier'), 0o700, courier);
  make(layout.countersigned, 0o700, courier);
  make(layout.uploads, 0o700, courier);
  makeReceipts(layout, () => courier);
  make(layout.bundles, courier === undefined ? 0o700 : 0o750, courier && { uid: 0, gid: courier.gid });
}

/** The directory of receipts, which nodes that were provisioned earlier do not have. */
export function makeReceipts(layout: StateLayout, courier: () => User | undefined): void {
  if (mkdirSync(layout.receipts, { recursive: true, mode: 0o700 }) === undefined) return;
  const owner = process.geteuid?.() === 0 ? courier() : undefined;
  if (owner !== undefined) chownSync(layout.receipts, owner.uid, owner.gid);
}
