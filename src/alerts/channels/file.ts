// file://: JSON lines appended to a file of this machine, synced before the alert counts as delivered.
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Channel } from '../channel.ts';
import { DeliveryFailure, invalidChannel } from '../delivery-failure.ts';

const example = 'file:///var/log/alerts.jsonl';

/** `file:///absolute/path`; the directory must exist, the file is made with mode 0600. */
export function openFile(url: URL): Channel {
  if (url.host !== '' || url.pathname.endsWith('/') || url.search !== '') {
    throw invalidChannel('A file channel needs the absolute path of a file on this machine.', example);
  }
  const path = pathOf(url);
  const name = `file://${path}`;
  return {
    name,
    async send(alert) {
      const flags = constants.O_RDWR | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;
      await using file = await open(path, flags, 0o600);
      const { size, ...kind } = await file
        .stat()
        .then((stat) => ({ size: stat.size, regular: stat.isFile() }));
      if (!kind.regular) throw DeliveryFailure.refused(`${name} is not a regular file.`);
      const last = Buffer.alloc(1, '\n');
      if (size > 0) await file.read(last, 0, 1, size - 1);
      const torn = last.toString() !== '\n'; // An earlier writer was killed half-way: its line ends here.
      await file.appendFile(`${torn ? '\n' : ''}${JSON.stringify({ version: 1, ...alert })}\n`);
      await file.sync();
    },
  };
}

function pathOf(url: URL): string {
  try {
    return fileURLToPath(url);
  } catch {
    throw invalidChannel('The path of a file channel is not well-formed.', example);
  }
}
