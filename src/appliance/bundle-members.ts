// The members that a bundle has of this node, whether it runs or not. What only the running node can give, and the state of the
// host, come from elsewhere.
import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { wholeLog } from '../custody/segments.ts';
import type { Canary } from '../forensics/canary.ts';
import type { Collector } from '../forensics/collect.ts';
import { custodyPath } from '../forensics/format.ts';
import { readJournal } from '../journal/read.ts';
import type { Config } from './config.ts';
import type { BundleRequest } from './evidence.ts';
import type { NodeRecord, StateLayout } from './node-record.ts';

export interface BundleSubject {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
}

export const eventLogPath = 'evidence/eventlog.bin';
const journalLimit = 1 << 30;

/** The journal, the custody log, and what the TPM and enrolment leave on the node. */
export function bundleMembers(node: BundleSubject, request: BundleRequest): Collector[] {
  const { config, layout, record } = node;
  return [
    journalCollector(config, request),
    {
      name: 'custody log',
      path: custodyPath,
      source: 'The custody log of this node, whole and unredacted: names in it are commitments',
      limitBytes: journalLimit,
      redact: false,
      gather: async () => wholeLog(layout.custody),
    },
    ...(record.tpm === null
      ? []
      : [
          {
            name: 'event log',
            path: eventLogPath,
            source: `${config.tpm.event_log}: what the firmware measured into the PCRs`,
            limitBytes: 16 << 20,
            redact: false,
            gather: () => readFile(config.tpm.event_log),
          },
        ]),
    {
      name: 'enrolment record',
      path: 'evidence/enrolment.json',
      source: 'The enrolment record as the node holds it; compare with the one that the verifier holds',
      limitBytes: 1 << 20,
      redact: false,
      gather: () => readFile(layout.enrolment),
    },
  ];
}

function journalCollector(config: Config, request: BundleRequest): Collector {
  const { namespace, directory, units } = config.journal;
  const path = request.journalPath ?? (directory === '' ? undefined : directory);
  const isFile = path !== undefined && existsSync(path) && statSync(path).isFile();
  return {
    name: 'journal',
    path: 'journal/entries.jsonl',
    source: `journalctl --output=json${namespace === '' ? '' : ` --namespace=${namespace}`}: what was logged`,
    limitBytes: journalLimit,
    redact: true,
    gather: (signal) =>
      readJournal({
        format: 'json',
        signal,
        units,
        ...(path === undefined
          ? namespace === ''
            ? {}
            : { namespace }
          : isFile
            ? { file: path }
            : { directory: path }),
        ...(request.since === undefined ? {} : { since: request.since }),
      }),
  };
}

/** Planted secrets, as a member that must come out redacted. */
export const canaryMember = (canaries: readonly Canary[]): Collector => ({
  name: 'redaction check',
  path: 'redaction/canaries.conf',
  source: 'Planted secrets, to see that the redaction rules work on this node',
  limitBytes: 1 << 16,
  redact: true,
  gather: async () =>
    canaries.map(({ label, value }) => `${label} = ${Buffer.from(value).toString('base64')}\n`).join(''),
});
