// Redaction with the rules that are shipped: what must not leave is gone, what may stay stays, and a case reads consistently.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { caseKeyId } from '../../src/forensics/pseudonym.ts';
import { Redactor } from '../../src/forensics/redact.ts';
import { readRedactionRules } from '../../src/forensics/redaction-policy.ts';
import { pseudonymsIn } from '../../src/forensics/redaction-records.ts';
import { caseKey, rules } from './sample.ts';

const redactor = new Redactor({ rules, hosts: ['alpha.example', 'größe.example', ''], key: caseKey });
function redact(text: string | Uint8Array, chunk = Number.POSITIVE_INFINITY, by = redactor) {
  const stream = by.stream();
  const bytes = Buffer.from(text);
  const out: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += chunk)
    out.push(Buffer.from(stream.write(bytes.subarray(at, at + chunk))));
  out.push(stream.end());
  return { text: Buffer.concat(out).toString(), bytes: Buffer.concat(out), records: stream.takeRecords() };
}
const key = Buffer.alloc(32, 9).toString('base64');
const hexKey = '5a'.repeat(32);
/** With what JSON and URLs escape. */
const signed = Buffer.from(`${'fb'.repeat(31)}ff`, 'hex').toString('base64');

describe('the shipped rules', () => {
  it.each([
    ['private-key-pem', `-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----`, 'MHcCAQEE'],
    [
      'private-key-pem',
      `{"m":"-----BEGIN PRIVATE KEY-----\\nMHcCAQEE\\n-----END PRIVATE KEY-----\\n"}`,
      'MHcCAQEE',
    ],
    ['private-key-pem', `-----BEGIN PRIVATE KEY-----\nMHcCAQEE and cut off`, 'MHcCAQEE'],
    ['age-secret-key', `AGE-SECRET-KEY-1${'Q'.repeat(58)}`, 'Q'.repeat(58)],
    ['wireguard-key', `PrivateKey = ${key}`, key],
    ['wireguard-key', `  PresharedKey=${key}`, key],
    ['wireguard-key', `"private_key": "${key}"`, key],
    ['wireguard-key', `preshared key: ${key}`, key],
    ['aws-access-key', 'id AKIAIOSFODNN7EXAMPLE used', 'AKIAIOSFODNN7EXAMPLE'],
    ['aws-secret-key', `aws_secret_access_key = ${'w'.repeat(40)}`, 'w'.repeat(40)],
    ['aws-secret-key', `"secretAccessKey":"${'w/'.repeat(20)}"`, 'w/'.repeat(20)],
    ['bearer-token', 'Authorization: Bearer eyJhbGciOi.J9.x-_y', 'eyJhbGciOi'],
    ['service-token', `ghp_${'a'.repeat(36)}`, 'a'.repeat(36)],
    ['service-token', 'xoxb-1234567890-abcdef', '1234567890'],
    ['service-token', `github_pat_${'a'.repeat(40)}`, 'a'.repeat(40)],
    ['service-token', `glpat-${'a'.repeat(20)}`, 'a'.repeat(20)],
    ['service-token', `npm_${'a'.repeat(36)}`, 'a'.repeat(36)],
    ['service-token', 'got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJub2RlIn0.c2lnbmF0dXJl of it', 'eyJzdWIi'],
    ['webhook-path', 'https://discord.com/api/webhooks/12345678/XXXX-xxxx', 'XXXX-xxxx'],
    ['url-password', `https://${'a1'.repeat(20)}@host/path`, 'a1a1'],
    ['webhook-path', 'https://hooks.slack.com/services/T000/B000/XXXX', 'T000/B000/XXXX'],
    ['url-password', 'https://user:s3cr3t!@host/path', 's3cr3t!'],
    ['url-password', 'smtp://:s3cr3t@host', 's3cr3t'],
    ['password', 'password="hunter2"', 'hunter2'],
    ['password', 'api_key: abc', 'abc'],
    ['password', 'MYSQL_ROOT_PASSWORD=hunter2', 'hunter2'],
    ['password', 'PGPASSWORD=hunter2', 'hunter2'],
    ['password', 'AWS_SESSION_TOKEN=hunter2', 'hunter2'],
    ['password', '["db","--password","hunter2"]', 'hunter2'],
    ['password', String.raw`{"m":"{\"password\":\"hunter2\"}"}`, 'hunter2'],
    ['password', String.raw`password=hunt\er2`, 'er2'],
    ['password', 'password = "correct horse" ok', 'horse'],
    ['password', "passphrase='correct horse' ok", 'horse'],
    ['password', 'psk="correct horse"', 'horse'],
    ['password', String.raw`{"password":"correct \" horse"}`, 'horse'],
    ['password', String.raw`{"m":"{\"password\":\"correct horse\"}"}`, 'horse'],
    ['password', '["db","--password","correct horse"]', 'horse'],
    ['password', 'password="hunter2 and cut off', 'hunter2'],
    ['password', 'wpa_psk=hunter2', 'hunter2'],
    ['password', 'client-secret: hunter2', 'hunter2'],
    ['password', 'DB_SECRET=hunter2', 'hunter2'],
    ['password', 'Server=db;Uid=me;Pwd=hunter2;', 'hunter2'],
    ['password', 'user=me pass=hunter2', 'hunter2'],
    ['password', 'X-API-Key: hunter2', 'hunter2'],
    ['password-argument', 'db --user me --password hunter2', 'hunter2'],
    ['basic-authorization', 'Authorization: Basic dXNlcjpodW50ZXIy', 'dXNlcjpodW50ZXIy'],
    ['wireguard-key', String.raw`{\"private_key\":\"${key}\"}`, key],
    ['cookie', 'Cookie: session=hunter2; theme=dark', 'hunter2'],
    ['cookie', '"set-cookie":"id=hunter2; HttpOnly"', 'hunter2'],
    ['url-signature', `GET /k?X-Amz-Signature=${'ab'.repeat(32)}&x=1`, 'abab'],
    ['url-signature', 'https://h/k?X-Amz-Credential=hunter2hunter2%2F2026', 'hunter2'],
    ['url-signature', 'https://h/k?sv=2020&sig=hunter2hunter2%3D', 'hunter2'],
    ['provider-key', `using sk-proj-${'a1'.repeat(20)}`, 'a1a1'],
    ['provider-key', `AIza${'a1'.repeat(17)}b ok`, 'a1a1'],
    ['password-short-argument', 'mysql -uroot -phunter2 db', 'hunter2'],
    ['password-short-argument', '["/usr/bin/mysqldump","-u","me","-phunter2"]', 'hunter2'],
    ['password-short-argument', 'sshpass -p hunter2 ssh -p2222 host', 'hunter2'],
    ['password-short-argument', '["sshpass","-v","-p","hunter2","ssh","host"]', 'hunter2'],
    [
      'private-key-pem',
      '-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMHcCAQEE\n-----END RSA PRIVATE KEY-----',
      'MHcCAQEE',
    ],
    ['private-key-pem', '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nMHcCAQEE\n', 'MHcCAQEE'],
    ['wireguard-key', `private_key=${hexKey}`, hexKey],
    ['wireguard-key', `preshared_key=${hexKey}`, hexKey],
    ['wireguard-key', `"privateKey":"${signed.replaceAll('+', String.raw`\u002b`)}"`, signed.slice(-8, -2)],
    ['wireguard-key', `PrivateKey=${encodeURIComponent(signed)}`, '%2B%2F'],
    ['link-key', 'mka_cak=000102030405060708090a0b0c0d0e0f', '00010203'],
    ['link-key', 'ip macsec add macsec0 tx sa 0 pn 1 on key 01 000102030405060708090a0b0c0d0e0f', '00010203'],
    ['url-password', String.raw`https:\/\/user:hunter2@host\/path`, 'hunter2'],
    ['url-password', String.raw`"https://user:hunter2\u0040host/path"`, 'hunter2'],
    ['url-password', 'to=https%3A%2F%2Fuser%3Ahunter2%40host%2F', 'hunter2'],
    ['basic-authorization', 'Authorization: token hunter2', 'hunter2'],
    ['password', 'Authorization: Token token="hunter2"', 'hunter2'],
    ['service-token', `eyJhbGciOiJkaXIifQ.${'a1'.repeat(9)}.${'b2'.repeat(9)}.c3.d4`, 'b2b2'],
    ['password', 'export DB_PASS=hunter2', 'hunter2'],
    ['password', 'DB_PWD=hunter2', 'hunter2'],
    ['password', "{'password': 'hunter2'}", 'hunter2'],
    ['password', "'password' => 'hunter2'", 'hunter2'],
    ['password', '<password>hunter2</password>', 'hunter2'],
    ['password', 'q=%7B%22password%22%3A%22hunter2%22%7D', 'hunter2'],
    ['password', 'body=password%3Dhunter2', 'hunter2'],
    ['password', String.raw`"{\"m\":\"{\\\"password\\\":\\\"hunter2\\\"}\"}"`, 'hunter2'],
    ['password', 'routing_key=hunter2', 'hunter2'],
    ['provider-key', `sk_live_${'a1'.repeat(12)}`, 'a1a1'],
    ['provider-key', `tk_${'a1'.repeat(14)}b`, 'a1a1'],
    ['provider-key', `https://api.telegram.org/bot123456789:${'a1'.repeat(17)}b/send`, 'a1a1'],
    ['user-argument', 'curl -sS -u admin:hunter2 https://host/', 'hunter2'],
    ['user-argument', '["curl","--user","admin:hunter2"]', 'hunter2'],
    ['password-argument', 'prog\0--password\0hunter2\0', 'hunter2'],
    ['password-argument', 'EXECVE argc=3 a0="db" a1="--password" a2="hunter2"', 'hunter2'],
    ['password-short-argument', 'EXECVE argc=3 a0="mysql" a1="-uroot" a2="-phunter2"', 'hunter2'],
    ['password-short-argument', 'mysql\0-uroot\0-phunter2\0', 'hunter2'],
    [
      'audit-title',
      `proctitle=${Buffer.from('db\0--password\0hunter2').toString('hex').toUpperCase()}`,
      '3272',
    ],
    ['key-line', `MESSAGE=${'Mx'.repeat(32)}\n`, 'MxMx'],
    ['key-line', `MESSAGE=${'Mx'.repeat(35)}\n`, 'MxMx'],
    ['mac-interface', 'renamed from wlan0 to wlx0242ac110002', '0242ac110002'],
    ['mac-address', 'MAC=02:42:ac:11:00:02:06:42:ac:11:00:03:08:00 SRC=', '02:42:ac:11:00:02'],
    ['mac-address', 'MAC=02:42:ac:11:00:02:06:42:ac:11:00:03:08:00 SRC=', '06:42:ac:11:00:03'],
    ['mac-address', 'ether 02:42:ac:11:00:02 brd', '02:42:ac:11:00:02'],
    ['mac-address', '02-42-AC-11-00-02', '02-42-AC-11-00-02'],
    ['ipv4-address', 'from 192.168.7.1:443,', '192.168.7.1'],
    ['ipv4-address', 'addr.10.0.0.1', '10.0.0.1'],
    ['ipv6-address', 'to [2001:db8::1]:443', '2001:db8::1'],
    ['ipv6-address', 'peer fe80::1%eth0', 'fe80::1'],
    ['ipv6-address', 'it is fe80::1.', 'fe80::1'],
    ['ipv6-address', 'fe80::1: timeout', 'fe80::1'],
    ['ipv6-address', '::1', '::1'],
    ['ipv6-address', '2001:db8:0:0:0:0:0:1/64', '2001:db8'],
    ['ipv6-address', '::ffff:10.1.2.3', 'ffff'],
    ['host-name', 'login to Alpha.Example ok', 'Alpha.Example'],
    ['host-name', 'größe.example', 'größe'],
  ])('%s: replaces what must go in %j', (rule, text, secret) => {
    const result = redact(text);
    expect(result.text).not.toContain(secret);
    expect(result.records.map((record) => record.rule)).toContain(rule);
    expect(result.text).toMatch(/‹[a-z]+:[0-9a-f]{8}›/);
  });

  it.each([
    'at 16:30:00.123 std::string version 1.2.3 of Node',
    'PublicKey of the peer',
    'mkdir -pv /srv; ssh -p2222 host; mysql --port=3306 db',
    'sshpass -f /run/pass ssh -p 2222 host',
    'task-manager-of-the-session risk-assessment-of-the-whole-node sk-short AIzaShort',
    'a cookie: none; /cookie-policy?design=new&sig=1',
    'Authorization: user root is allowed; curl --url https://host:443 ok',
    'the monkey: key=value; fingerprint 02:42:ac:11:00:02:06:42:ac:11:00:03:08:00',
    `MESSAGE=${'ab'.repeat(32)}\n`,
    `MESSAGE=${'Ab'.repeat(32)} and more\n`,
    'proctitle=2F7362696E2F696E6974',
    'user : PWD=/root ; USER=root ; COMMAND=/bin/true',
    'key_mgmt=WPA-PSK [WPA2-PSK-CCMP] psk-flags=0',
    'ssh://git@host bypass=1 compass: north',
    `PublicKey = ${key}`,
    'betalpha.example alpha.example-2',
    'sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    '::',
    'Zoë ‹quoted› \u0000 text',
  ])('leave %j as it is', (text) => {
    expect(redact(text)).toMatchObject({ text, records: [] });
  });

  it('keep what stands around a secret', () => {
    expect(redact(`PrivateKey = ${key} # old`).text).toMatch(/^PrivateKey = ‹key:[0-9a-f]{8}› # old$/);
    expect(redact('https://user:pw@host/x').text).toMatch(
      /^https:\/\/user:‹credential:[0-9a-f]{8}›@host\/x$/,
    );
    expect(redact('{"password":"a b","next":"c"}').text).toMatch(
      /^\{"password":"‹credential:[0-9a-f]{8}›","next":"c"\}$/,
    );
    expect(redact(String.raw`{"m":"{\"token\":\"a b\",\"next\":1}"}`).text).toMatch(
      /^\{"m":"\{\\"token\\":\\"‹credential:[0-9a-f]{8}›\\",\\"next\\":1\}"\}$/,
    );
  });
});

describe('pseudonyms', () => {
  it('are the same for the same original within a case, and different in another', () => {
    const [first, second, third] = redact('10.0.0.1 10.0.0.1 10.0.0.2').text.split(' ');
    expect(first).toBe(second);
    expect(third).not.toBe(first);
    const other = new Redactor({ rules, key: Buffer.alloc(32, 1) });
    expect(redact('10.0.0.1', undefined, other).text).not.toBe(first);
    expect(other.keyId).not.toBe(redactor.keyId);
    expect(redactor.keyId).toBe(caseKeyId(caseKey));
    expect(redact('FE80::A1').text).toBe(redact('fe80::a1').text);
  });

  it('cannot be forged by the input', () => {
    const result = redact('‹ip:deadbeef›');
    expect(result.text).toMatch(/^‹mark:[0-9a-f]{8}›$/);
    expect(result.text).not.toContain('deadbeef');
  });

  it('are recorded one to one, with line and HMAC', () => {
    const result = redact('one\ntwo 10.0.0.1\nthree\nfour 10.0.0.2 password=x\n');
    expect(result.records).toMatchObject([
      { line: 2, rule: 'ipv4-address' },
      { line: 4, rule: 'ipv4-address' },
      { line: 4, rule: 'password' },
    ]);
    const found = pseudonymsIn(result.bytes.toString('latin1'));
    result.records.forEach(({ hmac }, at) => {
      expect(hmac).toMatch(/^[0-9a-f]{64}$/);
      expect(hmac.startsWith(found[at]?.digits ?? 'none')).toBe(true);
    });
  });
});

describe('a stream', () => {
  it('gives the same whatever the chunks, and leaves all other bytes alone', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '10.0.0.1',
        `PrivateKey = ${key}`,
        'fe80::1',
        '\n',
        ' ',
        'alpha.example',
        '‹ip:00000000›',
      ),
      fc.string({ maxLength: 20 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), fc.integer({ min: 1, max: 50 }), (pieces, chunk) => {
        const text = pieces.join('');
        const whole = redact(text);
        expect(redact(text, chunk)).toEqual(whole);
        expect(pseudonymsIn(whole.bytes.toString('latin1'))).toHaveLength(whole.records.length);
      }),
      { numRuns: 200 },
    );
  });

  it('finds a secret across the edge of its window', () => {
    const edges = [(1 << 18) - 16_384, 1 << 18, 2 * (1 << 18) - 16_384];
    for (const edge of edges) {
      for (const shift of [-60, -30, -1, 0, 1]) {
        const text = `${'x'.repeat(edge + shift - 15)}\nPrivateKey = ${key}\n${'y'.repeat(1 << 20)} 10.0.0.1\n`;
        const result = redact(text, 65_536);
        expect(result.text).not.toContain(key);
        expect(result.records).toMatchObject([{ line: 2 }, { line: 3 }]);
      }
    }
  });

  it('begins anew after its end', () => {
    const stream = redactor.stream();
    const once = () => {
      const out = Buffer.concat([stream.write(Buffer.from('one\n10.0.0.1')), stream.end()]).toString();
      return { out, records: stream.takeRecords() };
    };
    expect(once()).toEqual(once());
  });

  it('passes binary unchanged', () => {
    const quiet = new Redactor({ rules: [], key: caseKey });
    const bytes = randomBytes(3 << 20);
    expect(Buffer.compare(redact(bytes, 65_536, quiet).bytes, bytes)).toBe(0);
  });
});

