// The last step of a bundle: it is handed to the courier and told in the custody log, in this order, so that one whose node died
// before is found: it lies there, signed, and the log does not tell of it.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Severity, severities } from '../alerts/alert.ts';
import { dropJob } from '../alerts/spool.ts';
import { parseStatement } from '../attestation/statement.ts';
import type { CustodyLog } from '../custody/log.ts';
import { encryptedSuffix } from '../forensics/encryption.ts';
import { bundleBegun, bundleGivenUp, bundleMade, sigstoreName } from '../forensics/format.ts';
import type { BundleJob } from './bundle-job.ts';
import type { Signed } from './bundle-signing.ts';
import type { Config } from './config.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

export interface Finished {
  readonly archive: string;
  readonly sigstore: string;
  readonly sequence: number;
  /** Of the archive before it was encrypted. */
  readonly sha256: string;
  /** Of the archive as it lies there, where that is known. */
  readonly fileSha256: string | undefined;
  readonly signed: Signed['by'];
  readonly challenge: Signed['challenge'];
  readonly severity: Severity;
  readonly recipients: number;
  /** Empty: it stays here. */
  readonly upload: string;
  /** That is what the configuration says, not the request. */
  readonly configured: boolean;
}

interface Owner {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
  readonly custody: CustodyLog;
}

/** @throws Failure `spool-unwritable`, `custody-unwritable`; then `handOverLeftBehind` does it later. */
export function handOver({ layout, record, custody }: Owner, bundle: Finished): void {
  const { archive, sigstore, sequence, sha256, fileSha256, signed, severity, recipients } = bundle;
  const { upload, configured, challenge } = bundle;
  // One that was asked to be kept here has a job that says so: `upload retry --all` reads it.
  if (upload !== '' || signed === 'tpm' || !configured) {
    const job: BundleJob = {
      archive,
      sigstore,
      ...(fileSha256 === undefined ? {} : { sha256: fileSha256 }),
      upload,
      configured,
      proofOfPossession: challenge,
    };
    const key = `${record.node}-bundle-${String(sequence).padStart(6, '0')}`;
    dropJob(layout.spool, { kind: 'bundle', key, payload: { ...job } });
  }
  const encrypted = recipients === 0 ? {} : { recipients };
  custody.append(bundleMade, { sequence, sha256, signed, severity, ...encrypted });
}

/**
 * Hands over what was signed and never told of, because its node was killed or the disk was full. Of such a bundle the request is
 * lost, but for its severity, which was told when it was begun: it goes where all go, and without a Fulcio identity. Only where no
 * bundle is being made.
 */
export async function handOverLeftBehind(owner: Owner): Promise<void> {
  const { layout, config, custody } = owner;
  const found = readdirSync(layout.bundles).flatMap((name) => {
    const sequence = Number(/-(\d{6,})-\d{8}T\d{6}Z\.tar\.gz(?:\.age)?$/.exec(name)?.[1] ?? Number.NaN);
    const archive = join(layout.bundles, name);
    return Number.isNaN(sequence) || !existsSync(sigstoreName(archive)) ? [] : [{ sequence, archive }];
  });
  if (found.length === 0) return;
  const bundles = found.map(({ sequence }) => sequence);
  const records = await custody.recall({ events: [bundleBegun, bundleMade, bundleGivenUp], bundles });
  const told = new Set(
    records.filter(({ event }) => event !== bundleBegun).map(({ detail }) => detail.sequence),
  );
  const severityOf = (sequence: number): Severity => {
    const begun = records.findLast(
      ({ event, detail }) => event === bundleBegun && detail.sequence === sequence,
    );
    return severities.find((name) => name === begun?.detail.severity) ?? 'notice';
  };
  for (const { sequence, archive } of found.filter((one) => !told.has(one.sequence))) {
    const sigstore = sigstoreName(archive);
    const statement = statedIn(sigstore);
    if (statement === undefined) continue;
    const isEncrypted = archive.endsWith(encryptedSuffix);
    handOver(owner, {
      archive,
      sigstore,
      sequence,
      ...statement,
      fileSha256: isEncrypted ? undefined : statement.sha256,
      challenge: null,
      upload: config.forensics.upload,
      configured: true,
      severity: severityOf(sequence),
      recipients: isEncrypted ? config.forensics.recipients.length : 0,
    });
  }
}

/** What a signature file says of its archive; undefined for what was cut off as it was written. */
export function statedIn(path: string): Pick<Finished, 'sha256' | 'signed'> | undefined {
  try {
    const { dsseEnvelope: envelope } = JSON.parse(readFileSync(path, 'utf8')) as {
      dsseEnvelope: { payload: string; signatures: unknown[] };
    };
    const [{ digest }] = parseStatement(Buffer.from(envelope.payload, 'base64')).subject;
    return { sha256: digest.sha256, signed: envelope.signatures.length > 0 ? 'tpm' : 'nobody' };
  } catch {
    return undefined;
  }
}
