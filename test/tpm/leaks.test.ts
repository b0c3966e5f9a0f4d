// Handles of ESYS and of the TPM are given back where a command in the middle fails.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { requireChild } from '../../src/host/child.ts';
import { Connection } from '../../src/tpm/connection.ts';
import { loadTss } from '../../src/tpm/library.ts';
import { nvUndefine } from '../../src/tpm/nv.ts';
import { createPrimary, objectAt, persist, type TpmObject, unpersist } from '../../src/tpm/object.ts';
import { handlesFrom } from '../../src/tpm/properties.ts';
import { startPolicySession, withSaltedSession } from '../../src/tpm/session.ts';
import { storageRootKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const platformIndex = 0x01400001;
const ownPersistent = 0x81000001;
const platformPersistent = 0x81800001;
const badValue = 0x7000b; // TSS2_ESYS_RC_BAD_VALUE

describe('after a failure', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ea-leaks-'));
  let swtpm: Swtpm;
  let connection: Connection;
  let root: TpmObject;
  beforeAll(async () => {
    swtpm = await startSwtpm(directory);
    const tool = (name: string, ...args: string[]) => requireChild(name, ['-T', swtpm.tcti, ...args]);
    const context = join(directory, 'primary.ctx');
    await tool('tpm2_nvdefine', '-C', 'p', '-s', '8', `0x${platformIndex.toString(16)}`);
    await tool('tpm2_createprimary', '-C', 'p', '-c', context);
    await tool('tpm2_evictcontrol', '-C', 'p', '-c', context, `0x${platformPersistent.toString(16)}`);
    await tool('tpm2_flushcontext', '--transient-object');
    connection = await Connection.open(swtpm.tcti, 5000);
    root = await createPrimary(connection, 'owner', storageRootKey);
  }, 20_000);
  afterAll(async () => {
    await root?.[Symbol.asyncDispose]();
    await connection?.close();
    await swtpm?.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** What ESYS said each time that a handle was closed. */
  const closings = () => {
    const { mock } = vi.spyOn(loadTss(), 'closeObject');
    return () => mock.results.map(({ value }) => value);
  };

  it('an index that the owner may not undefine is let go of', async () => {
    const closed = closings();
    await expect(nvUndefine(connection, platformIndex)).rejects.toMatchObject({ layer: 'tpm' });
    expect(closed()).toEqual([0]);
  });

  it('a persistent object that is not the owner’s is let go of', async () => {
    const closed = closings();
    await expect(unpersist(connection, platformPersistent)).rejects.toMatchObject({ layer: 'tpm' });
    expect(closed()).toEqual([0]);
  });

  it('an object whose Name ESYS does not tell is let go of', async () => {
    await persist(connection, root, ownPersistent);
    const closed = closings();
    vi.spyOn(loadTss(), 'objectName').mockReturnValueOnce(badValue);
    await expect(objectAt(connection, ownPersistent)).rejects.toMatchObject({ rc: badValue });
    expect(closed()).toEqual([0]);
    await unpersist(connection, ownPersistent);
    expect(await handlesFrom(connection, ownPersistent)).toEqual([platformPersistent]);
  });

  it('no session stays in the TPM', async () => {
    const sessions = () => handlesFrom(connection, 0x02000000, [0x02, 0x03]);
    vi.spyOn(loadTss(), 'setSessionAttributes').mockReturnValueOnce(badValue);
    await expect(startPolicySession(connection, root, 'policy')).rejects.toMatchObject({ rc: badValue });
    expect(await sessions()).toEqual([]);
    const failing = withSaltedSession(connection, root, async () => {
      expect(await sessions()).toHaveLength(1);
      throw new Error('in the middle');
    });
    await expect(failing).rejects.toThrow('in the middle');
    expect(await sessions()).toEqual([]);
  });
});
