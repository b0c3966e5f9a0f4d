import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/appliance/config.ts';
import { knownHostsRule } from '../../src/appliance/known-hosts.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-hosts-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const write = (name: string, text: string): string => {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
};
const replaced = (text: string, configuration: string, hosts = '', inJournal: string[] = []): string => {
  const config = loadConfig({ path: write('config.toml', configuration) });
  const rule = knownHostsRule(config, inJournal, write('hosts', hosts));
  return rule === undefined ? text : text.replaceAll(new RegExp(rule.pattern, 'g'), '*');
};

describe('names of other machines', () => {
  it('are those of peers and of every address and URL in the configuration', () => {
    const configuration = `
[[links]]
name = "wg0"
address = "10.66.0.1/24"
[[links.peers]]
name = "beta"
public_key = "${Buffer.alloc(32).toString('base64')}"
endpoint = "vpn.beta.example:51820"
allowed_ips = ["10.66.0.2/32"]
[entropy]
tcp_hosts = ["time.example:443"]
dns_servers = ["192.0.2.1:53"]
[sigstore]
fulcio = "https://fulcio.example"
rekor = "https://rekor.example:8443/path"
[forensics]
upload = "s3://bucket/alpha?endpoint=https://s3.example:9000"
[[alerts.channels]]
url = "jsons://hooks.example/node"
`;
    const text =
      'beta VPN.beta.example time.example fulcio.example rekor.example s3.example hooks.example 192.0.2.1';
    expect(replaced(text, configuration)).toBe('* * * * * * * 192.0.2.1');
    expect(replaced('betas alphabeta my-beta beta-2 bucket', configuration)).toBe(
      'betas alphabeta my-beta beta-2 bucket',
    );
  });

  it('are those of /etc/hosts, but for what stands on every machine and for what is hardly a name', () => {
    const hosts = `127.0.0.1 localhost localhost.localdomain
::1 ip6-localhost ip6-loopback # ip6.commented.example
192.0.2.7   gamma.example. gamma vm
not-a-line`;
    expect(replaced('localhost ip6-loopback gamma.example gamma GAMMA vm commented.example', '', hosts)).toBe(
      'localhost ip6-loopback * * * vm commented.example',
    );
    expect(replaced('nothing known', '', '127.0.0.1 localhost')).toBe('nothing known');
  });

  it('are those that logged into the journal, whole and up to the first dot', () => {
    const inJournal = ['victim-db7.example.org', 'build_box', 'localhost', '192.0.2.7', '2024.example', 'vm'];
    expect(
      replaced(
        'sshd on victim-db7: from Victim-DB7.example.org, build_box; localhost 192.0.2.7 192 2024 vm my-victim-db7',
        '',
        '',
        inJournal,
      ),
    ).toBe('sshd on *: from *, *; localhost 192.0.2.7 192 2024 vm my-victim-db7');
  });
});
