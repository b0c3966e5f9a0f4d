// What a relying party asks of a bundle, read from policies/verify.toml.

import { readToml } from '../host/toml.ts';
import { z } from '../host/zod.ts';
import { claimNames, seriesClaimNames } from './claims.ts';

const bytes = z.number().int().positive();
const defaults = {
  archive_bytes: 2 ** 31,
  content_bytes: 2 ** 34,
  members: 4096,
  ratio: 200,
  kept_bytes: 2 ** 29,
};

export const verifyPolicySchema = z
  .strictObject({
    may_be_unproven: z.array(z.enum([...claimNames, ...seriesClaimNames])).default([]),
    identity: z.strictObject({ subject: z.string().min(1), issuer: z.string().min(1) }).optional(),
    enrolment: z
      .strictObject({ ek_ca: z.string().default(''), enrolled_by: z.string().default('') })
      .default({ ek_ca: '', enrolled_by: '' }),
    program: z
      .strictObject({ required: z.array(z.enum(['provenance', 'sbom'])).default([]) })
      .default({ required: [] }),
    limits: z
      .strictObject({
        archive_bytes: bytes.default(defaults.archive_bytes),
        content_bytes: bytes.default(defaults.content_bytes),
        members: bytes.default(defaults.members),
        ratio: bytes.default(defaults.ratio),
        kept_bytes: bytes.default(defaults.kept_bytes),
      })
      .default(defaults),
  })
  .transform(({ may_be_unproven, identity, enrolment, program, limits }) => ({
    mayBeUnproven: may_be_unproven,
    /** Compared exactly. Null: no identity is expected. */
    identity: identity ?? null,
    /** Paths as the file has them; empty for none. */
    enrolment: { ekCa: enrolment.ek_ca, enrolledBy: enrolment.enrolled_by },
    /** What the node must have verified of its own program. */
    requiredOfProgram: program.required,
    limits: {
      archiveBytes: limits.archive_bytes,
      contentBytes: limits.content_bytes,
      members: limits.members,
      ratio: limits.ratio,
      keptBytes: limits.kept_bytes,
    },
  }));

export type VerifyPolicy = z.infer<typeof verifyPolicySchema>;

/** What holds where no policy file is given. */
export const defaultVerifyPolicy: VerifyPolicy = verifyPolicySchema.parse({});

/** @throws Failure `config-missing` or `config-invalid`, naming file and line. */
export const readVerifyPolicy = (path: string): VerifyPolicy => readToml(path, verifyPolicySchema);
