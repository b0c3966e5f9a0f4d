// A node's TPM with what sealing needs: storage root key, armed counter, and the two authorities whose private halves are
// here only because this is a test. Over the swtpm TCTI, or over pcap, which keeps what crosses the bus.
import { generateKeyPairSync, type KeyObject, randomFillSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SecretArena, type SecretBuffer } from '../../src/host/arena.ts';
import { approvalRequest, signApproval, signedStateOf } from '../../src/keys/approval.ts';
import { type Approval, parseApproval, parseApprovalRequest } from '../../src/keys/approval-format.ts';
import {
  type KeyIdentity,
  type KeyPolicy,
  keyPolicy,
  satisfyApproved,
  satisfyRecovery,
  signRecovery,
} from '../../src/keys/policy.ts';
import { type SharedBlob, sealWithShare, unsealWithShare, type Vault } from '../../src/keys/share.ts';
import { openTpm, type Tpm } from '../../src/tpm/context.ts';
import { storageRootKey } from '../../src/tpm/templates.ts';
import { type Swtpm, startSwtpm } from '../lab/swtpm.ts';

const srkHandle = 0x81000001;
export const counterIndex = 0x01800010;
export const shareIndex = 0x01800020;
export const capPcr = 14;
export const pcrs = [0, 7, capPcr];
export const wireguard: KeyIdentity = { node: 'alpha', name: 'wg0', purpose: 'wireguard' };

export interface KeyPair {
  readonly privateKey: KeyObject;
  readonly pem: string;
}

export function newAuthority(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, pem: publicKey.export({ type: 'spki', format: 'pem' }).toString() };
}

/** A TPM opened with its storage root key. */
export interface Opened extends Vault, AsyncDisposable {}

export class Scene implements AsyncDisposable {
  readonly directory: string;
  readonly arena: SecretArena = SecretArena.allocate({ allowSwappable: true });
  readonly signer: KeyPair = newAuthority();
  readonly recovery: KeyPair = newAuthority();
  readonly swtpm: Swtpm;
  readonly #captured: boolean;
  readonly #captures: string[] = [];
  readonly #secrets: SecretBuffer[] = [];
  #nextShare = shareIndex;

  private constructor(swtpm: Swtpm, directory: string, captured: boolean) {
    this.swtpm = swtpm;
    this.directory = directory;
    this.#captured = captured;
  }

  static async start(way: 'swtpm' | 'pcap'): Promise<Scene> {
    const directory = mkdtempSync(join(tmpdir(), 'ea-keys-'));
    const scene = new Scene(await startSwtpm(directory), directory, way === 'pcap');
    await using tpm = await openTpm({ tcti: scene.swtpm.tcti });
    await using root = await tpm.createPrimary('owner', storageRootKey);
    await tpm.persist(root, 'owner', srkHandle);
    await tpm.nvDefine(counterIndex, { attributes: 'counter', byteLength: 8 });
    await tpm.nvIncrement(counterIndex);
    return scene;
  }

  async open(): Promise<Opened> {
    const capture = join(this.directory, `${this.#captures.length}.pcap`);
    if (this.#captured) {
      this.#captures.push(capture);
      process.env.TCTI_PCAP_FILE = capture;
    }
    const tcti = this.#captured ? `pcap:${this.swtpm.tcti}` : this.swtpm.tcti;
    const tpm = await openTpm({ tcti });
    const srk = await tpm.at(srkHandle);
    const close = async () => {
      await srk[Symbol.asyncDispose]();
      await tpm.close();
    };
    return { tpm, srk, arena: this.arena, [Symbol.asyncDispose]: close };
  }

  policyOf(key: KeyIdentity): KeyPolicy {
    return keyPolicy(key, { signer: this.signer.pem, recovery: this.recovery.pem });
  }

  /** A fresh secret; it, its share and its payload are searched for on the bus at the end. */
  async seal(
    vault: Vault,
    key: KeyIdentity,
    byteLength = 32,
  ): Promise<{ secret: SecretBuffer; blob: SharedBlob }> {
    const secret = this.arena.take(byteLength, key.name);
    randomFillSync(secret.bytes);
    const blob = await sealWithShare(vault, secret, this.#nextShare++, this.policyOf(key).digest);
    await using session = await vault.tpm.startPolicySession(vault.srk, 'policy');
    const share = await vault.tpm.nvReadSecret(blob.shareIndex, byteLength, session, this.arena, 'share');
    const payload = this.arena.take(byteLength, 'payload');
    for (let at = 0; at < byteLength; at++) {
      payload.bytes[at] = (secret.bytes[at] ?? 0) ^ (share.bytes[at] ?? 0);
    }
    this.#secrets.push(secret, share, payload);
    return { secret, blob };
  }

  /** What the node asks and the signer answers, through the files in between. */
  async approve(
    tpm: Tpm,
    options: { node?: string; keys?: readonly KeyIdentity[]; signer?: KeyPair } = {},
  ): Promise<Approval> {
    const request = approvalRequest({
      node: options.node ?? wireguard.node,
      keys: options.keys ?? [wireguard],
      pcrs: await tpm.pcrRead('sha256', pcrs),
      counter: await tpm.nvReadCounter(counterIndex),
      counterPublic: (await tpm.nvPublic(counterIndex)).area,
      created: new Date(0),
    });
    const signer = options.signer ?? this.signer;
    const asked = parseApprovalRequest(JSON.stringify(request));
    const approval = signApproval(asked, signer.privateKey, { requiredPcrs: pcrs, created: new Date(0) });
    return parseApproval(JSON.stringify(approval));
  }

  unsealApproved(
    vault: Vault,
    blob: SharedBlob,
    approval: Approval,
    key: KeyIdentity = wireguard,
  ): Promise<SecretBuffer> {
    return unsealWithShare(vault, blob, key.name, (session) =>
      satisfyApproved(vault.tpm, session, this.policyOf(key), signedStateOf(approval, key)),
    );
  }

  unsealRecovered(
    vault: Vault,
    blob: SharedBlob,
    key: KeyIdentity = wireguard,
    sign: (message: Uint8Array) => Uint8Array = (message) =>
      signRecovery(message, key, this.recovery.privateKey),
  ): Promise<SecretBuffer> {
    return unsealWithShare(vault, blob, key.name, (session) =>
      satisfyRecovery(vault.tpm, session, this.policyOf(key), sign),
    );
  }

  /** Of the key sealed last: itself, its share and its payload. */
  get lastSecrets(): readonly SecretBuffer[] {
    return this.#secrets.slice(-3);
  }

  /** How often each secret so far crossed the bus in clear, and whether anything was captured at all. */
  sightings(): { captured: number; secrets: number; seen: number } {
    const bus = this.#captures.map((path) => readFileSync(path));
    const seen = this.#secrets.flatMap(({ bytes }) => bus.filter((capture) => capture.indexOf(bytes) !== -1));
    return {
      captured: bus.reduce((sum, { length }) => sum + length, 0),
      secrets: this.#secrets.length,
      seen: seen.length,
    };
  }

  /** True where these bytes, which are no secret, were captured: the search finds what is there. */
  captured(bytes: Uint8Array): boolean {
    return this.#captures.some((path) => readFileSync(path).indexOf(bytes) !== -1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    delete process.env.TCTI_PCAP_FILE;
    await this.swtpm.stop();
    this.arena[Symbol.dispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
