// The links of the configuration, brought up with keys from the arena, and their peers, followed as enrolment records change.

import { parseEnrolment } from '../attestation/enrolment.ts';
import type { SecretArena, SecretBuffer } from '../host/arena.ts';
import { readIfPresent } from '../host/durable.ts';
import { Failure } from '../host/failure.ts';
import { encodeSecretBase64 } from '../keys/base64.ts';
import { type Removal, WireGuardLink, type WireGuardPeer, type WireGuardStatus } from '../links/wireguard.ts';
import type { LinkConfig } from './config.ts';

/** How often the peers' enrolment records are looked at. */
const refreshMilliseconds = 500;

export interface LinksOptions {
  readonly links: readonly LinkConfig[];
  readonly arena: SecretArena;
  /** The unsealed key of a name. @throws Failure `key-missing`. */
  readonly key: (name: string) => SecretBuffer;
  readonly onRemoval: (removal: Removal) => void;
  /** A link's helper ended by itself: its key is gone, and so is the link. */
  readonly onLost: (link: string) => void;
  readonly onTrouble: (message: string) => void;
}

export class Links implements AsyncDisposable {
  readonly #options: LinksOptions;
  readonly #up: { readonly config: LinkConfig; readonly link: WireGuardLink }[] = [];
  #refresh: NodeJS.Timeout | undefined;
  #ending = false;

  private constructor(options: LinksOptions) {
    this.#options = options;
  }

  static async up(options: LinksOptions): Promise<Links> {
    const links = new Links(options);
    try {
      for (const config of options.links) await links.#bringUp(config);
    } catch (error) {
      await links[Symbol.asyncDispose]();
      throw error;
    }
    await links.#followPeers();
    return links;
  }

  async status(): Promise<WireGuardStatus[]> {
    return await Promise.all(this.#up.map(({ link }) => link.status()));
  }

  /** How many things of the links are not as this node has set them. */
  async changes(): Promise<number> {
    const counts = await Promise.all(this.#up.map(({ link }) => link.changes()));
    return this.#ending ? 0 : counts.reduce((sum, count) => sum + count, 0);
  }

  /** After a zeroize: nothing is followed any more, and what the kernel stage has not taken goes now. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending = true;
    clearTimeout(this.#refresh);
    for (const { link } of this.#up) await link[Symbol.asyncDispose]();
  }

  async #bringUp(config: LinkConfig): Promise<void> {
    using encoded = encodeSecretBase64(this.#options.arena, this.#options.key(config.key));
    const link = await WireGuardLink.up(
      { name: config.name, address: config.address, listenPort: config.listen_port, mtu: config.mtu },
      encoded,
      this.#options.onRemoval,
    );
    this.#up.push({ config, link });
    void link.ended.then(() => {
      if (!this.#ending) this.#options.onLost(config.name);
    });
  }

  async #followPeers(): Promise<void> {
    for (const { config, link } of this.#up) {
      for (const peer of config.peers) {
        try {
          const settings = peerOf(peer, config.key);
          if (settings !== undefined && !this.#ending && link.up) await link.setPeer(settings);
        } catch (error) {
          if (error instanceof Failure) this.#options.onTrouble(`Peer ${peer.name}: ${error.message}`);
          else throw error;
        }
      }
    }
    if (!this.#ending)
      this.#refresh = setTimeout(() => void this.#followPeers(), refreshMilliseconds).unref();
  }
}

/** The peer as WireGuard wants it; undefined while its enrolment record is not there or has no key for this link yet. */
function peerOf(peer: LinkConfig['peers'][number], keyName: string): WireGuardPeer | undefined {
  const publicKey = peer.public_key === '' ? enrolledKey(peer.enrolment, keyName) : peer.public_key;
  if (publicKey === undefined) return undefined;
  return {
    name: peer.name,
    publicKey,
    endpoint: peer.endpoint === '' ? undefined : peer.endpoint,
    allowedIps: peer.allowed_ips,
    keepalive: peer.keepalive,
  };
}

function enrolledKey(path: string, keyName: string): string | undefined {
  const text = readIfPresent(path);
  return text === undefined
    ? undefined
    : parseEnrolment(text).keys.find((key) => key.name === keyName && key.purpose === 'wireguard')?.publicKey;
}
