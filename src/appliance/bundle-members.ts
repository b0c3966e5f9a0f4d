// The members that a bundle has of this node, whether it runs or not. What only the running node can give, and the state of the
// host, come from elsewhere.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { streamLog } from '../custody/segments.ts';
import type { Collector } from '../forensics/collect.ts';
import { custodyPath, journalPath, pastCertificatesPath } from '../forensics/format.ts';
import { readNewest } from '../journal/newest.ts';
import { offlineJournal } from '../journal/offline.ts';
import { type JournalPlace, type JournalSelection, journalArguments, readJournal } from '../journal/read.ts';
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
  const { place, isPutAside, others } = journalOf(config, request);
  const selection = { ...place, ...choiceOf(config, request, isPutAside || place.namespace !== undefined) };
  const question = ['journalctl --output=export --all', ...journalArguments(selection)].join(' ');
  const beside =
    others.length === 0 ? '' : `; not of the namespaces that lie there too: ${others.join(', ')}`;
  return {
    name: 'journal',
    path: journalPath,
    source: `${question}: what was logged${beside}`,
    volatility: isPutAside ? 'archive' : 'temporary',
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

interface BundleJournal {
  readonly place: JournalPlace;
  /** Files that no journald clears away. */
  readonly isPutAside: boolean;
  /** Namespaces beside it that are not read. */
  readonly others: readonly string[];
}

/**
 * The journal that the request names, or where it is silent the configuration, whose namespace is that of the running journald: of a
 * path only the request chooses one, else the default one is read.
 * @throws Failure `namespace-missing`, usage: the request names one that the path has not.
 */
export function journalOf(config: Config, request: BundleRequest): BundleJournal {
  const path = request.journalPath ?? config.journal.directory;
  if (path !== '') return { isPutAside: true, ...offlineJournal(path, request.namespace ?? '') };
  const namespace = request.namespace ?? (request.journalPath === undefined ? config.journal.namespace : '');
  return { isPutAside: false, place: namespace === '' ? {} : { namespace }, others: [] };
}

/** Which of its entries. `isChosen`: the journal by itself is a choice already. */
function choiceOf(config: Config, request: BundleRequest, isChosen: boolean): JournalSelection {
  const { since, until, boot, lines } = request;
  return {
    ...unitSelection(request.units ?? config.journal.units, !isChosen),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
    ...(boot === undefined ? {} : { boot }),
    ...(lines === undefined ? {} : { lines }),
  };
}
