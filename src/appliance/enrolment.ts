// The enrolment record of this node, made of what provisioning noted; relying parties keep it (src/attestation/enrolment.ts).

import type { NodeEndorsement } from '../attestation/endorsement-format.ts';
import type { EnrolmentRecord } from '../attestation/enrolment.ts';
import { utcNow } from '../host/time.ts';
import { type Anchors, handleText, pemOf } from '../keys/anchors.ts';
import { readSealedKey } from '../keys/sealed.ts';
import type { NodeRecord } from './node-record.ts';
import type { StateLayout } from './state-layout.ts';

/**
 * The enrolment record of a provisioned node, as of now: `created` is when it was written, beside the custody head of then. `volatileKeys` are the public halves that a node without a TPM has made for
 * this run.
 */
export function enrolmentOf(
  record: NodeRecord,
  layout: StateLayout,
  custodyHead: EnrolmentRecord['custodyHead'],
  volatileKeys: EnrolmentRecord['keys'] = [],
): EnrolmentRecord {
  const sealed = record.keys.flatMap((key) => {
    const publicKey = readSealedKey(layout.directory, key.name)?.publicKey;
    return publicKey == null ? [] : [{ ...key, publicKey }];
  });
  const { tpm } = record;
  return {
    format: 'esoteric-appliance-enrolment/1',
    node: record.node,
    role: record.role,
    created: utcNow(),
    assurance: record.assurance,
    tpm: tpm === null ? null : tpmEnrolment(tpm),
    keys: tpm === null ? [...volatileKeys] : sealed,
    custodyHead,
    ...(tpm?.endorsement === undefined ? {} : { endorsement: told(tpm.endorsement) }),
  };
}

/** What others can check; what came of it here is this node's own affair. */
const told = ({ keys, intermediates }: NodeEndorsement): NonNullable<EnrolmentRecord['endorsement']> => ({
  keys,
  intermediates,
});

function tpmEnrolment(tpm: Anchors & NonNullable<NodeRecord['tpm']>): NonNullable<EnrolmentRecord['tpm']> {
  return {
    manufacturer: tpm.manufacturer,
    firmware: tpm.firmware,
    srk: { handle: handleText(tpm.srk.handle), name: tpm.srk.name },
    ak: {
      handle: handleText(tpm.ak.handle),
      name: tpm.ak.name,
      public: tpm.ak.public,
      publicKey: pemOf(tpm.ak.public),
    },
    signingKey: {
      name: tpm.signingKey.name,
      public: tpm.signingKey.public,
      publicKey: pemOf(tpm.signingKey.public),
      certification: tpm.signingKey.certification,
    },
    pcrPolicy: { bank: 'sha256', pcrs: tpm.pcrs },
    capPcr: tpm.capPcr,
    resetCount: tpm.resetCount,
    restartCount: tpm.restartCount,
    nv: {
      sequence: handleText(tpm.sequenceIndex),
      armed: handleText(tpm.armedIndex),
      custody: handleText(tpm.custodyIndex),
    },
  };
}
