// What a node has in its TPM: for the dry run, the record of a provisioning, and the giving back.
import { type Anchors, counterDefinition, custodyDefinition, handleText } from '../keys/anchors.ts';
import { shareDefinition } from '../keys/share.ts';
import { type NvDefinition, ownerAndAuth } from '../tpm/nv.ts';
import type { NodeRecord } from './node-record.ts';

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

/** As they will stand, or stand. Sealed blobs and the bundle signing key are files, not objects in the TPM. */
export function ownedObjects(
  anchors: Pick<Anchors, 'sequenceIndex' | 'armedIndex' | 'custodyIndex'> & {
    readonly srk: { readonly handle: number; readonly adopted: boolean };
    readonly ak: { readonly handle: number; readonly adopted: boolean };
    readonly shares: Readonly<Record<string, number>>;
  },
): OwnedObject[] {
  const object = (
    what: string,
    { handle, adopted }: { handle: number; adopted: boolean },
    use: string[],
  ): OwnedObject => ({
    handle: handleText(handle),
    what,
    kind: 'persistent object',
    attributes: [
      'fixedTPM',
      'fixedParent',
      'sensitiveDataOrigin',
      'userWithAuth',
      'noDA',
      'restricted',
      ...use,
    ],
    adopted,
  });
  return [
    object('srk', anchors.srk, ['decrypt']),
    object('ak', anchors.ak, ['sign']),
    index('sequence-counter', anchors.sequenceIndex, counterDefinition),
    index('armed-counter', anchors.armedIndex, counterDefinition),
    index('custody-head', anchors.custodyIndex, custodyDefinition),
    ...Object.entries(anchors.shares).map(([name, at]) => index(`share:${name}`, at, shareDefinition(32))),
  ];
}

const index = (what: string, at: number, { attributes, access }: NvDefinition): OwnedObject => ({
  handle: handleText(at),
  what,
  kind: 'NV index',
  attributes: [attributes, ...(access ?? ownerAndAuth)],
  adopted: false,
});

/** Of a node's record; empty for a node without a TPM. */
export const ownedBy = ({ tpm }: NodeRecord): OwnedObject[] => (tpm === null ? [] : ownedObjects(tpm));
