// What a node has in its TPM: for the dry run, the record of a provisioning, and the giving back.
import { type Anchors, handleText, type PersistentPlan } from '../keys/anchors.ts';
import { counterDefinition, custodyDefinition } from '../keys/indices.ts';
import { shareDefinition } from '../keys/share.ts';
import { type NvDefinition, ownerAndAuth } from '../tpm/nv-public.ts';
import { type ObjectAttribute, objectAttribute, parsePublic } from '../tpm/structures.ts';
import { attestationKey, sealedData, signingKey, storageRootKey } from '../tpm/templates.ts';
import type { NodeRecord } from './node-record.ts';
import type { Progress } from './progress.ts';

export interface OwnedObject {
  /** `0x81000001` */
  readonly handle: string;
  /** `srk`, `ak`, `sequence-counter`, `armed-counter`, `custody-head`, or `share:` and the name of a key. */
  readonly what: string;
  readonly kind: 'persistent object' | 'NV index';
  /** Of the object or the index, in the words of TPM 2.0 Library, Part 2. */
  readonly attributes: readonly string[];
  /** Found there and used: it is not the node's to remove. */
  readonly adopted: boolean;
}

/** An object that is kept outside of the TPM, wrapped by the storage root key. */
export interface HeldBlob {
  /** `signing-key`, or `key:` and the name of a sealed key. */
  readonly what: string;
  readonly attributes: readonly string[];
}

/** As they would be made. */
export const signingKeyBlob = (): HeldBlob => blob('signing-key', signingKey);
export const sealedBlob = (name: string): HeldBlob => blob(`key:${name}`, sealedData(new Uint8Array(32)));

/** As they will stand, or stand. Sealed blobs and the bundle signing key are files, not objects in the TPM. */
export function ownedObjects(
  anchors: Pick<Anchors, 'sequenceIndex' | 'armedIndex' | 'custodyIndex'> & {
    readonly srk: PersistentPlan;
    readonly ak: PersistentPlan;
    readonly shares: Readonly<Record<string, number>>;
  },
): OwnedObject[] {
  return [
    object('srk', anchors.srk),
    object('ak', anchors.ak),
    index('sequence-counter', anchors.sequenceIndex),
    index('armed-counter', anchors.armedIndex),
    index('custody-head', anchors.custodyIndex),
    ...Object.entries(anchors.shares).map(([name, at]) => shareOf(name, at)),
  ];
}

/** Of a node's record; empty for a node without a TPM. */
export const ownedBy = ({ tpm }: NodeRecord): OwnedObject[] => (tpm === null ? [] : ownedObjects(tpm));

/** What a run that was broken off had planned, made or not. */
export function plannedBy(progress: Progress): OwnedObject[] {
  return progress.plans().flatMap(([step, plan]) => {
    if (typeof plan === 'number') return [index(step.replace(/^(?:re)?share-/, 'share:'), plan)];
    return (step === 'srk' || step === 'ak') && isPersistent(plan) ? [object(step, plan)] : [];
  });
}

/** The share of a sealed key. */
export const shareOf = (name: string, at: number): OwnedObject => index(`share:${name}`, at);

/** What an index may be defined as, by what it is for. */
export function indexDefinitions(what: string): readonly NvDefinition[] {
  if (what.startsWith('share:')) return [shareDefinition(32), shareDefinition(48)];
  return [what === 'custody-head' ? custodyDefinition : counterDefinition];
}

const templates = { srk: storageRootKey, ak: attestationKey } as const;
const attributeNames = Object.keys(objectAttribute) as ObjectAttribute[];

/** As it stands, or as it is to be made. */
function object(what: 'srk' | 'ak', plan: PersistentPlan): OwnedObject {
  const area = parsePublic(plan.public === undefined ? templates[what] : Buffer.from(plan.public, 'base64'));
  return {
    handle: handleText(plan.handle),
    what,
    kind: 'persistent object',
    attributes: attributesOf(area),
    adopted: plan.adopted,
  };
}

const blob = (what: string, template: Uint8Array): HeldBlob => ({
  what,
  attributes: attributesOf(parsePublic(template)),
});

const attributesOf = (area: ReturnType<typeof parsePublic>): string[] =>
  attributeNames.filter((name) => area[name]);

function index(what: string, at: number): OwnedObject {
  const [definition = counterDefinition] = indexDefinitions(what);
  const attributes = [definition.attributes, ...(definition.access ?? ownerAndAuth)];
  return { handle: handleText(at), what, kind: 'NV index', attributes, adopted: false };
}

const isPersistent = (plan: unknown): plan is PersistentPlan =>
  typeof plan === 'object' && plan !== null && 'handle' in plan && 'adopted' in plan;
