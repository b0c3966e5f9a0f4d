import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig, nodeNameFrom, parseInterfaces, renderConfig } from '../../src/appliance/config.ts';
import { Failure } from '../../src/host/failure.ts';

const directory = mkdtempSync(join(tmpdir(), 'ea-config-'));
afterAll(() => rmSync(directory, { recursive: true }));

function write(text: string): string {
  const path = join(directory, 'config.toml');
  writeFileSync(path, text);
  return path;
}

const load = (text: string) => loadConfig({ path: write(text), hostName: 'host' });

function refusalOf(act: () => unknown): Failure {
  try {
    act();
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error('It was accepted.');
}

const full = `
[node]
name = "alpha"
role = "leaf"
interfaces = ["cable0", "CPU0"]
state_dir = "/run/alpha"
[tpm]
tcti = "swtpm:path=/run/alpha/tpm.sock"
stand_ins = ["swtpm", "synthetic event log"]
srk_handle = 0x81000002
[[links]]
name = "wg0"
address = "10.66.0.1/24"
[[links.peers]]
name = "beta"
public_key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
endpoint = "192.0.2.2:51820"
allowed_ips = ["10.66.0.2/32", "fd00::/64"]
keepalive = 25
[[links]]
name = "wg1"
address = "fd00::1/64"
[entropy]
sources = ["clock-jitter", "device:/dev/ttyACM0"]
http = ["10.66.0.1:8080", "[::1]:8080"]
[sigstore]
fulcio = "http://198.51.100.1:5555"
[forensics]
upload = "s3://evidence/alpha?endpoint=http://198.51.100.1:9000&region=us-east-1"
[[alerts.channels]]
url = "json://198.51.100.1:8000/hook"
min_severity = "error"
[[alerts.channels]]
url_file = "/etc/esoteric-appliance/courier/slack"
tag = "on-call"
[[keys]]
name = "cak"
purpose = "macsec"
`;

describe('the configuration', () => {
  it('is complete where the file is empty', () => {
    expect(load('')).toMatchObject({
      node: { name: 'host', role: 'relay', interfaces: [], state_dir: '/var/lib/esoteric-appliance' },
      tpm: { mode: 'tpm', tcti: 'device:/dev/tpmrm0', cap_pcr: 14, pcrs: [0, 7], srk_handle: 0x81000001 },
      links: [],
      entropy: { sources: ['all'], http: [] },
      interlock: { level: 'lock', on_unclean_start: 'recover', planned_flaps_per_hour: 3 },
      sigstore: { mode: 'on', fulcio: '' },
      courier: { spawn: true },
      alerts: { channels: [] },
      keys: [],
    });
  });

  it('takes what the file says', () => {
    const config = load(full);
    expect(config.links[0]).toMatchObject({ name: 'wg0', key: 'wireguard', mtu: 1420, listen_port: 51820 });
    expect(config.links[0]?.peers[0]).toMatchObject({ name: 'beta', enrolment: '', keepalive: 25 });
    expect(config.alerts.channels.map(({ min_severity }) => min_severity)).toEqual(['error', '']);
  });

  it('is printed as a file that reads back to the same, with every key explained', () => {
    for (const text of ['', full]) {
      const config = load(text);
      const printed = renderConfig(config);
      expect(load(printed)).toEqual(config);
      expect(renderConfig(load(printed))).toBe(printed);
      for (const [index, line] of printed.split('\n').entries()) {
        if (!/^[a-z0-9_]+ = /.test(line)) continue;
        expect(printed.split('\n')[index - 1], line).toMatch(/^# .{4,}\.( Default .+\.)?$/);
      }
    }
    expect(renderConfig(load(''))).toContain('srk_handle = 0x81000001');
  });

  it('prints each table that the schema knows', () => {
    expect(Object.keys(parse(renderConfig(load(full))))).toEqual(Object.keys(load(full)));
  });

  it.each([
    ['[node]\nname = "Alpha"', 'node.name: expected a name of 1 to 32'],
    ['[node]\nname = "-alpha"', 'node.name: expected a name of 1 to 32'],
    ['[node]\ninterfaces = ["an-interface-name-too-long"]', 'node.interfaces[0]: expected any, CPU'],
    ['[node]\nstate_dir = "relative"', 'node.state_dir: expected an absolute path'],
    ['[tpm]\ncap_pcr = 16', 'tpm.cap_pcr: expected at most 15'],
    ['[tpm]\npcrs = [0, 14]', 'tpm.pcrs: expected another PCR than cap_pcr'],
    ['[tpm]\nsrk_handle = 1', 'tpm.srk_handle: expected at least'],
    ['[tpm]\nmode = "simulator"', 'tpm.mode: expected "tpm" or "none", found "simulator"'],
    ['[[links]]\naddress = "10.0.0.1/24"', 'links[0].name: expected a string, nothing is there'],
    [
      '[[links]]\nname = "wg0"\naddress = "10.0.0.1"',
      'links[0].address: expected an address with its prefix',
    ],
    ['[[links]]\nname = "wg0"\naddress = "10.0.0.1/24"\nmtu = 100', 'links[0].mtu: expected at least 576'],
    ['[entropy]\nhttp = ["127.0.0.1:99999"]', 'entropy.http[0]: expected a port of at most 65535'],
    ['[entropy]\nhttp = ["8080"]', 'entropy.http[0]: expected host:port'],
    [
      '[entropy]\nhttp = ["localhost:80", "0.0.0.0:80"]',
      'entropy.http[1]: expected the loopback or the address of a link; for others run `server`',
    ],
    ['[interlock]\nlevel = "nuke"', 'interlock.level: expected "purge" or "lock" or "destroy", found "nuke"'],
    ['[sigstore]\nfulcio = "ftp://x"', 'sigstore.fulcio: expected an http:// or https:// URL'],
    ['[forensics]\nupload = "http://x"', 'forensics.upload: expected s3://bucket/prefix'],
    ['[forensics]\nupload = "s3://bucket/x?retian=7y"', '("retian" is not a known parameter)'],
    ['[forensics]\nupload = "s3://bucket/x?retain=7y"', '(object-lock and retain belong together)'],
    ['[[alerts.channels]]\nurl = "x"', 'alerts.channels[0].url: expected a URL such as json://host/path'],
    [
      '[[alerts.channels]]\nmin_severity = "loud"',
      'alerts.channels[0].min_severity: expected "" or one of emergency,',
    ],
    ['[[keys]]\nname = "a"\npurpose = "ssh"', 'keys[0].purpose: expected "wireguard" or "macsec" or "seed"'],
    ['[courier]\nspawn = "no"', 'courier.spawn: expected true or false, found "no"'],
    ['[node]\nrol = "x"', 'node.rol: unknown key; did you mean `role`?'],
    ['[nod]\nname = "x"', 'nod: unknown key; did you mean `node`?'],
    [
      '[interlock]\npol_milliseconds = 1',
      'interlock.pol_milliseconds: unknown key; did you mean `poll_milliseconds`?',
    ],
  ])('refuses %j and says where', (text, message) => {
    const refusal = refusalOf(() => load(text));
    expect(refusal.message).toMatch(new RegExp(`^${join(directory, 'config.toml')}:[1-4]: `));
    expect(refusal.message).toContain(message);
    expect(refusal).toMatchObject({ code: 'config-invalid', status: 2 });
  });

  it("wants one source for a peer's key, and one for a channel's URL", () => {
    const peer =
      '[[links]]\nname = "wg0"\naddress = "10.0.0.1/24"\n[[links.peers]]\nname = "b"\nallowed_ips = ["::/0"]\n';
    expect(refusalOf(() => load(peer)).message).toContain('either public_key or enrolment');
    expect(refusalOf(() => load('[[alerts.channels]]\ntag = "x"')).message).toContain(
      'either url or url_file',
    );
    expect(refusalOf(() => load('[[alerts.channels]]\nurl = "json://h"\nurl_file = "/x"')).message).toContain(
      'either url or url_file',
    );
    expect(load(`${peer}enrolment = "/etc/b.json"`).links[0]?.peers[0]?.enrolment).toBe('/etc/b.json');
  });

  it('wants links of different names', () => {
    const link = '[[links]]\nname = "wg0"\naddress = "10.0.0.1/24"\n';
    expect(refusalOf(() => load(link + link)).message).toContain('links of different names');
  });

  it.each([
    ['[[alerts.channels]]\nurl = "slack://hook/T0/B0/hunter2"', 'put a URL that holds one into a file'],
    ['[[alerts.channels]]\nurl = "mailto://me:hunter2@host"', 'put a URL that holds one into a file'],
    ['[forensics]\nupload = "s3://id:hunter2@bucket/"', 's3_credentials_file'],
    ['[forensics]\nupload = "s3://bucket/?secretKey=hunter2"', 's3_credentials_file'],
    ['[sigstore]\nrekor = "https://me:hunter2@log/"', 'without a secret'],
    ['[sigstore]\nidentity_token = "hunter2"', 'secrets never stand in the configuration'],
    ['[[keys]]\nname = "wg"\npurpose = "wireguard"\nprivate_key = "hunter2"', 'secrets never stand'],
  ])('holds no secret: refuses %j without repeating it', (text, message) => {
    const refusal = refusalOf(() => load(text));
    expect(refusal.message).toContain(message);
    expect(refusal.message).not.toContain('hunter2');
  });

  it('says when the file that was asked for is not there', () => {
    expect(refusalOf(() => loadConfig({ path: join(directory, 'none.toml') }))).toMatchObject({
      code: 'config-missing',
      status: 2,
    });
  });
});

describe('flags over the configuration', () => {
  const flagged = (overrides: NonNullable<Parameters<typeof loadConfig>[0]>['overrides']) =>
    loadConfig({ path: write(full), ...(overrides === undefined ? {} : { overrides }) });

  it('stand above the file and leave the rest', () => {
    const config = flagged({
      stateDir: 'state',
      interfaces: 'any',
      tcti: 'device:/dev/tpm0',
      noSigstore: true,
    });
    expect(config.node).toMatchObject({ state_dir: join(process.cwd(), 'state'), interfaces: ['any'] });
    expect(config.tpm).toMatchObject({ mode: 'tpm', tcti: 'device:/dev/tpm0', srk_handle: 0x81000002 });
    expect(config.sigstore).toMatchObject({ mode: 'none', fulcio: 'http://198.51.100.1:5555' });
    expect(config.node.name).toBe('alpha');
  });

  it('bypass the TPM, or bring it back where the file bypasses it', () => {
    expect(flagged({ noTpm: true }).tpm.mode).toBe('none');
    expect(
      loadConfig({ path: write('[tpm]\nmode = "none"'), overrides: { tcti: 'device:/dev/tpm0' } }).tpm.mode,
    ).toBe('tpm');
    expect(refusalOf(() => flagged({ noTpm: true, tcti: 'device:x' }))).toMatchObject({
      code: 'usage',
      status: 2,
    });
  });

  it('name data interfaces', () => {
    expect(parseInterfaces('eth0,eth1, CPU0')).toEqual(['eth0', 'eth1', 'CPU0']);
    for (const wrong of ['', 'eth0,', 'a/b', 'has space', '..', 'sixteen-letters-']) {
      expect(
        refusalOf(() => parseInterfaces(wrong)),
        wrong,
      ).toMatchObject({ code: 'usage', status: 2 });
    }
  });
});

describe('a node without a name', () => {
  it.each([
    ['gate-7.example.org', 'gate-7'],
    ['Gate_7', 'gate-7'],
    ['--x', 'x'],
    ['ü', 'node'],
    ['', 'node'],
    ['x'.repeat(60), 'x'.repeat(32)],
  ])('takes the host name %j as %j', (host, name) => {
    expect(nodeNameFrom(host)).toBe(name);
  });

  it('takes the name of this machine when nobody passes one', () => {
    const own = readFileSync('/proc/sys/kernel/hostname', 'utf8').trim();
    expect(loadConfig({ path: write('') }).node.name).toBe(nodeNameFrom(own));
  });
});
