import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseExport } from '../../src/journal/export.ts';
import { journalArguments, readJournal } from '../../src/journal/read.ts';
import { unitSelection } from '../../src/journal/units.ts';
import { JournalWriter } from '../../src/journal/write.ts';
import { type Journald, journaldMissing, startJournald } from '../lab/journald.ts';

describe('the units of a bundle', () => {
  const chosen = (units: string[], ownJournal = true) => journalArguments(unitSelection(units, ownJournal));

  it('are by default those that configure networks on the distributions that we know, and our own', () => {
    const words = chosen(['default']);
    for (const unit of [
      'esoteric-appliance',
      'esoteric-courier',
      'NetworkManager',
      'systemd-networkd',
      'systemd-resolved',
      'networking',
      'firewalld',
      'nftables',
      'wpa_supplicant',
    ]) {
      expect(words).toContain(`_SYSTEMD_UNIT=${unit}.service`);
      expect(words).toContain(`UNIT=${unit}.service`);
    }
    expect(words).toContain('SYSLOG_IDENTIFIER=dhclient');
    expect(words).not.toContain('_SYSTEMD_UNIT=ssh.service');
  });

  it('are with names beside the default those as well, completed as journalctl does', () => {
    const words = chosen(['default', 'sshd', 'dbus.socket']);
    expect(words).toEqual(
      expect.arrayContaining(['_SYSTEMD_UNIT=sshd.service', '_SYSTEMD_UNIT=dbus.socket']),
    );
  });

  it('are the named ones, or all of them', () => {
    expect(chosen(['sshd', 'cron.service'])).toEqual(['--unit=sshd', '--unit=cron.service']);
    for (const all of [['all'], ['default', 'all'], []]) expect(chosen(all)).toEqual([]);
  });

  it('are all of a journal that was chosen already', () => {
    expect(chosen(['default'], false)).toEqual([]);
    expect(chosen(['sshd'], false)).toEqual(['--unit=sshd']);
  });

  const missing = journaldMissing();
  describe.skipIf(missing !== undefined)(
    `in a real journal${missing ? ` (skipped: ${missing})` : ''}`,
    () => {
      const namespace = `ea-units-${randomBytes(4).toString('hex')}`;
      let journald: Journald;
      beforeAll(async () => {
        journald = await startJournald(namespace);
        using writer = new JournalWriter({ namespace });
        for (const name of ['NetworkManager', 'dhclient', 'esoteric-appliance', 'sshd', 'NetworkManagerX'])
          writer.send({ MESSAGE: `of ${name}`, SYSLOG_IDENTIFIER: name });
        await journald.flush();
      });
      afterAll(() => journald?.stop());

      it('leave out what is none of them', async () => {
        const chunks: Uint8Array[] = [];
        const selection = { namespace, ...unitSelection(['default'], true) };
        for await (const chunk of readJournal({ ...selection, since: '-1h' }))
          chunks.push(Buffer.from(chunk));
        const messages = parseExport(Buffer.concat(chunks)).map((entry) =>
          Buffer.from(entry.find(({ name }) => name === 'MESSAGE')?.value ?? []).toString(),
        );
        expect(messages).toEqual(['of NetworkManager', 'of dhclient', 'of esoteric-appliance']);
      });
    },
  );
});
