// Members of a bundle that say how this node is set up and how it stands, whether it runs or not: configuration, doctor, PCRs,
// certificates, noise sources.
import { hash, X509Certificate } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type { Collector } from '../forensics/collect.ts';
import { Failure } from '../host/failure.ts';
import type { BundleSubject } from './bundle-members.ts';
import { renderConfig } from './config.ts';
import { examine } from './doctor.ts';
import { scanSources } from './entropy-sources.ts';
import type { NodeKeys } from './node-keys.ts';
import { readCertificates } from './pins.ts';
import { policyPath } from './policies.ts';

const mebibyte = 1 << 20;
const allPcrs = Array.from({ length: 24 }, (_, pcr) => pcr);

/** `keys`: null where the TPM is of no use, or is bypassed. */
export function nodeMembers(node: BundleSubject, keys: NodeKeys | null): Collector[] {
  const { config, layout, record } = node;
  return [
    ...(record.tpm === null || config.tpm.mode === 'none' ? [] : [pcrs(keys)]),
    member('entropy audit', 'entropy/audit.json', {
      source: 'What each noise source counts on this machine and why: availability, policy, assessments',
      volatility: 'disk',
      gather: async () => json({ sources: scanSources(config, layout.directory) }),
    }),
    member('configuration', 'evidence/configuration.toml', {
      source: 'The configuration that holds, with its defaults; secrets are never in it',
      volatility: 'disk',
      gather: async () => renderConfig(config),
    }),
    member('policies', 'evidence/policies.json', {
      source: 'policies/*.toml and forensics.redaction_rules: the digests of the rules that decide',
      volatility: 'disk',
      gather: async () => json(await policies(node)),
    }),
    member('certificates', 'evidence/certificates.json', {
      source:
        'Endorsement of the TPM as provisioning found it, and the digests of the certificates and keys that are configured to be trusted',
      volatility: 'disk',
      gather: async () => json(await certificates(node)),
    }),
    member('doctor', 'evidence/doctor.json', {
      source: '`doctor`: what this machine can and cannot do for a node',
      volatility: 'configuration',
      gather: async () => json(await examine(config)),
    }),
  ];
}

function pcrs(keys: NodeKeys | null): Collector {
  return member('PCRs', 'evidence/pcrs.json', {
    source: 'All PCRs of the SHA-256 bank; those that the quote covers are proven by it, the others are not',
    volatility: 'memory',
    gather: async () => {
      if (keys === null) throw new Failure('tpm-unreachable', 'the TPM is of no use');
      const values = await keys.use((tpm) => tpm.pcrRead('sha256', allPcrs));
      const entries = [...values].map(([pcr, value]) => [pcr, Buffer.from(value).toString('hex')]);
      return json({ sha256: Object.fromEntries(entries) });
    },
  });
}

async function certificates({ config, record }: BundleSubject): Promise<object> {
  const { ek_ca: ekCa, policy_signer: signer, recovery_key: recovery } = config.tpm;
  const { trusted_root: root } = config.sigstore;
  const files = [signer, recovery, root, config.interlock.command_key].filter((path) => path !== '');
  return {
    endorsement: record.tpm?.endorsement ?? null,
    endorsementAuthorities:
      ekCa === ''
        ? []
        : readCertificates(ekCa).map((der) => {
            const { subject, fingerprint256 } = new X509Certificate(der);
            return { subject, fingerprint256 };
          }),
    files: Object.fromEntries(await Promise.all(files.map(async (path) => [path, await digestOf(path)]))),
  };
}

/** Null for rules that cannot be read: the bundle of a zeroize does without. */
async function policies({ config }: BundleSubject): Promise<object> {
  const { redaction_rules: added } = config.forensics;
  const shipped = await digestsOf(policyPath(''));
  return added === '' ? shipped : { ...shipped, [added]: await digestOf(added).catch(() => null) };
}

async function digestsOf(directory: string): Promise<object> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.toml')).sort();
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await digestOf(`${directory}${name}`)])),
  );
}

const digestOf = async (path: string): Promise<string> => hash('sha256', await readFile(path));

const member = (
  name: string,
  path: string,
  about: Pick<Collector, 'source' | 'volatility' | 'gather'>,
): Collector => ({ name, path, limitBytes: mebibyte, redact: true, ...about });

const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;
