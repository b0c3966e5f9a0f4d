// The configuration file as a schema: every key with its default and its documentation, which
// `config show` prints. Names are those of the file, so that an error, the file and the code say the same word.

import { isLoopback } from '../host/loopback.ts';
import { z } from '../host/zod.ts';
import { contactPattern } from '../interlock/detectors/contact-pattern.ts';
import { channel, courier, forensics, program, sigstore } from './config-evidence.ts';
import {
  absolutePath,
  cidr,
  handle,
  hostAndPort,
  interfaceName,
  isTable,
  label,
  milliseconds,
  pathOrNone,
} from './config-values.ts';
import { defaultStateDirectory } from './state-layout.ts';

/** What `-I` and `node.interfaces` take: `any`, an interface, `CPU` or `CPU0`. */
export const dataInterface = z.union(
  [z.literal('any'), z.string().regex(/^CPU(\[?[0-9]{1,4}\]?)?$/), interfaceName],
  'any, CPU, CPU with a number, or the name of an interface',
);

const keyPurposes = ['wireguard', 'macsec', 'seed'] as const;
const levels = ['purge', 'lock', 'destroy'] as const;

export const keyEntry = z.strictObject({
  name: label.describe('Name of the sealed key; links refer to it'),
  purpose: z.enum(keyPurposes).describe('What it is for: wireguard, macsec or seed'),
});

const publicKey = 'a WireGuard public key (44 characters of base64)';
const peer = z
  .strictObject({
    name: label.describe('The other node'),
    public_key: z
      .union(
        [z.literal(''), z.string().regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, publicKey)],
        publicKey,
      )
      .default('')
      .describe('Its WireGuard public key; or name its enrolment record instead'),
    enrolment: pathOrNone.default('').describe('Its enrolment record, which holds the public key'),
    endpoint: z
      .union([z.literal(''), hostAndPort], 'host:port, or "" where the peer calls first')
      .default('')
      .describe('Where it listens; "" where it calls first'),
    allowed_ips: z.array(cidr).min(1).describe('Addresses that may come from it and go to it'),
    keepalive: z.int().min(0).max(65_535).default(0).describe('Seconds between keepalives; 0 for none'),
  })
  .refine(({ public_key, enrolment }) => (public_key === '') !== (enrolment === ''), {
    error: 'either public_key or enrolment, one of the two',
    when: isTable,
  });

const link = z.strictObject({
  name: interfaceName.describe('Name of the interface that is made'),
  type: z.literal('wireguard').default('wireguard').describe('Kind of link'),
  key: label.default('wireguard').describe('Name of the sealed key'),
  address: cidr.describe('Address inside the tunnel'),
  listen_port: z.int().min(0).max(65_535).default(51_820).describe('UDP port; 0 lets the kernel choose'),
  mtu: z.int().min(576).max(65_535).default(1420).describe('Bytes'),
  peers: z.array(peer).default([]).describe('The nodes at the other end'),
});

const node = z.strictObject({
  name: z
    .union([z.literal(''), label], 'a name of 1 to 32 characters from a-z, 0-9 and -')
    .default('')
    .describe('Name of this node; "" takes the host name'),
  role: label
    .default('relay')
    .describe('Its role: picks the profile in provisioning/ and the rules in policies/'),
  interfaces: z
    .array(dataInterface)
    .default([])
    .describe('Data interfaces, watched and shown: names, "any", "CPU" or "CPU0" (none)'),
  state_dir: absolutePath
    .default(defaultStateDirectory)
    .describe('Sealed keys, custody log, bundles, outbox'),
});

