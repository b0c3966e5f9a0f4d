// The running program and what is attested of it: found beside it or where the configuration says, verified offline against the
// trusted root that countersigned evidence is held against. Told in the statement of each bundle, in `status` and by `doctor`.
import { hash } from 'node:crypto';
import { constants, readFileSync } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Attestation } from '../attestation/program-attestations.ts';
import {
  type AttestationKind,
  type AttestationOutcome,
  attestationKinds,
} from '../attestation/program-format.ts';
import type { ExpectedIdentity } from '../attestation/witnesses.ts';
import type { CustodyLog } from '../custody/log.ts';
import { Failure, reasonOf } from '../host/failure.ts';
import type { Announcer } from './announce.ts';
import type { Config } from './config.ts';
import type { NodeRecord } from './node-record.ts';
import { codeDirectory, packageRoot } from './policies.ts';
import { unlistedIn } from './program-dependencies.ts';
import { recordPast } from './record.ts';

/** The JSON contract of `program` in the statement of a bundle and in `status`. */
export interface ProgramAppraisal {
  readonly version: string;
  /** Of the package (.tgz) whose modules are those that run; null where that is not known. */
  readonly digest: { readonly sha256: string } | null;
  /** Files of the package beside the modules that are not here as they are in it. */
  readonly changed: readonly string[];
  readonly provenance: AttestationOutcome;
  readonly sbom: AttestationOutcome;
}

/** Where the program and its attestations are; another place in tests. */
export interface ProgramPlace {
  readonly root: string;
  readonly code: string;
}

const here: ProgramPlace = { root: packageRoot, code: codeDirectory };
const largestFile = 256 << 20;

/** Never throws: what goes wrong is the outcome. What was read is what lay on disk, so it is asked when the program starts. */
export async function appraiseProgram(config: Config, place: ProgramPlace = here): Promise<ProgramAppraisal> {
  const directory = attestationsOf(config, place);
  const version = versionOf(place);
  try {
    const names = await namesIn(directory, config.program.attestations !== '');
    const files = names.filter((name) => /\.(sigstore\.json|sigstore|jsonl)$/.test(name));
    if (files.length === 0) {
      const absent = { result: 'absent', detail: `nobody attests it in ${directory}` } as const;
      return { version, digest: null, changed: [], provenance: absent, sbom: absent };
    }
    const packages = names.filter((name) => name.endsWith('.tgz'));
    if (packages.length > 1) throw new Error(`${directory} holds more than one package (.tgz)`);
    const [tarball] = packages;
    const artifact = tarball === undefined ? null : await readLimited(join(directory, tarball));
    const attestations = (await Promise.all(files.map((name) => attestationsIn(directory, name)))).flat();
    return { version, ...(await appraised(config, place, attestations, artifact)) };
  } catch (error) {
    const failed = { result: 'failed', detail: reasonOf(error) } as const;
    return { version, digest: null, changed: [], provenance: failed, sbom: failed };
  }
}

async function appraised(
  config: Config,
  { root, code }: ProgramPlace,
  attestations: readonly Attestation[],
  artifact: Buffer | null,
): Promise<Omit<ProgramAppraisal, 'version'>> {
  // Both late: a program that nobody attests does not wait for them.
  const { appraiseAttestations } = await import('../attestation/program-attestations.ts');
  const { compareWithPackage } = await import('./program-package.ts');
  const trustedRoot = await trustedRootOf(config);
  const identity = expectedBuilder(config);
  const { provenance, sbom, listed } = appraiseAttestations(attestations, {
    artifact,
    trustedRoot,
    identity,
  });
  // What nobody whom we expect has signed is not unpacked.
  const verified = [provenance, sbom].some(({ result }) => result === 'verified');
  if (artifact === null || !verified) return { digest: null, changed: [], provenance, sbom };
  const { problem, changed } = await compareWithPackage(artifact, root, code).catch((error: unknown) => ({
    problem: reasonOf(error),
    changed: [],
  }));
  const held = (outcome: AttestationOutcome): AttestationOutcome => {
    if (outcome.result !== 'verified') return outcome;
    if (problem !== null)
      return { result: 'failed', detail: `it is about another program than runs here: ${problem}` };
    const standIns = config.sigstore.stand_ins;
    if (standIns.length === 0) return outcome;
    const note = `(against a trusted root of stand-ins: ${standIns.join(', ')})`;
    return { ...outcome, detail: `${outcome.detail} ${note}`, standIns: true };
  };
  const digest = problem === null ? { sha256: hash('sha256', artifact) } : null;
  return { digest, changed, provenance: held(provenance), sbom: compared(held(sbom), listed, root) };
}

/** What is installed beside the program is held against an SBOM that lists packages of npm, and told; it is part of no package. */
function compared(sbom: AttestationOutcome, listed: readonly string[], root: string): AttestationOutcome {
  const unlisted = sbom.result === 'verified' ? unlistedIn(listed, root) : null;
  if (unlisted === null) return sbom;
  const { installed, missing } = unlisted;
  const some = `${missing.slice(0, 3).join(', ')}${missing.length > 3 ? ', …' : ''}`;
  const told = missing.length === 0 ? 'it lists all' : `it does not list ${missing.length} of the`;
  const which = missing.length === 0 ? '' : `: ${some}`;
  return { ...sbom, detail: `${sbom.detail}; ${told} ${installed} packages that are installed${which}` };
}

