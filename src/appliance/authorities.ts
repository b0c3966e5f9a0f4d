// The two keys that can open what a node seals: the policy signer, which approves states, and the recovery key. The node knows
// their public halves. Where the configuration names none, private keys in the state directory stand in for them, so that one
// command provisions a node of a developer's; `assurance` says so.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readIfPresent, writeDurably } from '../host/durable.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';
import type { PolicyAuthorities } from '../keys/policy.ts';
import { signerName } from '../tpm/external.ts';
import type { Config } from './config.ts';
import type { StateLayout } from './state-layout.ts';

/** How `assurance` and its readers name the stand-ins. */
export const developmentStandIn = {
  signer: 'development policy signer',
  recovery: 'development recovery key',
} as const;
type Authority = keyof typeof developmentStandIn;

/** The stand-ins of a configuration. */
export function developmentStandIns({ tpm }: Config): string[] {
  if (tpm.mode === 'none') return [];
  return [
    ...(tpm.policy_signer === '' ? [developmentStandIn.signer] : []),
    ...(tpm.recovery_key === '' ? [developmentStandIn.recovery] : []),
  ];
}

/**
 * PEM of the public halves. Development keys are made where they are missing.
 * @throws Failure `authority-unreadable`, `signer-unsupported` (not ECDSA P-256).
 */
export function authoritiesOf({ tpm }: Config, layout: StateLayout): PolicyAuthorities {
  const of = (authority: Authority, path: string): string => {
    const pem = path === '' ? publicPem(developmentKey(layout, authority)) : readPublicKey(path);
    signerName(pem); // Refuses what a TPM could not use.
    return pem;
  };
  return { signer: of('signer', tpm.policy_signer), recovery: of('recovery', tpm.recovery_key) };
}

/** The policy signer's private key, on a node of a developer's; undefined on every other. */
export function developmentSigner({ tpm }: Config, layout: StateLayout): KeyObject | undefined {
  return tpm.mode === 'none' || tpm.policy_signer !== '' ? undefined : developmentKey(layout, 'signer');
}

/** A new ECDSA P-256 key pair in two files: PATH (PKCS#8, its owner's alone) and PATH.pub. Neither may exist. */
export function generateAuthority(path: string): { readonly privateKey: string; readonly publicKey: string } {
  const publicKey = `${path}.pub`;
  for (const file of [path, publicKey]) {
    if (readIfPresent(file) === undefined) continue;
    throw new Failure('key-exists', `${file} exists already.`, {
      kept: 'It was not overwritten: what was sealed to it would never open again.',
      remedy: 'Give another name, or move the old key away first.',
      status: exitStatus.usage,
    });
  }
  const key = writeNewKey(path);
  writeDurably(publicKey, publicPem(key), 0o644);
  return { privateKey: path, publicKey };
}

/** @throws Failure `authority-unreadable`. */
export function readPrivateKey(path: string): KeyObject {
  return readKey(path, 'private', createPrivateKey);
}

/** PEM (SubjectPublicKeyInfo). A private key is refused here: it has no place on a node. */
function readPublicKey(path: string): string {
  const text = readKey(path, 'public', (pem) => pem.toString('latin1'));
  if (/PRIVATE KEY/.test(text)) {
    throw new Failure('authority-private', `${path} holds a private key; the node needs the public one.`, {
      kept: 'Nothing was sealed to it.',
      remedy: 'Keep the private key off this node, and put its public half (`openssl pkey -pubout`) here.',
      status: exitStatus.usage,
    });
  }
  return readKey(path, 'public', (pem) => publicPem(createPublicKey(pem)));
}

function readKey<T>(path: string, half: string, read: (pem: Buffer) => T): T {
  try {
    return read(readFileSync(path));
  } catch (cause) {
    throw new Failure('authority-unreadable', `${path} holds no ${half} key: ${reasonOf(cause)}.`, {
      kept: 'Nothing was sealed or signed.',
      remedy: `Give the ${half} half of an ECDSA P-256 key in PEM; \`esoteric-appliance approve --generate FILE\` makes a pair.`,
      status: exitStatus.usage,
      cause,
    });
  }
}

function developmentKey(layout: StateLayout, authority: Authority): KeyObject {
  const path = join(layout.development, `${authority}.pem`);
  const present = readIfPresent(path);
  if (present !== undefined) return readPrivateKey(path);
  mkdirSync(layout.development, { recursive: true, mode: 0o700 });
  chmodSync(layout.development, 0o700);
  return writeNewKey(path);
}

function writeNewKey(path: string): KeyObject {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeDurably(path, privateKey.export({ type: 'pkcs8', format: 'pem' }));
  return privateKey;
}

const publicPem = (key: KeyObject): string =>
  createPublicKey(
    key.type === 'private'
      ? key.export({ type: 'pkcs8', format: 'pem' })
      : key.export({ type: 'spki', format: 'pem' }),
  )
    .export({ type: 'spki', format: 'pem' })
    .toString();
