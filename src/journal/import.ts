// From the Journal Export Format back to a journal file, by systemd-journal-remote(8), so that journalctl reads it.
import { existsSync } from 'node:fs';
import { runChild } from '../host/child.ts';
import { Failure } from '../host/failure.ts';

/** It is not in PATH: where distributions put it. */
const places = ['/lib/systemd/systemd-journal-remote', '/usr/lib/systemd/systemd-journal-remote'];
/** For a gibibyte; it writes the file synced. */
const longestMilliseconds = 600_000;

const installed = (): string | undefined => places.find((place) => existsSync(place));

/** Why nothing can be imported on this machine; undefined where it can. */
export const importerMissing = (): string | undefined =>
  installed() === undefined
    ? 'systemd-journal-remote is not installed (Debian, Fedora: the package systemd-journal-remote)'
    : undefined;

/**
 * Writes `journal` (a new file whose name ends with .journal) from an export.
 * @throws Failure `journal-importer-missing`; `journal-import-failed` with what systemd-journal-remote said.
 */
export async function importJournal(source: string, journal: string): Promise<void> {
  const program = installed();
  if (program === undefined) {
    throw new Failure('journal-importer-missing', `The journal cannot be rebuilt: ${importerMissing()}.`, {
      kept: 'The journal can be read as it is, in the Journal Export Format.',
      remedy:
        'Install the package systemd-journal-remote (no service of it needs to run), then repeat the command.',
    });
  }
  const args = [`--output=${journal}`, '--split-mode=none', source];
  const { status, stderr } = await runChild(program, args, {
    timeoutMilliseconds: longestMilliseconds,
    env: { ...process.env, LC_ALL: 'C', SYSTEMD_LOG_COLOR: '0' },
  });
  if (status === 0 && existsSync(journal)) return;
  const said = stderr.trim().split('\n').slice(-3).join('; ') || 'nothing';
  throw new Failure(
    'journal-import-failed',
    `systemd-journal-remote ended with ${status} and said: ${said}`,
    {
      kept: 'The journal can be read as it is, in the Journal Export Format.',
    },
  );
}
