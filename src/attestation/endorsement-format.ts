// The endorsement of a TPM as records hold it: endorsement keys with their certificates, and who had the TPM prove that it holds them
// (TCG EK Credential Profile 2.5; RFC 9334, endorsements). Its judging is in endorsement.ts and activation.ts.
import { z } from '../host/zod.ts';
import { base64, sha256Hex, time } from './encoding.ts';

const kind = z.enum(['rsa', 'ecc']);

/** Who had the TPM prove that it holds both keys, and when; only in a record that a relying party wrote: activation.ts. */
export const activationSchema = z.object({
  by: z.string().min(1).max(253),
  at: time,
  /** The endorsement key that activated. */
  kind,
  /** Hex SHA-256 of the SubjectPublicKeyInfo of the relying party's key. */
  signer: sha256Hex,
  /** Over the whole record: DER, ECDSA P-256 with SHA-256. */
  signature: base64.max(200),
});

/** Public areas are TPMT_PUBLIC, certificates DER; what stands here is public and told by the node. */
export const endorsementSchema = z.object({
  keys: z
    .array(z.object({ kind, public: base64.max(4096), certificate: base64.max(16_384).nullable() }))
    .min(1)
    .max(2)
    .refine(
      (keys) => new Set(keys.map((key) => key.kind)).size === keys.length,
      'expected one key of a kind',
    ),
  /** Between the maker's root and the certificates. */
  intermediates: z.array(base64.max(16_384)).max(8),
  activation: activationSchema.exactOptional(),
});
export type Endorsement = z.infer<typeof endorsementSchema>;
export type EndorsementKey = Endorsement['keys'][number];

const outcome = z.object({ result: z.enum(['proven', 'failed', 'not-proven']), detail: z.string() });

/** In the node's own record. `chain` and `activation` are of the key of `kind`, as provisioning found them. */
export const nodeEndorsementSchema = z.object({
  keys: endorsementSchema.shape.keys,
  intermediates: endorsementSchema.shape.intermediates,
  kind,
  chain: outcome,
  activation: outcome,
});
export type NodeEndorsement = z.infer<typeof nodeEndorsementSchema>;
