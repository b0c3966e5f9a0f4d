// The members that a bundle has of this node, whether it runs or not. What only the running node can give, and the state of the
// host, come from elsewhere.
import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { streamLog } from '../custody/segments.ts';
import type { Collector } from '../forensics/collect.ts';
import { custodyPath, journalPath, pastCertificatesPath } from '../forensics/format.ts';
import { readNewest } from '../journal/newest.ts';
import { type JournalSelection, journalArguments, readJournal } from '../journal/read.ts';
import { unitSelection } from '../journal/units.ts';
import type { Config } from './config.ts';
import type { BundleRequest } from './evidence.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

export interface BundleSubject {
  readonly config: Config;
  readonly layout: StateLayout;
  readonly record: NodeRecord;
}

export const eventLogPath = 'evidence/eventlog.bin';
const journalLimit = 1 << 30;
const journalTimeout = 300_000;

/** The journal, the custody log, and what the TPM and enrolment leave on the node. */
export function bundleMembers(node: BundleSubject, request: BundleRequest): Collector[] {
  const { config, layout, record } = node;
  return [
    journalCollector(config, request),
    {
      name: 'custody log',
      path: custodyPath,
      source: 'The custody log of this node, whole and unredacted: names in it are commitments',
      volatility: 'disk',
      limitBytes: journalLimit,
      redact: false,
      gather: () => streamLog(layout.custody),
    },
    ...(record.tpm === null
      ? []
      : [
          {
            name: 'event log',
            path: eventLogPath,
            source: `${config.tpm.event_log}: what the firmware measured into the PCRs`,
            volatility: 'configuration' as const,
            limitBytes: 16 << 20,
            redact: false,
            gather: () => readFile(config.tpm.event_log),
          },
        ]),
    ...(existsSync(layout.pastCertificates)
      ? [
          {
            name: 'earlier zeroize certificates',
            path: pastCertificatesPath,
            source:
              'The certificates of zeroizes after which this node was armed again, or which went further',
            volatility: 'disk' as const,
            limitBytes: 8 << 20,
            redact: false,
            gather: () => readFile(layout.pastCertificates),
          },
        ]
      : []),
    {
      name: 'enrolment record',
      path: 'evidence/enrolment.json',
      source: 'The enrolment record as the node holds it; compare with the one that the verifier holds',
      volatility: 'disk',
      limitBytes: 1 << 20,
      redact: false,
      gather: () => readFile(layout.enrolment),
    },
  ];
}

function journalCollector(config: Config, request: BundleRequest): Collector {
  const selection = journalSelection(config, request);
  return {
    name: 'journal',
    path: journalPath,
    source: `${['journalctl --output=export --all', ...journalArguments(selection)].join(' ')}: what was logged`,
    volatility: isPutAside(selection) ? 'archive' : 'temporary',
    limitBytes: journalLimit,
    redact: true,
    form: 'journal',
    yields: true,
    timeoutMilliseconds: journalTimeout,
    gather: (signal, room) =>
      room === undefined
        ? readJournal({ signal, ...selection })
        : readNewest({ signal, ...selection }, journalLimit, room),
    gatherLess: (signal, room) => readNewest({ signal, ...selection }, journalLimit, room),
  };
}

/** Files that no journald clears away. */
const isPutAside = ({ directory, file }: JournalSelection): boolean =>
  directory !== undefined || file !== undefined;

/** What the request says, and where it is silent the configuration. A path that is named holds more than one namespace. */
function journalSelection(config: Config, request: BundleRequest): JournalSelection {
  const { since, until, boot, lines } = request;
  const path = request.journalPath ?? config.journal.directory;
  const isFile = path !== '' && existsSync(path) && statSync(path).isFile();
  const configured = request.journalPath === undefined && path === '' ? config.journal.namespace : '';
  const namespace = request.namespace ?? configured;
  const units = request.units ?? config.journal.units;
  return {
    ...unitSelection(units, path === '' && namespace === ''),
    ...(path === '' ? {} : isFile ? { file: path } : { directory: path }),
    ...(namespace === '' ? {} : { namespace }),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
    ...(boot === undefined ? {} : { boot }),
    ...(lines === undefined ? {} : { lines }),
  };
}
