// Unsealing a key as a node does, by the whole policy (docs/security.md): the share from NV, PolicyPCR, PolicyNV on the armed
// counter, the approval's signature, PolicyAuthorize, PolicyOR, unseal; against the commands of tpm2-tools that do the same one after
// another. Theirs leave out what no TPM is needed for: reading the approval, and the exclusive or with the share.
import { writeFileSync } from 'node:fs';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import type { Approval } from '../../src/keys/approval-format.ts';
import { keyPolicy } from '../../src/keys/policy.ts';
import { readSealedKey, type SealedKey } from '../../src/keys/sealed.ts';
import { Writer } from '../../src/tpm/wire.ts';
import { type BenchNode, keyName, withNode } from './bench-node.ts';
import { hexOf, tpmPrograms } from './bench-tpm.ts';
import { type Benchmark, inTurn, judge, type Load, type Progress, repeated, words } from './benchmark.ts';

const name = 'unseal-node';
const target = { atMost: 0.5 } as const;

export const unsealingNode: Benchmark = {
  name,
  target: words(target),
  needs: { programs: [...tpmPrograms, 'tpm2_unseal'] },
  run: (progress) => measureUnsealNode({ blocks: 6, runs: 4 }, progress),
};

export const measureUnsealNode = (load: Load, progress: Progress): Promise<BenchResult> =>
  withNode((node) => measureOn(node, load, progress));

async function measureOn(node: BenchNode, load: Load, progress: Progress): Promise<BenchResult> {
  const { keys, arena, layout, record } = node;
  const approval = await keys.approval(layout, record);
  const sealed = readSealedKey(layout.directory, keyName);
  if (sealed === undefined) throw new Error(`The node of the benchmarks has no key "${keyName}".`);
  const { ours, reference } = await inTurn(
    load,
    progress,
    repeated(async () => {
      using _secret = await keys.unseal(arena, layout.directory, keyName, approval);
    }),
    node.script(commandsFor(node, sealed, approval)),
  );
  return judge({
    name,
    value: ours,
    unit: 'ms',
    reference: { name: 'tpm2-tools, 13 processes', value: reference },
    target,
    note: '(ours on an open connection)',
  });
}

function commandsFor({ anchors, path }: BenchNode, sealed: SealedKey, approval: Approval): string {
  const entry = approval.keys.find((key) => key.name === sealed.name);
  if (entry === undefined) throw new Error('The approval does not cover the key.');
  const { policyRef, branches } = keyPolicy(sealed, sealed.authorities);
  const approvedPolicy = Buffer.from(entry.approvedPolicy, 'hex');
  const files: Record<string, Uint8Array | string> = {
    'key.pub': new Writer().sized(Buffer.from(sealed.public, 'base64')).done(),
    'key.priv': Buffer.from(sealed.private, 'base64'),
    counter: new Writer().u64(BigInt(approval.counter)).done(),
    'signer.pem': sealed.authorities.signer,
    approved: approvedPolicy,
    reference: policyRef,
    message: Buffer.concat([approvedPolicy, policyRef]),
    approval: Buffer.from(entry.signature, 'base64'),
    'branch-0': branches[0],
    'branch-1': branches[1],
  };
  for (const [file, content] of Object.entries(files)) writeFileSync(path(file), content);
  const root = hexOf(anchors.srk.handle);
  const pcrs = Object.keys(approval.pcrs.values).join(',');
  return `
    tpm2_startauthsession --policy-session -c ${root} -S session
    tpm2_nvread -C o -S session -s ${sealed.byteLength} -o share ${hexOf(sealed.shareIndex)}
    tpm2_policypcr -S session -l sha256:${pcrs}
    tpm2_policynv -S session -C o -i counter ${hexOf(anchors.armedIndex)} eq
    tpm2_loadexternal -C o -G ecc:ecdsa-sha256 -a 'userwithauth|sign' -u signer.pem -c signer -n signer.name
    tpm2_verifysignature -c signer -g sha256 -m message -s approval -f ecdsa -t ticket
    tpm2_flushcontext -t
    tpm2_policyauthorize -S session -i approved -q reference -n signer.name -t ticket
    tpm2_policyor -S session sha256:branch-0,branch-1
    tpm2_load -C ${root} -u key.pub -r key.priv -c key
    tpm2_unseal -c key -p session:session
    tpm2_flushcontext session
    tpm2_flushcontext -t`;
}