/** In `program.required` and not verified, or against stand-ins alone. */
export const lacking = ({ program }: Config, appraisal: ProgramAppraisal): readonly AttestationKind[] =>
  program.required.filter((kind) => {
    const { result, standIns } = appraisal[kind];
    return result !== 'verified' || standIns === true;
  });

/** @throws Failure `program-unverified` where the configuration requires what is not verified. */
export function requireProgram(config: Config, appraisal: ProgramAppraisal): void {
  const [kind] = lacking(config, appraisal);
  if (kind === undefined) return;
  const { result, detail, standIns } = appraisal[kind];
  const found = standIns === true ? `${result} against stand-ins alone` : result;
  throw new Failure(
    'program-unverified',
    `This node starts only with a verified ${kindNames[kind]} of its program, which is ${found}: ${detail}.`,
    {
      kept: 'No key was unsealed.',
      remedy: `Install the program that was attested, or put the right files into ${attestationsOf(config, here)}; or take it out of program.required.`,
    },
  );
}

interface ProgramTeller {
  readonly record: NodeRecord;
  readonly custody: CustodyLog;
  readonly announcer: Announcer;
}

/** At the start of a node. @throws as `requireProgram`, when it is told. */
export async function admitProgram(
  node: ProgramTeller & { readonly config: Config },
): Promise<ProgramAppraisal> {
  const program = await appraiseProgram(node.config);
  tellProgram(node, program);
  requireProgram(node.config, program);
  return program;
}

/** What is attested of the program is recorded; what does not verify is an alert. Where nobody attests it, there is nothing to tell. */
function tellProgram(node: ProgramTeller, { digest, ...program }: ProgramAppraisal): void {
  const { announcer, record } = node;
  const found = attestationKinds.filter((kind) => program[kind].result !== 'absent');
  if (found.length === 0) return;
  const results = Object.fromEntries(found.map((kind) => [kind, program[kind].result]));
  recordPast(node, 'program-appraised', { version: program.version, digest, ...results });
  const failed = found.filter((kind) => program[kind].result === 'failed');
  for (const kind of failed) {
    const why = program[kind].detail;
    announcer.event('PROGRAM_UNVERIFIED', `The ${kindNames[kind]} of the program does not verify: ${why}.`, {
      what: kind,
      why,
    });
  }
  if (failed.length === 0) return;
  announcer.alert({
    key: `${record.node}-program-unverified-${program.version}`,
    severity: 'error',
    title: `${record.node}: the program is not shown to be what was built`,
    body: failed.map((kind) => `${kindNames[kind]}: ${program[kind].detail}.`).join('\n'),
    facts: { version: program.version },
  });
}

export const kindNames: Readonly<Record<AttestationKind, string>> = {
  provenance: 'provenance',
  sbom: 'SBOM',
};

const attestationsOf = ({ program }: Config, { root }: ProgramPlace): string =>
  program.attestations === '' ? join(root, 'attestations') : program.attestations;

/** A directory that the configuration names is there; the one beside the program need not be. */
async function namesIn(directory: string, configured: boolean): Promise<string[]> {
  try {
    return (await readdir(directory)).toSorted();
  } catch (error) {
    if (!configured && (error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** One bundle, or one a line, as `gh attestation download` writes them. */
async function attestationsIn(directory: string, name: string): Promise<Attestation[]> {
  const text = (await readLimited(join(directory, name))).toString('utf8');
  const texts = name.endsWith('.jsonl') ? text.split('\n').filter((line) => line.trim() !== '') : [text];
  return texts.map((one) => ({ name, bundle: parsed(one) }));
}

/** What is no JSON is no bundle either, and is told as one that cannot be read. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Through a link as well; waits for nobody, as opening a FIFO would. */
async function readLimited(path: string): Promise<Buffer> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const found = await file.stat();
  if (!found.isFile()) throw new Error(`${path} is not a regular file`);
  if (found.size > largestFile) throw new Error(`${path} is larger than ${largestFile >> 20} MiB`);
  return await file.readFile();
}

async function trustedRootOf({ sigstore }: Config): Promise<unknown> {
  if (sigstore.trusted_root !== '') return JSON.parse(readFileSync(sigstore.trusted_root, 'utf8'));
  const { publicGoodRoot } = await import('../attestation/public-good-root.ts');
  return publicGoodRoot();
}

/** `*` stands for anything, for the name of a release is in the identity of what built it. */
function expectedBuilder({ program: { identity, issuer } }: Config): ExpectedIdentity | null {
  if (identity === '' || issuer === '') return null;
  if (!identity.includes('*')) return { subject: identity, issuer };
  const escaped = identity.replaceAll(/[\\^$.+?()[\]{}|/]/g, '\\$&');
  return { subject: new RegExp(escaped.replaceAll('*', '.*')), issuer };
}

function versionOf({ root }: ProgramPlace): string {
  return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }).version;
}
