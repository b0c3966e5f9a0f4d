// Makers of TPMs for tests: swtpm's own local CA, and certificates with anything wrong that openssl can write.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { requireChild } from '../../src/host/child.ts';

/** What `swtpm_setup --create-ek-cert` leaves: a TPM's state with a certified endorsement key, and the CA's certificates. */
export async function manufactureTpm(
  directory: string,
): Promise<{ state: string; issuer: Buffer; root: Buffer }> {
  const at = (name: string) => join(directory, name);
  for (const name of ['ca', 'state']) mkdirSync(at(name), { recursive: true });
  const configuration = {
    statedir: at('ca'),
    signingkey: at('ca/signkey.pem'),
    issuercert: at('ca/issuercert.pem'),
    certserial: at('ca/certserial'),
  };
  const lines = (pairs: Record<string, string>) =>
    Object.entries(pairs)
      .map(([name, value]) => `${name} = ${value}\n`)
      .join('');
  writeFileSync(at('localca.conf'), lines(configuration));
  writeFileSync(
    at('localca.options'),
    '--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n',
  );
  writeFileSync(
    at('setup.conf'),
    lines({
      create_certs_tool: '/usr/bin/swtpm_localca',
      create_certs_tool_config: at('localca.conf'),
      create_certs_tool_options: at('localca.options'),
      active_pcr_banks: 'sha256',
    }),
  );
  // biome-ignore format: one option and its value a line
  await requireChild('swtpm_setup', [
    '--tpm2', '--create-ek-cert',
    '--runas', 'root',
    '--tpm-state', `dir://${at('state')}`,
    '--config', at('setup.conf'),
    '--logfile', at('setup.log'),
  ], { timeoutMilliseconds: 30_000 });
  return {
    state: at('state'),
    issuer: readFileSync(at('ca/issuercert.pem')),
    root: readFileSync(at('ca/swtpm-localca-rootca-cert.pem')),
  };
}

/** The subject alternative name that an endorsement key certificate has, critical as its subject is empty. */
export const tpmName =
  'subjectAltName=critical,dirName:tpm\n[tpm]\n1.2.23.133.2.1=id:54455354\n2.2.23.133.2.2=model\n3.2.23.133.2.3=id:00010000\n';
export const endorsementUsage = 'keyUsage=critical,keyAgreement\nextendedKeyUsage=2.23.133.8.1\n';
export const authorityUsage = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n';

export interface Issued {
  /** Name of its files. */
  readonly name: string;
  readonly pem: Buffer;
}

/** A maker's CA with certificates of openssl; everything lies in `directory`. */
export class Maker {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** A CA, self-signed unless `by` another. `extensions`: in the form of openssl's configuration. */
  async authority(name: string, by?: Issued, extensions = authorityUsage): Promise<Issued> {
    const key = this.#at(`${name}.key`);
    await requireChild('openssl', [
      'genpkey',
      '-algorithm',
      'EC',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-out',
      key,
    ]);
    const subject = ['-subj', `/CN=${name}`];
    const own = by === undefined ? ['-key', key] : ['-force_pubkey', await this.#publicHalf(name)];
    return this.#issue(name, [...subject, ...own], by, extensions, 30);
  }

  /** A certificate for a public key given in PEM. */
  certify(name: string, publicKey: string, by: Issued, extensions: string, days = 30): Promise<Issued> {
    const path = this.#at(`${name}.pub`);
    writeFileSync(path, publicKey);
    return this.#issue(name, ['-subj', '/', '-force_pubkey', path], by, extensions, days);
  }

  async #issue(
    name: string,
    what: string[],
    by: Issued | undefined,
    extensions: string,
    days: number,
  ): Promise<Issued> {
    const [extensionFile, path] = [this.#at(`${name}.ext`), this.#at(`${name}.pem`)];
    writeFileSync(extensionFile, extensions);
    const issuer =
      by === undefined ? [] : ['-CA', this.#at(`${by.name}.pem`), '-CAkey', this.#at(`${by.name}.key`)];
    const args = [
      'x509',
      '-new',
      ...what,
      ...issuer,
      '-days',
      String(days),
      '-extfile',
      extensionFile,
      '-out',
      path,
    ];
    await requireChild('openssl', args);
    return { name, pem: readFileSync(path) };
  }

  async #publicHalf(name: string): Promise<string> {
    const path = this.#at(`${name}.own.pub`);
    await requireChild('openssl', ['pkey', '-in', this.#at(`${name}.key`), '-pubout', '-out', path]);
    return path;
  }

  #at(name: string): string {
    return join(this.#directory, name);
  }
}
