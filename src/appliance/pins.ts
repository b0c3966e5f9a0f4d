// What a verifier holds to judge nodes by: a directory of TPM makers' CA certificates, and the public keys of those who enrol.
// Mistakes are named by file, for each of them would otherwise show as a node that cannot be proven.
import { createPublicKey, X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { requireP256 } from '../attestation/activation.ts';
import type { EnrolmentTrust } from '../attestation/enrolment-appraisal.ts';
import { attempt } from '../attestation/verdict.ts';
import { exitStatus, Failure, reasonOf } from '../host/failure.ts';

const largestFile = 1 << 20;
const mostCertificates = 4096;
const pemCertificate = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;
const pemPublicKey = /-----BEGIN PUBLIC KEY-----[\s\S]+?-----END PUBLIC KEY-----/g;

/** Paths as the caller was given them; undefined or empty for none. */
export interface TrustPaths {
  readonly ekCa?: string | undefined;
  readonly enrolledBy?: string | undefined;
}

/** `given` stands above what a policy file says, whose paths are relative to it. @throws as `readCertificates`, `readEnrollers`. */
export function readTrust(
  given: TrustPaths,
  policy?: {
    readonly path: string;
    readonly enrolment: { readonly ekCa: string; readonly enrolledBy: string };
  },
): EnrolmentTrust {
  const beside = (path: string | undefined): string =>
    path === undefined || path === '' || policy === undefined ? '' : resolve(dirname(policy.path), path);
  const ekCa = given.ekCa ?? beside(policy?.enrolment.ekCa);
  const enrolledBy = given.enrolledBy ?? beside(policy?.enrolment.enrolledBy);
  return {
    pinned: ekCa === '' ? [] : readCertificates(ekCa),
    enrollers: enrolledBy === '' ? [] : readEnrollers(enrolledBy),
  };
}

/**
 * Every certificate below a directory, in DER: files in DER, or in PEM with any number in one. Hidden files are left out.
 * @throws Failure `ek-ca-missing`, `ek-ca-invalid` naming the file; status 2.
 */
export function readCertificates(directory: string): Uint8Array[] {
  if (!existsSync(directory) || !statSync(directory).isDirectory())
    throw unusable('ek-ca-missing', `There is no directory ${directory} of CA certificates`);
  const files = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && !entry.name.startsWith('.'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  const certificates = files.flatMap(certificatesIn);
  if (certificates.length === 0) throw unusable('ek-ca-invalid', `${directory} holds no certificate`);
  if (certificates.length > mostCertificates)
    throw unusable('ek-ca-invalid', `${directory} holds more than ${mostCertificates} certificates`);
  return certificates;
}

function certificatesIn(path: string): Uint8Array[] {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found?.isFile()) throw unusable('ek-ca-invalid', `${path} is no file`);
  if (found.size > largestFile) throw unusable('ek-ca-invalid', `${path} is larger than a certificate`);
  const content = readFileSync(path);
  const blocks = content.toString('latin1').match(pemCertificate);
  return (blocks ?? [content]).map((block) => {
    const { value } = attempt(() => new X509Certificate(block));
    if (value === undefined)
      throw unusable('ek-ca-invalid', `${path} cannot be taken: it is no certificate in DER or PEM`);
    if (!value.ca) throw unusable('ek-ca-invalid', `${path} cannot be taken: it is the certificate of no CA`);
    return value.raw;
  });
}

/**
 * The public keys in a PEM file, each in PEM.
 * @throws Failure `enrolled-by-missing`, `enrolled-by-invalid`; status 2.
 */
export function readEnrollers(path: string): string[] {
  if (!existsSync(path)) throw unusable('enrolled-by-missing', `There is no file ${path} of public keys`);
  const blocks = readFileSync(path, 'latin1').match(pemPublicKey) ?? [];
  if (blocks.length === 0) throw unusable('enrolled-by-invalid', `${path} holds no public key in PEM`);
  try {
    for (const block of blocks) requireP256(createPublicKey(block));
    return [...blocks];
  } catch (cause) {
    throw unusable('enrolled-by-invalid', `${path} cannot be taken: ${reasonOf(cause)}`);
  }
}

function unusable(code: string, what: string): Failure {
  return new Failure(code, `${what.replace(/\.$/, '')}.`, {
    kept: 'Nothing was judged or made.',
    remedy: code.startsWith('ek-ca')
      ? 'Give a directory that holds nothing but certificates of TPM makers’ CAs, in DER or PEM: copy them into one of their own where other files lie beside them, as swtpm_localca’s `certserial` and keys do.'
      : 'Give the .pub file that `esoteric-appliance attest enrol` wrote beside the verifier’s key.',
    status: exitStatus.usage,
  });
}
