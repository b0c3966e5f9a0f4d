// `provision` of a relay as a whole process, Node's start included, against the commands of tpm2-tools that make the same objects on
// the same TPM. Theirs leave out what needs no TPM: records, custody log, the approval's signature. The TPM is given back between.
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { generateAuthority } from '../../src/appliance/authorities.ts';
import type { BenchResult } from '../../src/appliance/checkout.ts';
import { measureFirmware, writeConfiguration } from './bench-node.ts';
import { type BenchTpm, tpmPrograms, withBareTpm } from './bench-tpm.ts';
import { type Benchmark, inTurn, judge, type Load, type Progress, words } from './benchmark.ts';

const name = 'provision';
const target = { atMost: 1 } as const;
const program = resolve(import.meta.dirname, '../../scripts/esoteric-appliance');

export const provisioning: Benchmark = {
  name,
  target: words(target),
  needs: { programs: [...tpmPrograms, 'tpm2_nvdefine'] },
  run: (progress) => measureProvision({ blocks: 6, runs: 2 }, progress),
};

export const measureProvision = (load: Load, progress: Progress): Promise<BenchResult> =>
  withBareTpm((bench) => measureOn(bench, load, progress));

async function measureOn(bench: BenchTpm, load: Load, progress: Progress): Promise<BenchResult> {
  await measureFirmware(bench.tcti);
  const config = writeConfiguration(bench);
  for (const authority of ['signer', 'recovery']) generateAuthority(bench.path(authority));
  for (const [file, length] of [
    ['payload', 32],
    ['share', 32],
    ['seed', 48],
    ['reference', 32],
  ] as const) {
    writeFileSync(join(bench.path(file)), randomBytes(length));
  }
  const { ours, reference } = await inTurn(
    load,
    progress,
    bench.script(
      `${program} provision --config ${config}`,
      `${program} deprovision --yes --config ${config}; rm -rf ${bench.path('state')}`,
    ),
    bench.script(commands, givingBack),
  );
  return judge({
    name,
    value: ours,
    unit: 'ms',
    reference: { name: `tpm2-tools, ${commands.match(/^ *tpm2_/gm)?.length} processes`, value: reference },
    target,
    note: '(ours a whole process)',
  });
}

const access = 'ownerread|ownerwrite|authread|authwrite|no_da';
const sealing = (name: string, input: string, index: string, bytes: number) => `
  tpm2_nvdefine ${index} -C o -s ${bytes} -a '${access}'
  tpm2_nvwrite ${index} -C o -i ${input}
  tpm2_create -C 0x81000001 -i ${input} -L policy -a 'fixedtpm|fixedparent|adminwithpolicy|noda' -u ${name}.pub -r ${name}.priv`;

/** Storage root, attestation and signing key, counters and custody head, endorsement, lockout, and two keys sealed with shares. */
const commands = `
  tpm2_createprimary -C o -G ecc -c srk.ctx
  tpm2_evictcontrol -C o -c srk.ctx 0x81000001
  tpm2_flushcontext -t
  tpm2_createprimary -C e -G ecc:ecdsa-sha256:null -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign' -c ak.ctx
  tpm2_evictcontrol -C o -c ak.ctx 0x81010020
  tpm2_flushcontext -t
  tpm2_create -C 0x81000001 -G ecc:ecdsa-sha256:null -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign|noda' -u sign.pub -r sign.priv
  tpm2_load -C 0x81000001 -u sign.pub -r sign.priv -c sign.ctx
  tpm2_certify -c sign.ctx -C 0x81010020 -g sha256 -o sign.attest -s sign.signature
  tpm2_flushcontext -t
  tpm2_nvdefine 0x01810020 -C o -s 8 -a '${access}|nt=counter'
  tpm2_nvincrement 0x01810020 -C o
  tpm2_nvdefine 0x01810021 -C o -s 8 -a '${access}|nt=counter'
  tpm2_nvincrement 0x01810021 -C o
  tpm2_nvdefine 0x01810022 -C o -s 32 -a '${access}|nt=extend'
  tpm2_dictionarylockout -s -n 32 -t 600 -l 600
  tpm2_createek -G ecc -c ek.ctx -u ek.pub
  tpm2_flushcontext -t
  tpm2_readpublic -c 0x81010020 -n ak.name
  tpm2_makecredential -T none -u ek.pub -s reference -n "$(od -An -v -tx1 ak.name | tr -d ' \\n')" -o credential
  tpm2_startauthsession --policy-session -S session
  tpm2_policysecret -S session -c e
  tpm2_activatecredential -c 0x81010020 -C ek.ctx -i credential -o activated -P session:session
  tpm2_flushcontext session
  tpm2_flushcontext -t
  tpm2_loadexternal -C o -G ecc:ecdsa-sha256 -a 'userwithauth|sign' -u signer.pub -c signer.ctx -n signer.name
  tpm2_flushcontext -t
  tpm2_startauthsession -S session
  tpm2_policyauthorize -S session -i reference -q reference -n signer.name -L branch-approved
  tpm2_flushcontext session
  tpm2_startauthsession -S session
  tpm2_policyor -S session -l sha256:branch-approved,branch-approved -L policy
  tpm2_flushcontext session
  ${sealing('wireguard', 'payload', '0x01810023', 32)}
  ${sealing('seed', 'seed', '0x01810024', 48)}
  tpm2_pcrread sha256:0,7,14
  tpm2_nvread 0x01810021 -C o
  tpm2_nvextend 0x01810022 -C o -i share`;

const givingBack = `
  for index in 20 21 22 23 24; do tpm2_nvundefine 0x018100$index -C o; done
  for handle in 0x81000001 0x81010020; do tpm2_evictcontrol -C o -c $handle; done`;
