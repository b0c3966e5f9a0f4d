// The NV indices that a node keeps beside its shares: how each is defined, and the Name by which a certification tells it. Pure.
import { definedArea, type NvDefinition, nvNameOf } from '../tpm/nv-public.ts';

/** Counters start above every value that any counter of this TPM ever had, so undefining one never turns it back. */
export const counterDefinition: NvDefinition = { attributes: 'counter', byteLength: 8 };
export const custodyDefinition: NvDefinition = { attributes: 'extend', byteLength: 32 };

/** The Name of an index that was written: it covers the handle, the kind and every attribute. */
export const writtenName = (index: number, definition: NvDefinition): Uint8Array =>
  nvNameOf(definedArea(index, definition, true));
