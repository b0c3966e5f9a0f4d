// What node:crypto does not tell of an X.509 certificate: its key as it stands, which extensions are critical, and the TPM that
// an endorsement key certificate names (RFC 5280, section 4; TCG EK Credential Profile 2.5, section 3.2). Pure.
import { ASN1Obj } from '@sigstore/core';
import { Failure } from '../host/failure.ts';

export const oid = { ekCertificate: '2.23.133.8.1' } as const;

const extension = {
  subjectDirectoryAttributes: '2.5.29.9',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  crlDistributionPoints: '2.5.29.31',
  certificatePolicies: '2.5.29.32',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  authorityInformation: '1.3.6.1.5.5.7.1.1',
} as const;
const understood: readonly string[] = Object.values(extension);
const directoryName = 4;
/** tcg-at-tpmManufacturer, -Model and -Version. */
const tpmAttributes = ['2.23.133.2.1', '2.23.133.2.2', '2.23.133.2.3'];

/** Bits of keyUsage. */
const usageBits = { keyEncipherment: 2, keyAgreement: 4, keyCertSign: 5 } as const;
export type KeyUsage = keyof typeof usageBits;

export interface CertificateFields {
  /** subjectPublicKey: the key without the algorithm, which some makers give as RSAES-OAEP, unreadable to OpenSSL. */
  readonly subjectPublicKey: Uint8Array;
  /** Of those that matter here; undefined where the certificate does not say. */
  readonly keyUsage: readonly KeyUsage[] | undefined;
  /** Object identifiers; undefined where the certificate does not say. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  /** How many CAs may stand below this one; undefined for any number. */
  readonly pathLength: number | undefined;
  /** Manufacturer, model and version in the subject alternative name; undefined unless all are there. */
  readonly tpm: string | undefined;
  /** Object identifiers of critical extensions that are not understood. */
  readonly unknownCritical: readonly string[];
}

/** @throws Failure `certificate-invalid`. `der`: a whole certificate. */
export function certificateFields(der: Uint8Array): CertificateFields {
  try {
    return readFields(ASN1Obj.parseBuffer(Buffer.from(der)));
  } catch (cause) {
    throw new Failure('certificate-invalid', 'The certificate is not well-formed DER.', { cause });
  }
}

/** The same part of a SubjectPublicKeyInfo. @throws Failure `certificate-invalid` */
export function subjectPublicKeyOf(spki: Uint8Array): Uint8Array {
  try {
    return at(ASN1Obj.parseBuffer(Buffer.from(spki)), 1).value;
  } catch (cause) {
    throw new Failure('certificate-invalid', 'The public key is not well-formed DER.', { cause });
  }
}

function readFields(certificate: ASN1Obj): CertificateFields {
  const parts = at(certificate, 0).subs.filter(({ tag }) => !tag.isContextSpecific());
  const extensions = readExtensions(at(certificate, 0));
  const content = (id: string): ASN1Obj | undefined => extensions.find((one) => one.id === id)?.content;
  const constraints = content(extension.basicConstraints)?.subs ?? [];
  return {
    subjectPublicKey: at(at(parts, 5), 1).value,
    keyUsage: readKeyUsage(content(extension.keyUsage)),
    extendedKeyUsage: content(extension.extendedKeyUsage)?.subs.map((usage) => usage.toOID()),
    pathLength: optionalNumber(constraints.find(({ tag }) => tag.isInteger())),
    tpm: readTpm(content(extension.subjectAltName)),
    unknownCritical: extensions
      .filter((one) => one.critical && !understood.includes(one.id))
      .map(({ id }) => id),
  };
}

interface Extension {
  readonly id: string;
  readonly critical: boolean;
  readonly content: ASN1Obj | undefined;
}

function readExtensions(toBeSigned: ASN1Obj): Extension[] {
  const list = toBeSigned.subs.find(({ tag }) => tag.isContextSpecific(3));
  return (list?.subs[0]?.subs ?? []).map(({ subs }) => ({
    id: at(subs, 0).toOID(),
    critical: subs[1]?.tag.isBoolean() === true && subs[1].toBoolean(),
    content: subs.at(-1)?.subs[0],
  }));
}

function readKeyUsage(content: ASN1Obj | undefined): KeyUsage[] | undefined {
  const bits = content?.toBitString();
  if (bits === undefined) return undefined;
  return (Object.keys(usageBits) as KeyUsage[]).filter((usage) => bits[usageBits[usage]] === 1);
}

function readTpm(alternativeNames: ASN1Obj | undefined): string | undefined {
  const names = alternativeNames?.subs.filter(({ tag }) => tag.isContextSpecific(directoryName)) ?? [];
  const attributes = new Map(names.flatMap(attributesIn));
  const values = tpmAttributes.map((id) => attributes.get(id));
  return values.every((value) => value !== undefined) ? values.join(' ') : undefined;
}

/** AttributeTypeAndValue pairs at any depth: makers nest them differently. */
function attributesIn(node: ASN1Obj): [string, string][] {
  const [type, value] = node.subs;
  if (type?.tag.isOID() && value !== undefined) return [[type.toOID(), value.value.toString('latin1')]];
  return node.subs.flatMap(attributesIn);
}

const optionalNumber = (integer: ASN1Obj | undefined): number | undefined =>
  integer === undefined ? undefined : Number(integer.toInteger());

function at(parent: ASN1Obj | readonly ASN1Obj[], index: number): ASN1Obj {
  const child = ('subs' in parent ? parent.subs : parent)[index];
  if (child === undefined) throw new RangeError(`There is no element ${index}.`);
  return child;
}
