// Bundles on the node that did not come where the configuration has them go: those from before an upload, or a Sigstore service,
// was configured, and those that were dead-lettered although they lie here.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { encryptedSuffix } from '../forensics/encryption.ts';
import { bundleGivenUp, bundleMade, sigstoreName } from '../forensics/format.ts';
import { type BundleJob, uploadOf } from './bundle-job.ts';
import type { Config } from './config.ts';
import { findCustody } from './custody.ts';
import { statedIn } from './handover.ts';
import { bundleDelivered } from './receipts.ts';
import type { StateLayout } from './state-layout.ts';
import { awaitsWitness } from './witnesses.ts';

/** A bundle that is on the node to stay. */
export interface HeldBundle {
  /** Of its job. */
  readonly key: string;
  readonly archive: string;
  readonly sigstore: string;
  /** By a receipt, in the custody log or on its way there. */
  readonly delivered: boolean;
  readonly awaitsWitness: boolean;
}

/**
 * Those that the custody log tells of, and that are not in the spool: what it does not tell of yet is being made just now.
 * @throws Failure `unprovisioned`.
 */
export function heldBundles(config: Config, layout: StateLayout): HeldBundle[] {
  // In this order nothing falls between two looks: a receipt goes on into the log, and a job is spooled before the log tells of it.
  const receipts = new Set(existsSync(layout.receipts) ? readdirSync(layout.receipts) : []);
  const told = Map.groupBy(
    findCustody(config, [bundleMade, bundleDelivered, bundleGivenUp]),
    ({ event }) => event,
  );
  const tells = (event: string): Set<unknown> =>
    new Set(told.get(event)?.map(({ detail }) => detail.sequence));
  const [made, delivered, givenUp] = [tells(bundleMade), tells(bundleDelivered), tells(bundleGivenUp)];
  const spooled = readdirSync(layout.spool);
  return readdirSync(layout.bundles).flatMap((name) => {
    const [, node, number] = /^(.+)-(\d{6,15})-\d{8}T\d{6}Z\.tar\.gz(?:\.age)?$/.exec(name) ?? [];
    const key = `${node}-bundle-${number}`;
    const sequence = Number(number);
    const archive = join(layout.bundles, name);
    const sigstore = sigstoreName(archive);
    if (!made.has(sequence) || givenUp.has(sequence) || !existsSync(sigstore)) return [];
    if (spooled.some((file) => file.endsWith(`-bundle-${key}.json`))) return [];
    return [
      {
        key,
        archive,
        sigstore,
        delivered: delivered.has(sequence) || receipts.has(`delivered-${key}.json`),
        awaitsWitness: awaitsWitness(config, layout, sigstore),
      },
    ];
  });
}

/**
 * What is to be done about it, given the job that it last had, if any; undefined where that is nothing. `elsewhere`, where a person
 * names that, is for every bundle: also for one that lies at another place, or was asked to be kept here.
 */
export function jobAgain(
  config: Config,
  bundle: HeldBundle,
  last: BundleJob | undefined,
  elsewhere?: string,
): BundleJob | undefined {
  const job = last ?? firstJob(bundle);
  if (elsewhere !== undefined) return { ...job, upload: elsewhere, configured: false };
  // In jobs of earlier versions, an empty one may have been configured or asked for.
  const open = { ...job, configured: job.configured ?? job.upload === '' };
  if (!bundle.delivered && uploadOf(config, open) !== '') return open;
  if (!bundle.awaitsWitness) return undefined;
  // What was delivered with its pending signature keeps that there: nothing is overwritten.
  return bundle.delivered ? { ...job, upload: '', configured: false } : open;
}

/** Of a bundle that was not handed to the courier: unsigned, and nothing was configured. */
function firstJob({ archive, sigstore }: HeldBundle): BundleJob {
  const sha256 = archive.endsWith(encryptedSuffix) ? undefined : statedIn(sigstore)?.sha256;
  return {
    archive,
    sigstore,
    ...(sha256 === undefined ? {} : { sha256 }),
    upload: '',
    configured: true,
    proofOfPossession: null,
  };
}
