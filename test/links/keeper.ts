// A program that brings a WireGuard link up in a namespace of its own and keeps it until it is killed: `node keeper.ts NAME`.
import { randomFillSync } from 'node:crypto';
import { SecretArena } from '../../src/host/arena.ts';
import { encodeSecretBase64 } from '../../src/keys/base64.ts';
import { WireGuardLink } from '../../src/links/wireguard.ts';
import { enterOwnNetwork } from '../lab/namespace.ts';

const [name = ''] = process.argv.slice(2);
enterOwnNetwork();
const arena = SecretArena.allocate();
const key = arena.take(32, name);
randomFillSync(key.bytes);
const settings = { name, address: '10.77.0.9/24', listenPort: 0, mtu: 1420 };
const link = await WireGuardLink.up(settings, encodeSecretBase64(arena, key), () => {});
process.stdout.write(`${JSON.stringify(await link.status())}\n`);
setInterval(() => {}, 1000);
