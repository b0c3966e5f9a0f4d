// An archive's statement, signed by a P-256 key that stands in for the one in the TPM: the same bytes, in software.

import { generateKeyPairSync, sign } from 'node:crypto';
import { fulcioChallenge, preAuthEncoding } from '../../src/attestation/dsse.ts';
import { bareBundle, type SigstoreBundle } from '../../src/attestation/sigstore-bundle.ts';
import {
  type BundlePredicate,
  makeStatement,
  statementPayloadType,
} from '../../src/attestation/statement.ts';

export const archiveSha256 = '8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4';
export const subject = 'https://example.org/nodes/alpha';

export const predicate: BundlePredicate = {
  node: 'alpha',
  sequence: 7,
  created: '2026-11-20T12:00:00.000Z',
  reason: 'unplanned flap on eth1',
  assurance: { tpm: 'simulator', sigstore: 'pending', standIns: ['swtpm'], notes: [] },
  manifestDigest: { sha256: '00'.repeat(32) },
  quote: { attest: 'AAEC', signature: 'AwQF', pcrs: { bank: 'sha256', values: { '0': '11'.repeat(32) } } },
  eventLog: { path: 'evidence/eventlog.bin', sha256: '22'.repeat(32) },
  clock: { clock: '123456', resetCount: 1, restartCount: 0, safe: true },
  signingKeyCertification: { attest: 'AAEC', signature: 'AwQF' },
  custodyHead: { sequence: 42, hash: '33'.repeat(32) },
};

export interface SignedArchive {
  readonly publicKeyPem: string;
  readonly statement: Uint8Array;
  readonly pending: SigstoreBundle;
  readonly proofOfPossession: { readonly subject: string; readonly signatureDer: Uint8Array };
  sign(bytes: Uint8Array): Uint8Array;
}

export function signedArchive(
  about: { predicate?: BundlePredicate; statement?: Uint8Array } = {},
): SignedArchive {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const publicKeyPem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const signature = (bytes: Uint8Array): Uint8Array => sign('sha256', bytes, privateKey);
  const statement =
    about.statement ??
    makeStatement({
      archiveName: 'alpha-7-20261120T120000Z.tar.gz',
      archiveSha256,
      predicate: about.predicate ?? predicate,
    });
  const signatureDer = signature(preAuthEncoding(statementPayloadType, statement));
  return {
    publicKeyPem,
    statement,
    pending: bareBundle({ statement, signatureDer, publicKeyPem }),
    proofOfPossession: { subject, signatureDer: signature(fulcioChallenge(subject)) },
    sign: signature,
  };
}
