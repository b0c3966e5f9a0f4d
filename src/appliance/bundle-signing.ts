// The statement about a bundle: a quote over the archive's digest, the counters and the custody head as the TPM certifies them, all
// signed by the node's signing key.
import { fulcioChallenge, preAuthEncoding } from '../attestation/dsse.ts';
import { bareBundle } from '../attestation/sigstore-bundle.ts';
import { type BundlePredicate, makeStatement, statementPayloadType } from '../attestation/statement.ts';
import { unsignedBundle } from '../attestation/unsigned.ts';
import type { CustodyLog } from '../custody/log.ts';
import type { Manifest } from '../forensics/format.ts';
import { reasonOf } from '../host/failure.ts';
import { parseAttest, publicKeyPem } from '../tpm/structures.ts';
import { eventLogPath } from './bundle-members.ts';
import type { Config } from './config.ts';
import { type Anchored, type NodeKeys, signedText } from './node-keys.ts';
import type { NodeRecord } from './node-record.ts';
import { appraiseProgram, type ProgramAppraisal } from './program.ts';

export interface Signed {
  readonly bundle: unknown;
  readonly by: 'tpm' | 'nobody';
  /** Proof of possession for Fulcio, made beforehand so that the courier needs no signing oracle. */
  readonly challenge: { readonly subject: string; readonly signature: string } | null;
}

/** Whose bundle it is. `keys` is null where the TPM cannot be reached or is bypassed. */
export interface Signer {
  readonly config: Config;
  readonly record: NodeRecord;
  readonly custody: CustodyLog;
  readonly keys: NodeKeys | null;
  /** As it was found when this program started; looked at now where it was not. */
  readonly program?: ProgramAppraisal | undefined;
}

/** `name`: of the archive before it is encrypted. Where the TPM does not sign, the statement stays unsigned and says so. */
export async function signBundle(
  { record, keys, custody, config, program }: Signer,
  manifest: Manifest,
  packed: { readonly sha256: string; readonly manifestSha256: string },
  name: string,
  custodyState: {
    readonly custodyHead: BundlePredicate['custodyHead'];
    readonly anchored: Anchored | undefined;
  },
): Promise<Signed> {
  const quoted = keys === null ? null : await keys.quote(Buffer.from(packed.sha256, 'hex')).catch(() => null);
  const attest = quoted === null ? null : parseAttest(quoted.attest);
  const counters = await keys?.certifyCounters(Buffer.from(packed.sha256, 'hex')).catch(() => undefined);
  const certified = custodyState.anchored?.certification;
  const log = manifest.files.find(({ path }) => path === eventLogPath);
  const predicate: BundlePredicate = {
    node: record.node,
    sequence: manifest.sequence,
    created: manifest.created,
    reason: manifest.reason,
    assurance: manifest.assurance,
    manifestDigest: { sha256: packed.manifestSha256 },
    quote:
      quoted === null
        ? null
        : {
            ...signedText(quoted),
            pcrs: { bank: 'sha256', values: quoted.pcrs },
          },
    eventLog: log === undefined || log.error !== undefined ? null : { path: log.path, sha256: log.sha256 },
    clock:
      attest === null
        ? null
        : {
            clock: attest.clock.toString(),
            resetCount: attest.resetCount,
            restartCount: attest.restartCount,
            safe: attest.safe,
          },
    signingKeyCertification: record.tpm === null ? null : record.tpm.signingKey.certification,
    nv:
      counters === undefined || certified == null
        ? null
        : {
            sequence: signedText(counters.sequence),
            armed: signedText(counters.armed),
            custody: signedText(certified),
          },
    custodyHead: custodyState.custodyHead,
    program: stated(program ?? (await appraiseProgram(config))),
  };
  const statement = makeStatement({ archiveName: name, archiveSha256: packed.sha256, predicate });
  if (keys === null || record.tpm === null) {
    return { bundle: unsignedBundle(statement), by: 'nobody', challenge: null };
  }
  try {
    const signature = await keys.sign(preAuthEncoding(statementPayloadType, statement));
    const publicKeyPemText = publicKeyPem(Buffer.from(record.tpm.signingKey.public, 'base64'));
    const { identity, fulcio } = config.sigstore;
    const wanted = fulcio !== '' && identity !== '' && config.sigstore.mode === 'on';
    return {
      bundle: bareBundle({ statement, signatureDer: signature, publicKeyPem: publicKeyPemText }),
      by: 'tpm',
      challenge: wanted
        ? {
            subject: identity,
            signature: Buffer.from(await keys.sign(fulcioChallenge(identity))).toString('base64'),
          }
        : null,
    };
  } catch (error) {
    custody.append('bundle-unsigned', { sequence: manifest.sequence, why: reasonOf(error) });
    return { bundle: unsignedBundle(statement), by: 'nobody', challenge: null };
  }
}

const stated = ({ version, digest, changed, provenance, sbom }: ProgramAppraisal) => ({
  version,
  digest: digest === null ? null : { sha256: digest.sha256 },
  changed: [...changed],
  provenance: { ...provenance },
  sbom: { ...sbom },
});
