// At the start of a node: that it could make a bundle, and that those which lie there go their way.
import type { CustodyLog } from '../custody/log.ts';
import { reasonOf } from '../host/failure.ts';
import type { Announcer } from './announce.ts';
import type { BundleSubject } from './bundle-members.ts';
import { requireEvidenceSettings } from './evidence.ts';
import { handOverLeftBehind } from './handover.ts';

/** What is in the way is an alert, and not the end of the start: a node without evidence is better than none. */
export async function readyForEvidence(
  node: BundleSubject & { readonly custody: CustodyLog; readonly announcer: Announcer },
): Promise<void> {
  try {
    await handOverLeftBehind(node);
    await requireEvidenceSettings(node.config);
  } catch (error) {
    const { node: name } = node.record;
    node.announcer.alert(
      {
        key: `${name}-evidence-unready`,
        severity: 'error',
        title: `${name} cannot make forensic bundles as it is set up`,
        body: `${reasonOf(error)} The node runs on. \`esoteric-appliance doctor\` tells what to do.`,
        facts: {},
      },
      'without a bundle',
    );
  }
}
