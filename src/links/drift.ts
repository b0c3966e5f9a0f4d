// Whether a WireGuard link is still the one that the node has set up, pure: its key, its peers, and the addresses that each may
// use. Where a peer calls from may change by itself, and is no concern.

export interface LinkIdentity {
  /** Base64, of the link's own key; `(none)` where it has lost it. */
  readonly publicKey: string;
  /** Public key of each peer, and its allowed addresses as the kernel writes them. */
  readonly peers: ReadonlyMap<string, string>;
}

/** How many things differ: the key, peers that came, peers that went, peers with other addresses. */
export function differences(expected: LinkIdentity, seen: LinkIdentity): number {
  const all = new Set([...expected.peers.keys(), ...seen.peers.keys()]);
  const peers = [...all].filter((key) => expected.peers.get(key) !== seen.peers.get(key));
  return (expected.publicKey === seen.publicKey ? 0 : 1) + peers.length;
}

/** From `wg show NAME public-key` and `wg show NAME allowed-ips`, neither of which prints a secret. */
export function identityOf(publicKey: string, allowedIps: string): LinkIdentity {
  const lines = allowedIps.split('\n').filter((line) => line !== '');
  return {
    publicKey: publicKey.trim(),
    peers: new Map(
      lines.map((line) => {
        const [key = '', addresses = ''] = line.split('\t');
        return [key, addresses.split(' ').toSorted().join(' ')];
      }),
    ),
  };
}