const tpm = z
  .strictObject({
    mode: z
      .enum(['tpm', 'none'])
      .default('tpm')
      .describe('"none" bypasses the TPM: volatile keys, said everywhere'),
    tcti: z.string().min(1).default('device:/dev/tpmrm0').describe('How the TPM is reached (tpm2-tss TCTI)'),
    cap_pcr: z
      .int()
      .min(0)
      .max(15)
      .default(14)
      .describe('PCR that a lock extends; 0-15, used by nothing else'),
    pcrs: z
      .array(z.int().min(0).max(23))
      .default([0, 7])
      .describe('PCRs, beside cap_pcr, that keys are sealed to'),
    policy_signer: pathOrNone
      .default('')
      .describe(
        'Public key (PEM, ECDSA P-256) that approves states of this node; "" makes a development key here',
      ),
    recovery_key: pathOrNone
      .default('')
      .describe(
        'Public key (PEM, ECDSA P-256) that opens keys in an emergency; "" makes a development key here',
      ),
    event_log: absolutePath
      .default('/sys/kernel/security/tpm0/binary_bios_measurements')
      .describe('Firmware event log'),
    stand_ins: z
      .array(z.string())
      .default([])
      .describe('Parts of this TPM that stand in for real ones, such as "swtpm"'),
    ek_ca: pathOrNone
      .default('')
      .describe(
        'Directory of CA certificates of TPM makers, by which provisioning judges this TPM; "" for none',
      ),
    srk_handle: handle(0x8100_0000, 0x8100_ffff).default(0x8100_0001).describe('Persistent storage root key'),
    ak_handle: handle(0x8101_0000, 0x8101_ffff).default(0x8101_0020).describe('Persistent attestation key'),
    nv_base: handle(0x0180_0000, 0x01bf_ff00)
      .default(0x0181_0020)
      .describe('First of the NV indices that the node defines'),
    lockout_tries: z
      .int()
      .min(0)
      .max(1000)
      .default(32)
      .describe(
        'Wrong authorizations until the TPM locks out, set at provisioning; 0 leaves the TPM as it is',
      ),
    lockout_seconds: z
      .int()
      .min(1)
      .max(31_536_000)
      .default(600)
      .describe('Seconds until the TPM forgives one wrong authorization'),
  })
  .refine(({ pcrs, cap_pcr }) => !pcrs.includes(cap_pcr), {
    error: 'another PCR than cap_pcr',
    path: ['pcrs'],
  });

/** Those of a device or an interface have its name behind theirs. */
const sourceName = z.union(
  [label, z.string().regex(/^(?:device|serial|packets):[\x21-\x7e]{1,255}$/)],
  'the name or the family of a noise source, as `scan` lists them',
);

const entropy = z.strictObject({
  sources: z
    .array(sourceName)
    .min(1)
    .default(['all'])
    .describe('Noise sources by name or family, as `scan` lists them, or "all"'),
  http: z
    .array(hostAndPort)
    .default([])
    .describe('Where random bytes are served over HTTP: addresses of links and of the loopback, no others'),
  directory: pathOrNone.default('').describe('Where the disk source keeps its file; "" takes state_dir'),
  dns_servers: z.array(hostAndPort).default([]).describe('Resolvers that the DNS source asks: address:port'),
  tcp_hosts: z.array(hostAndPort).default([]).describe('Hosts that the TCP source connects to: address:port'),
  audio_device: z.string().default('').describe('ALSA capture device (hw:0); "" opens no microphone'),
  camera_device: pathOrNone.default('').describe('V4L2 device (/dev/video0); "" opens no camera'),
  devices: z.array(absolutePath).default([]).describe('Devices and FIFOs that deliver noise'),
  serial_lines: z
    .array(absolutePath)
    .default([])
    .describe('Serial lines that deliver noise: path or path@baud'),
  gpu: z.boolean().default(true).describe('false leaves the GPU alone'),
  kernel_feed_seconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(0)
    .describe("How often fresh entropy is credited to the kernel's generator; 0 for never"),
});

