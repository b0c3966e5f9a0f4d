// `verify` of a directory or of a bucket: each bundle by itself, then those of a node against each other.
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { proven, strengthened, type Verdict, type VerifyReport, verdictOf } from '../forensics/claims.ts';
import { parseUploadUrl } from '../forensics/deliver.ts';
import { type NodeSeries, Series } from '../forensics/series.ts';
import { exitStatus, Failure } from '../host/failure.ts';
import { type BundleSource, bucketSource, directorySource, type NotRead } from './bundle-sources.ts';
import {
  type RelyingParty,
  relyingParty,
  requireFile,
  type Verification,
  type VerifyOptions,
  verifyFiles,
  verifyOne,
} from './verify.ts';

export interface BundleReport extends VerifyReport {
  /** Its name, below the directory or prefix. */
  readonly archive: string;
  readonly accepted: boolean;
}

/** The JSON document of `verify --json` about many bundles. */
export interface ManyReport {
  readonly verdict: Verdict;
  readonly bundles: readonly BundleReport[];
  /** What the bundles of each node say of each other; those that were altered are left out of it. */
  readonly nodes: readonly NodeSeries[];
  /** What lies there and was not looked at: links, which could lead anywhere, and what is no file. */
  readonly notRead: readonly NotRead[];
  /** Why it is rejected although no claim failed. */
  readonly reasons: readonly string[];
}

export type Verified =
  | (Verification & { readonly many: false })
  | { readonly many: true; readonly report: ManyReport; readonly accepted: boolean };

export interface Watching {
  readonly signal: AbortSignal;
  readonly onProgress: (step: string) => void;
}

/**
 * A file, a directory with many, or `s3://` for either.
 * @throws Failure as `verifyFiles`; `upload-url-invalid`, `bundles-missing`, `bundles-too-many` (2); `download-…` (1).
 */
export async function verifyAt(options: VerifyOptions, watching: Watching): Promise<Verified> {
  const { archive } = options;
  if (archive.startsWith('s3://')) return await verifyBucket(options, watching);
  if (statSync(archive, { throwIfNoEntry: false })?.isDirectory() !== true) {
    return { many: false, ...(await verifyFiles(options)) };
  }
  refuseOneStatement(options);
  using source = directorySource(archive);
  using party = relyingParty(options);
  return { many: true, ...(await verifyAll(source, party, watching)) };
}

async function verifyBucket(options: VerifyOptions, watching: Watching): Promise<Verified> {
  const target = parseUploadUrl(options.archive);
  if (target.kind !== 's3') throw new Error('s3:// has its own kind');
  if (options.sigstore !== undefined) requireFile('The signed statement', options.sigstore);
  using party = relyingParty(options);
  using source = await bucketSource({ target, signal: watching.signal }, party.policy.limits.archiveBytes);
  const [only, ...others] = source.archives;
  if (only !== undefined && others.length === 0 && basename(target.prefix) === basename(only)) {
    watching.onProgress(`fetching ${only}`);
    using bundle = await source.open(only);
    return { many: false, ...(await verifyOne(party, bundle.archive, options.sigstore ?? bundle.sigstore)) };
  }
  refuseOneStatement(options);
  return { many: true, ...(await verifyAll(source, party, watching)) };
}

/** Each by itself, in the order of their names; then together. */
async function verifyAll(
  source: BundleSource,
  party: RelyingParty,
  { signal, onProgress }: Watching,
): Promise<{ readonly report: ManyReport; readonly accepted: boolean }> {
  const reports = new Map<string, VerifyReport>();
  const series = new Map<string, Series>();
  const leftOut: string[] = [];
  for (const [at, name] of source.archives.entries()) {
    signal.throwIfAborted();
    onProgress(`${at + 1} of ${source.archives.length}: ${name}`);
    using bundle = await source.open(name);
    const { report, facts } = await party.appraise(bundle.archive, bundle.sigstore);
    reports.set(name, report);
    if (facts === null) {
      leftOut.push(name);
      continue;
    }
    const of = series.get(facts.node) ?? new Series();
    of.add(name, facts);
    series.set(facts.node, of);
  }
  const { knownHead } = party;
  const headed = knownHead === undefined ? undefined : headedOf([...series.values()]);
  for (const name of leftOut) {
    const [, node = '', number] = /^(.*)-(\d{6,15})-\d{8}T\d{6}Z\./.exec(basename(name)) ?? [];
    series.get(node)?.leaveOut({ name, sequence: Number(number) });
  }
  const headOf = (one: Series) => (one === headed ? knownHead : undefined);
  for (const one of series.values()) proveHistory(one, reports, headOf(one));
  const nodes = [...series.values()].map((one) => one.conclude(party.appraisers, headOf(one)));
  const bundles = source.archives.flatMap((archive) => {
    const report = reports.get(archive);
    return report === undefined ? [] : [{ archive, accepted: party.accepts(report), ...report }];
  });
  return conclude(bundles, nodes, source, party);
}

/** The node that a known head is of: the only one, or the only one whose bundles are proven to be its own. */
function headedOf(series: readonly Series[]): Series | undefined {
  if (series.length < 2) return series[0];
  const bound = series.filter((one) => one.bound);
  if (bound.length === 1) return bound[0];
  throw new Failure('usage', `--known-head is of one node, and these are bundles of ${series.length}.`, {
    remedy: 'Verify the bundles of that node by themselves.',
    status: exitStatus.usage,
  });
}

/** What no bundle can prove alone: that its log still holds what was seen in an earlier one. */
function proveHistory(
  series: Series,
  reports: Map<string, VerifyReport>,
  knownHead: RelyingParty['knownHead'],
): void {
  for (const [name, { sequence, where }] of series.seenEarlier(knownHead)) {
    const report = reports.get(name);
    const appraisal = proven(`The custody log still holds record ${sequence}, which was seen ${where}.`);
    if (report !== undefined) reports.set(name, strengthened(report, 'custody rollback', appraisal));
  }
}

function conclude(
  bundles: readonly BundleReport[],
  nodes: readonly NodeSeries[],
  { strays, notRead }: BundleSource,
  party: RelyingParty,
): { readonly report: ManyReport; readonly accepted: boolean } {
  const reasons = strays.map((name) => `${name} lies there without its archive.`);
  const verdicts = [
    ...bundles.map(({ verdict }) => verdict),
    ...nodes.map(({ claims }) => verdictOf(claims)),
    ...reasons.map(() => 'rejected' as const),
    ...notRead.flatMap(({ bundle }) => (bundle ? ['incomplete' as const] : [])),
  ];
  const verdict =
    (['rejected', 'incomplete'] as const).find((each) => verdicts.includes(each)) ?? ('proven' as const);
  const accepted =
    reasons.length === 0 &&
    notRead.every(({ bundle }) => !bundle) &&
    bundles.every((bundle) => bundle.accepted) &&
    nodes.every(({ claims }) => party.accepts({ verdict: verdictOf(claims), claims }));
  return { report: { verdict, bundles, nodes, notRead, reasons }, accepted };
}

function refuseOneStatement({ sigstore }: VerifyOptions): void {
  if (sigstore === undefined) return;
  throw new Failure('usage', '--sigstore-bundle is of one archive, and these are many.', {
    remedy: 'Leave it out: each .sigstore.json is looked for beside its archive.',
    status: exitStatus.usage,
  });
}
