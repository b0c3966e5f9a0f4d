// docs/events.md, made from the catalogue of events (src/journal/events.ts): `node scripts/events-page.ts` writes it.
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { type EventEntry, eventSeverities, events } from '../src/journal/events.ts';

export const eventsPagePath = resolve(import.meta.dirname, '../docs/events.md');

export function eventsPage(): string {
  const rows = Object.entries(events).map(([name, entry]: [string, EventEntry]) => {
    const fields = Object.entries(entry.fields).map(([field, holds]) => `\`${field}\`: ${holds}`);
    const meaning =
      entry.reserved === true ? `${entry.meaning} *Reserved: nothing tells it yet.*` : entry.meaning;
    return `| \`${name}\` | ${entry.severity} | ${meaning} | ${fields.join('; ')} |`;
  });
  const severities = Object.entries(eventSeverities).map(([name, code]) => `${code} ${name}`);
  return `# Events

What a node tells. Made from \`src/journal/events.ts\` by \`scripts/events-page.ts\`; do not edit.

Each event goes to stderr as a line for people, and as fields to

- **journald**, in the namespace of \`journal.namespace\`: \`journalctl EVENT_TYPE=ZEROIZE\`, \`journalctl -o json NODE_ID=alpha\`;
- a file of **JSON lines**, where \`journal.events_file\` names one: \`{time, node, event, severity, message, details}\`. It is opened anew
  for each line, so that it can be rotated at any time. What it does not take is lost there; that, and when it takes lines again, the others are told;
- **stdout**, the same lines, where a container without journald was started for \`run\` (\`journal.events_stdout\`: \`auto\`, \`on\` or \`off\`).

| field of the journal | holds |
|---|---|
| \`SYSLOG_IDENTIFIER\` | \`esoteric-appliance\` |
| \`EVENT_TYPE\` | the name below |
| \`NODE_ID\` | \`node.name\` |
| \`PRIORITY\` | the severity: ${severities.join(', ')} |
| \`DETAILS\` | one JSON object with the fields below |
| \`MESSAGE\` | a sentence |

Events tell, the [custody log](operations.md#files) proves: an event may be lost, a custody record is on the disk before the node goes on.
Events name interfaces in clear; the custody log commits to them.

| event | severity | meaning | details |
|---|---|---|---|
${rows.join('\n')}
`;
}

if (import.meta.main) writeFileSync(eventsPagePath, eventsPage());
