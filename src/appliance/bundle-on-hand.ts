// A bundle in the hands of an examiner: verified, then taken apart into a directory, which goes with it unless it was named.
import {
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { extractArchive } from '../forensics/extract.ts';
import {
  custodyPath,
  decodeManifest,
  journalPath,
  type Manifest,
  manifestPath,
} from '../forensics/format.ts';
import {
  filteredTimeline,
  type TimelineEntry,
  type TimelineFilter,
  timeline,
} from '../forensics/timeline.ts';
import { readVerifyPolicy } from '../forensics/verify-policy.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { importJournal } from '../journal/import.ts';
import { oneFromBucket } from './bundle-sources.ts';
import { policyPath } from './policies.ts';
import { archiveOf, type Verification, type VerifyOptions, verifyFiles } from './verify.ts';

export interface OpenOptions extends VerifyOptions {
  /** A new or empty directory for what is in the bundle; a temporary one unless told. */
  readonly directory?: string | undefined;
  /** Hears of a temporary directory before anything is in it. */
  readonly onTemporary?: (directory: string) => void;
}

export class BundleOnHand implements Disposable {
  readonly verification: Verification;
  readonly manifest: Manifest;
  readonly directory: string;
  readonly #temporary: boolean;

  private constructor(verification: Verification, directory: string, temporary: boolean) {
    this.verification = verification;
    this.directory = directory;
    this.#temporary = temporary;
    this.manifest = decodeManifest(readFileSync(join(directory, manifestPath)));
  }

  /**
   * Verifies first; what comes of it is told, and only an archive that is not the stated one, or none, is not opened.
   * The archive may be `s3://BUCKET/KEY`: fetched, and removed again once it is taken apart.
   * @throws Failure as `verifyFiles` and `oneFromBucket`; `archive-encrypted`, `bundle-rejected`, status 3; `directory-in-use`, status 2.
   */
  static async open(options: OpenOptions): Promise<BundleOnHand> {
    if (!options.archive.startsWith('s3://')) return await BundleOnHand.#openFiles(options);
    const { limits } = readVerifyPolicy(options.policy ?? policyPath('verify.toml'));
    using fetched = await oneFromBucket(options.archive, limits.archiveBytes, options.onTemporary);
    return await BundleOnHand.#openFiles({ ...options, archive: fetched.archive });
  }

  static async #openFiles(options: OpenOptions): Promise<BundleOnHand> {
    const verification = await verifyFiles(options);
    const archive = archiveOf(options.archive, options.ageIdentity);
    if (archive === null) {
      throw new Failure('archive-encrypted', `${options.archive} is encrypted.`, {
        remedy: 'Give the identity of one of its recipients with --age-identity.',
        status: exitStatus.rejected,
      });
    }
    const integrity = verification.report.claims.find(({ claim }) => claim === 'archive integrity');
    if (integrity?.result === 'failed') {
      throw new Failure('bundle-rejected', `${options.archive} is not opened: ${integrity.detail}`, {
        remedy: 'Fetch both files again from where they were uploaded. If it stays so, they were altered.',
        status: exitStatus.rejected,
      });
    }
    const { limits } = readVerifyPolicy(options.policy ?? policyPath('verify.toml'));
    const temporary = options.directory === undefined;
    const directory = temporary
      ? mkdtempSync(join(tmpdir(), 'esoteric-bundle-'))
      : emptied(options.directory);
    if (temporary) options.onTemporary?.(directory);
    try {
      await extractArchive(archive(), limits, directory);
      return new BundleOnHand(verification, directory, temporary);
    } catch (error) {
      // A directory that was named was empty, or not there.
      if (temporary) rmSync(directory, { recursive: true, force: true });
      else for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true });
      throw error;
    }
  }

  path(member: string): string {
    return join(this.directory, member);
  }

  /** Custody log and journal, by time. */
  timeline(filter?: TimelineFilter): AsyncIterable<TimelineEntry> {
    const custody = this.path(custodyPath);
    const records = existsSync(custody) ? readFileSync(custody) : new Uint8Array();
    return filteredTimeline(timeline(records, this.#journal()), filter);
  }

  /** The journal as a file that journalctl reads; made once. @throws Failure as `importJournal`; `journal-absent`. */
  async rebuiltJournal(): Promise<string> {
    const source = this.path(journalPath);
    const rebuilt = this.path('journal/entries.journal');
    if (!this.manifest.files.some(({ path, size }) => path === journalPath && size > 0)) {
      throw new Failure('journal-absent', 'The bundle has no entries of the journal in export format.', {
        remedy: 'Look at the manifest (without --journal): it says what became of the collector.',
      });
    }
    if (!existsSync(rebuilt)) await importJournal(source, rebuilt);
    return rebuilt;
  }

  [Symbol.dispose](): void {
    if (this.#temporary) rmSync(this.directory, { recursive: true, force: true });
  }

  #journal(): AsyncIterable<Uint8Array> {
    const path = this.path(journalPath);
    return existsSync(path) ? createReadStream(path, { highWaterMark: 1 << 20 }) : nothing();
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

function emptied(path = '.'): string {
  const directory = resolve(path);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (readdirSync(directory).length === 0) return directory;
  throw new Failure('directory-in-use', `${directory} is not empty.`, {
    kept: 'Nothing was written there.',
    remedy: 'Name a directory that does not exist yet.',
    status: exitStatus.usage,
  });
}