describe('a case key and a policy', () => {
  it('of another size are refused', () => {
    expect(() => new Redactor({ rules, key: Buffer.alloc(16) })).toThrow(/16 bytes, expected 32/);
  });

  it('are refused with file and line when wrong', () => {
    const directory = mkdtempSync(join(tmpdir(), 'ea-redact-'));
    try {
      const path = join(directory, 'redaction.toml');
      const check = (text: string, sample = 'of <<{hex:8}>>') => {
        writeFileSync(path, text.replace(/(pattern = .*\n)/, `$1sample = "${sample}"\n`));
        return () => readRedactionRules(path);
      };
      expect(check(`[[rules]]\nname = "x"\nkind = "ip"\npattern = '('\n`)).toThrow(
        /redaction\.toml:4: .*regular expression/,
      );
      expect(check(`[[rules]]\nname = "x"\nkind = "ip"\npattern = 'a*'\n`)).toThrow(
        /does not match the empty string/,
      );
      expect(check(`[[rules]]\nname = "x"\nkind = "IP!"\npattern = 'a'\n`)).toThrow(/redaction\.toml:3/);
      expect(check(`[[rules]]\nname = "x"\nkind = "ip"\npatern = 'a'\n`)).toThrow(/did you mean `pattern`/);
      const sound = `[[rules]]\nname = "x"\nkind = "ip"\npattern = 'a'\n`;
      expect(check(sound)()).toHaveLength(1);
      for (const sample of ['nothing to replace', '<<short>>', '<<{hex:8}>> and <<{hex:8}>>']) {
        expect(check(sound, sample)).toThrow(/redaction\.toml:5: .*<<…>>/);
      }
      expect(check('rules = []\n')()).toEqual([]);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
