// What a bundle says of the services behind it: those of the configuration that it is made under, whatever the node was provisioned with.
import { expect, it } from 'vitest';
import { assuranceNow, assuranceOf } from '../../src/appliance/assurance.ts';
import { configSchema } from '../../src/appliance/config-schema.ts';
import type { NodeRecord } from '../../src/appliance/node-record.ts';

const under = (sigstore: object, tpm: object = {}) => configSchema.parse({ sigstore, tpm });
const bare = under({});
const provisioned = (config = bare): NodeRecord =>
  ({ assurance: assuranceOf(config, true, ['of the machine']) }) as NodeRecord;
const rekor = { rekor: 'https://rekor.example', stand_ins: ['rekor'] };

it('services and stand-ins that were configured later are told, and those that are configured no longer are not', () => {
  expect(assuranceNow(bare, provisioned())).toEqual(provisioned().assurance);
  const later = assuranceNow(under(rekor), provisioned());
  expect(later.sigstore).toBe('on');
  expect(later.standIns).toContain('rekor');
  const gone = assuranceNow(bare, provisioned(under(rekor)));
  expect(gone).toEqual(provisioned().assurance);
});

it('a Sigstore that is no longer bypassed is told as it is, and one that is bypassed as that', () => {
  const none = under({ mode: 'none' });
  const { assurance } = provisioned(none);
  expect(assurance.sigstore).toBe('bypassed');
  const back = assuranceNow(bare, { assurance } as NodeRecord);
  expect(back.sigstore).toBe('pending');
  expect(back.notes).toEqual(provisioned().assurance.notes);
  const bypassed = assuranceNow(none, provisioned());
  expect(bypassed.sigstore).toBe('bypassed');
  expect(bypassed.notes.filter((note) => note.startsWith('no Sigstore'))).toHaveLength(1);
  // Nobody signs, so there is nothing to countersign.
  const unsigned = { assurance: assuranceOf(bare, undefined, []) } as NodeRecord;
  expect(assuranceNow(under(rekor), unsigned).sigstore).toBe('bypassed');
});

it('what was found out of the TPM stays as it was provisioned, whatever the configuration says of it since', () => {
  const node = provisioned(under({}, { stand_ins: ['synthetic event log'] }));
  const now = assuranceNow(under({}, { policy_signer: '/signer.pub', recovery_key: '/recovery.pub' }), node);
  expect(now).toEqual(node.assurance);
  expect(now.standIns).toEqual(
    expect.arrayContaining(['swtpm', 'synthetic event log', 'development policy signer']),
  );
});
