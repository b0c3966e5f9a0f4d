// Names of other machines: those that this node knows (peers, what the configuration's addresses and URLs name, /etc/hosts, see hosts(5)),
// and those that logged into the journal of the bundle. In a bundle they are replaced as the machine's own name is. What only the courier
// may read (url_file) is not known here.
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { RedactionRule } from '../forensics/redaction-policy.ts';
import type { Config } from './config.ts';

/** One label, or several with dots between (RFC 1123, section 2.1); Linux also takes underscores, and labels of 64 characters. */
const hostName = /^(?=.{1,253}$)(?=.*[a-z_])\w([\w-]{0,62}\w)?(\.\w([\w-]{0,62}\w)?)*$/i;
/** Names that every machine has, and that tell of none. */
const everybodys = /^(localhost\d*|ip6-.*|broadcasthost)(\..*)?$/i;
/** A label by itself that is shorter stands for too much else. */
const shortestLabel = 3;
/** More would take too long to look for; the configuration's and the journal's come first. */
const most = 500;

/** The rule by which they are replaced; undefined where there are none. */
export function knownHostsRule(
  config: Config,
  inJournal: readonly string[],
  hostsFile = '/etc/hosts',
): RedactionRule | undefined {
  const logged = inJournal.flatMap((name) => (isIP(name) === 0 ? [name, name.replace(/\..*/, '')] : []));
  const known = [...configured(config), ...logged, ...listed(hostsFile)]
    .map((name) => name.replace(/\.$/, '').toLowerCase())
    .filter((name) => hostName.test(name) && isIP(name) === 0 && !everybodys.test(name))
    .filter((name) => name.includes('.') || name.length >= shortestLabel);
  const names = [...new Set(known)].slice(0, most).toSorted((a, b) => b.length - a.length);
  if (names.length === 0) return undefined;
  const alternatives = names.map((name) => name.replaceAll('.', '\\.')).join('|');
  return {
    name: 'host-name',
    kind: 'host',
    pattern: `(?<![A-Za-z0-9-])(?i:${alternatives})(?![A-Za-z0-9-])`,
    sample: `login on <<${names[0]}>> ok`,
  };
}

function configured({ links, sigstore, program, forensics, alerts, entropy }: Config): string[] {
  const peers = links.flatMap((link) => link.peers);
  const upload = URL.parse(forensics.upload);
  return [
    ...peers.map(({ name }) => name),
    ...[...peers.map(({ endpoint }) => endpoint), ...entropy.dns_servers, ...entropy.tcp_hosts].map(
      (address) => address.replace(/:\d+$/, ''),
    ),
    ...[
      ...[sigstore.fulcio, sigstore.rekor, sigstore.tsa, sigstore.issuer, program.issuer],
      upload?.searchParams.get('endpoint') ?? '',
      ...alerts.channels.map(({ url }) => url),
    ].flatMap((url) => URL.parse(url)?.hostname ?? []),
  ];
}

function listed(path: string): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => line.replace(/#.*/, '').trim().split(/\s+/).slice(1));
}
