// The JSON shapes that programs may rely on, from the real commands. Strict where the contract names a value, open to more fields.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { labNode, profile, Scratch } from '../appliance/scene.ts';
import { esoteric, type LabNode } from '../lab/node.ts';

const hex = z.string().regex(/^[0-9a-f]+$/);
const handle = z.string().regex(/^0x[0-9a-f]{8}$/);
const pem = z.string().regex(/^-----BEGIN PUBLIC KEY-----\n/);
const count = z.int().min(0);
const assurance = z.looseObject({
  tpm: z.enum(['hardware', 'simulator', 'bypassed']),
  sigstore: z.enum(['on', 'pending', 'bypassed']),
});

const provisioned = z.looseObject({
  node: z.string().min(1),
  assurance,
  tpm: z
    .looseObject({
      tcti: z.string().min(1),
      manufacturer: z.string().min(1),
      firmware: z.string().min(1),
      srk: z.looseObject({ handle, name: hex, adopted: z.boolean() }),
      ak: z.looseObject({ handle, name: hex, publicKey: pem }),
      signingKey: z.looseObject({ name: hex, publicKey: pem }),
    })
    .nullable(),
  keys: z.array(
    z.looseObject({
      name: z.string(),
      purpose: z.enum(['wireguard', 'macsec', 'seed']),
      publicKey: z.base64().nullable(),
      sealed: z.boolean(),
    }),
  ),
  enrolment: z.string().startsWith('/'),
  changed: z.array(z.string()),
});

const status = z.looseObject({
  node: z.string().min(1),
  state: z.enum(['unprovisioned', 'sealed', 'running', 'zeroized']),
  assurance: assurance.nullable(),
  links: z.array(z.looseObject({ name: z.string(), type: z.string(), up: z.boolean() })),
  entropy: z.looseObject({ state: z.string() }),
  interlock: z.looseObject({ phase: z.string() }),
  alerts: z.looseObject({ queued: count, deadLettered: count }),
});

const verdict = z.looseObject({
  verdict: z.enum(['proven', 'incomplete', 'rejected']),
  claims: z
    .array(
      z.looseObject({
        claim: z.string().min(1),
        result: z.enum(['proven', 'failed', 'not-proven']),
        detail: z.string().min(1),
      }),
    )
    .min(15),
  bundle: z.looseObject({
    node: z.string(),
    sequence: count,
    created: z.iso.datetime(),
    reason: z.string(),
    assurance,
  }),
});

const told = z.looseObject({
  timeline: z
    .array(z.looseObject({ atMicros: z.number().min(0), node: z.string(), event: z.string() }))
    .min(6),
  zeroize: z.looseObject({ detectMicros: z.number().positive(), wipeMicros: z.number().positive() }),
  unsealAfter: z.string(),
  alerts: z.array(z.looseObject({ channel: z.string(), status: z.literal('delivered') })).min(2),
  bundle: z.looseObject({
    archive: z.string().endsWith('.tar.gz'),
    sigstore: z.string().endsWith('.sigstore.json'),
    uploadedTo: z.string().startsWith('s3://'),
    verdict: z.enum(['proven', 'incomplete']),
    failedClaims: z.array(z.string()).length(0),
  }),
  flippedByteVerdict: z.literal('rejected'),
});

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

describe.each([
  { kind: 'with a TPM', tpm: true },
  { kind: 'without a TPM', tpm: false },
])('the JSON of a node $kind', ({ tpm }) => {
  let node: LabNode;
  beforeAll(async () => {
    node = await labNode(scratch, tpm ? 'with-tpm' : 'without-tpm', { tpm, sigstore: tpm });
  });
  afterAll(() => node[Symbol.asyncDispose]());

  it('provision: what was made, and nothing in `changed` the second time', async () => {
    const first = provisioned.parse(await node.ask(['provision', '--profile', profile('relay')]));
    expect(first.tpm === null).toBe(!tpm);
    expect(first.keys.map(({ sealed }) => sealed)).toEqual([tpm, tpm]);
    expect(first.changed).not.toEqual([]);
    const second = provisioned.parse(await node.ask(['provision', '--profile', profile('relay')]));
    expect(second).toEqual({ ...first, changed: [] });
  });

  it('status: in every state from unprovisioned to zeroized', async () => {
    const empty = await esoteric(['status', '--json', '--state-dir', scratch.at('empty')]);
    expect(status.parse(JSON.parse(empty.stdout.toString())).state).toBe('unprovisioned');
    expect(status.parse(await node.ask(['status'])).state).toBe('sealed');
    await node.run();
    expect(status.parse(await node.ask(['status']))).toMatchObject({
      state: 'running',
      entropy: { state: 'serving' },
      interlock: { phase: 'armed' },
    });
    await node.ask(['zeroize', '--reason', 'a test']);
    expect(status.parse(await node.ask(['status'])).state).toBe('zeroized');
    await node.stop();
    expect(status.parse(await node.ask(['status'])).state).toBe('zeroized');
  });

  it('verify: every claim with its result and its detail, and the bundle', async () => {
    const { archive } = await node.ask<{ archive: string }>(['collect-forensics', '--reason', 'a contract']);
    const { stdout } = await esoteric(['verify', archive, '--json']);
    const report = verdict.parse(JSON.parse(stdout.toString()));
    expect(report.bundle).toMatchObject({ node: node.name, reason: 'a contract' });
    expect(report.verdict).toBe(tpm ? 'incomplete' : 'rejected');
  });
});

describe('the JSON of the demo', () => {
  it('tells the timeline, the wipe, the alerts and the verdicts', { timeout: 150_000 }, async () => {
    const output = mkdtempSync(join(tmpdir(), 'ea-demo-json-'));
    try {
      const words = ['demo', '--json', '--no-tpm', '--no-sigstore', '--output', output];
      let ran = await esoteric(words, { timeoutMilliseconds: 170_000 });
      // One demo at a time on a machine: another one's end is waited for.
      for (let n = 0; n < 40 && ran.stdout.includes('state-in-use'); n += 1) {
        await sleep(2000);
        ran = await esoteric(words, { timeoutMilliseconds: 170_000 });
      }
      expect(ran.status, `${ran.stdout}\n${ran.stderr}`).toBe(0);
      const report = told.parse(JSON.parse(ran.stdout.toString()));
      expect(report.unsealAfter).toBe('no TPM');
      expect(new Set(report.timeline.map(({ node }) => node))).toEqual(new Set(['cable', 'alpha', 'beta']));
    } finally {
      rmSync(output, { recursive: true });
    }
  });
});
