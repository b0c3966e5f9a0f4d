// `collect-forensics --dry-run`: what a bundle would hold and how large it would be. Everything is read as for a bundle, and nothing is
// written: no number is used up, the custody log tells nothing, the TPM is only read.
import { measure } from '../forensics/collect.ts';
import { Failure } from '../host/failure.ts';
import { diskRoom, requireTurn, roomFor } from './bundle-limits.ts';
import { membersOf, runOptions } from './bundle-plan.ts';
import type { BundleRequest, EvidenceContext } from './evidence.ts';

/** The JSON contract of `collect-forensics --dry-run --json` (docs/cli.md). */
export interface Preview {
  /** In the order in which they would be collected. */
  readonly members: readonly {
    readonly name: string;
    readonly path: string;
    readonly source: string;
    readonly volatility: string;
    readonly limitBytes: number;
    readonly redacted: boolean;
    /** As they are read; redaction changes it somewhat. */
    readonly bytes: number;
    readonly status: 'ok' | 'failed' | 'truncated' | 'empty';
    readonly detail: string;
  }[];
  /** Of all members; the archive is smaller. */
  readonly bytes: number;
  readonly disk: {
    readonly free: number;
    /** What has to stay free. */
    readonly keptFree: number;
    /** The members would not all fit, so that the largest would be cut. */
    readonly cut: boolean;
  };
  /** Why no bundle would be made now; null where one would. */
  readonly refused: { readonly code: string; readonly message: string } | null;
}

export async function previewBundle(
  context: Pick<EvidenceContext, 'config' | 'layout' | 'record' | 'keys' | 'collectors'>,
  request: BundleRequest,
  onProgress: (step: string) => void,
): Promise<Preview> {
  const { config, layout } = context;
  const collectors = membersOf(context, request);
  const measured = await measure(collectors, runOptions(collectors, onProgress));
  const bytes = measured.reduce((sum, one) => sum + one.bytes, 0);
  let room = 0;
  const refused = await refusalOf(async () => {
    await requireTurn(config, layout, 'hand');
    room = roomFor(config, layout, 'hand').left;
  });
  return {
    members: measured.map(({ collector, bytes: read, outcome }) => ({
      name: collector.name,
      path: collector.path,
      source: collector.source,
      volatility: collector.volatility,
      limitBytes: collector.limitBytes,
      redacted: collector.redact,
      bytes: read,
      status: outcome.status,
      detail: outcome.detail,
    })),
    bytes,
    disk: { ...diskRoom(config, layout, 'hand'), cut: refused === null && bytes > room },
    refused,
  };
}

async function refusalOf(look: () => Promise<void>): Promise<Preview['refused']> {
  try {
    await look();
    return null;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { code: error.code, message: error.message };
  }
}
