// A courier reduced to its essence, to be killed: spool to outbox to channel. Arguments: directory, channel URL.
import { join } from 'node:path';
import { openChannel } from '../../src/alerts/channel.ts';
import { Deliverer } from '../../src/alerts/deliver.ts';
import { Outbox } from '../../src/alerts/outbox.ts';
import { alertPolicySchema, jobsOf } from '../../src/alerts/router.ts';
import { takeJobs } from '../../src/alerts/spool.ts';

const [directory = '', url = ''] = process.argv.slice(2);
using outbox = new Outbox(join(directory, 'outbox.db'));
for (const { job, done } of takeJobs(join(directory, 'spool'))) {
  outbox.enqueue(...jobsOf(job, alertPolicySchema.parse({}), [{ id: 'hook' }]));
  done();
}
const channels = new Map([['hook', openChannel(url)]]);
const deliverer = new Deliverer({
  outbox,
  channels,
  bundle: async () => {},
  report: (event) => process.stdout.write(`${JSON.stringify(event)}\n`),
});
await deliverer.runOnce();