const interlock = z.strictObject({
  level: z.enum(levels).default('lock').describe('What an unplanned flap costs: purge, lock or destroy'),
  on_unclean_start: z.enum(['recover', 'lock']).default('recover').describe('After an end without goodbye'),
  planned_flaps_per_hour: z.int().min(0).max(1000).default(3).describe('Above it a maintenance window ends'),
  poll_milliseconds: milliseconds.default(1).describe('Backstop: how often carrier counters are read'),
  heartbeat_milliseconds: milliseconds.default(1000).describe('A silent thread counts as a flap after three'),
  look_milliseconds: milliseconds
    .default(1000)
    .describe('How often observed causes are looked at (links every second time, the TPM every tenth)'),
  tamper: z
    .array(z.string().regex(contactPattern, 'fifo:/path or gpio:/dev/gpiochip0:LINE:rising|falling|both'))
    .max(8)
    .default([])
    .describe('Tamper contacts: "fifo:/path", or a GPIO line such as "gpio:/dev/gpiochip0:17:rising"'),
  generation_file: pathOrNone
    .default('')
    .describe('File that shows the generation of the virtual machine; "" listens to the kernel only'),
  command_key: pathOrNone
    .default('')
    .describe('Ed25519 public key (PEM) of whoever may command a zeroize from afar; "" for nobody'),
  command_directory: pathOrNone
    .default('')
    .describe('Where signed commands are dropped; "" for the control socket only'),
});

const journal = z.strictObject({
  namespace: z
    .string()
    .regex(/^[A-Za-z0-9_.-]{0,64}$/, 'the name of a journal namespace')
    .default('')
    .describe('Namespace of journald; "" for the default one'),
  directory: pathOrNone.default('').describe('Journal files to read instead; "" for none'),
  units: z
    .array(z.string().min(1))
    .default(['default'])
    .describe(
      'Units that a bundle takes: names, "default" (own and network units of the machine\'s own journal), "all"',
    ),
  events_file: pathOrNone.default('').describe('Events as JSON lines, for a SIEM; "" for none'),
  events_stdout: z
    .enum(['auto', 'on', 'off'])
    .default('auto')
    .describe('Events as JSON lines on stdout; "auto" where a container without journald was started for it'),
});

/** The whole file. An empty one is valid. */
export const configSchema = z
  .strictObject({
    node: node.prefault({}).describe('This node'),
    tpm: tpm.prefault({}).describe('The TPM that seals its keys'),
    links: z
      .array(link)
      .refine(
        (links) => new Set(links.map(({ name }) => name)).size === links.length,
        'links of different names',
      )
      .default([])
      .describe('Encrypted links'),
    entropy: entropy.prefault({}).describe('Noise sources and outputs'),
    interlock: interlock.prefault({}).describe('What zeroizes, and how far'),
    journal: journal.prefault({}).describe('The journal that evidence is read from'),
    sigstore: sigstore.prefault({}).describe('Services that countersign evidence'),
    program: program.prefault({}).describe('What others attest of the running program'),
    forensics: forensics.prefault({}).describe('Forensic bundles'),
    courier: courier.prefault({}).describe('The process that delivers'),
    alerts: z
      .strictObject({ channels: z.array(channel).default([]).describe('Where alerts go') })
      .prefault({})
      .describe('Alerts'),
    keys: z.array(keyEntry).default([]).describe("Keys beside those of the role's profile"),
  })
  .superRefine(({ entropy: { http }, links }, context) => {
    for (const [index, listen] of http.entries()) {
      if (isSheltered(listen, links)) continue;
      const message = 'the loopback or the address of a link; for others run `server`, with TLS and a token';
      context.addIssue({ code: 'custom', path: ['entropy', 'http', index], message });
    }
  })
  .prefault({});

/** Plain HTTP goes over the loopback, or inside a link, which encrypts it and lets nobody in but peers. */
function isSheltered(listen: string, links: readonly { readonly address: string }[]): boolean {
  const host = listen.slice(0, listen.lastIndexOf(':')).replace(/^\[|\]$/g, '');
  return isLoopback(host) || links.some(({ address }) => address.replace(/\/.*/, '') === host);
}

export type Config = z.output<typeof configSchema>;
export type LinkConfig = Config['links'][number];
