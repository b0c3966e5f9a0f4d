// What a noise source is (SP 800-90B, section 2.2.1): one physical thing that is measured, raw 8-bit samples, nothing
// conditioned. Each family is one file, or a few, in sources/; all of them are listed in catalogue.ts.
import { reasonOf } from '../host/failure.ts';

export type Availability =
  | { readonly ok: true }
  | { readonly ok: false; readonly why: string; readonly remedy: string };

export const families = [
  'timing',
  'kernel',
  'network',
  'hardware',
  'silicon',
  'cross-domain',
  'processing',
  'scheduling',
  'generator',
  'external',
] as const;
export type Family = (typeof families)[number];

/** What a source may be told about the node; passes through `workerData`. */
export interface SourceSettings {
  /** Writable: where disk timing keeps its (unlinked) file. */
  readonly directory: string;
  /** Resolvers to ask, `address:port`. Nobody else is spoken to. */
  readonly dnsServers?: readonly string[];
  /** Hosts to connect to, `address:port`. */
  readonly tcpHosts?: readonly string[];
  /** An ALSA capture device such as `hw:0`; no microphone is opened without one. */
  readonly audioDevice?: string;
  /** A V4L2 device such as `/dev/video0`; no camera is opened without one. */
  readonly cameraDevice?: string;
  /** Devices and FIFOs that deliver noise. */
  readonly devices?: readonly string[];
  /** Serial lines, `path` or `path@baud`. */
  readonly serialLines?: readonly string[];
  /** As `-I`: interface names, `any`, `CPU`, `CPU0`. */
  readonly interfaces?: readonly string[];
  /** How the TPM is reached; undefined without one. */
  readonly tcti?: string;
  /** False with --no-gpu. */
  readonly gpu?: boolean;
}

export interface NoiseSource {
  /** Kebab-case, unique; the name in the policy, in status and in metrics. `device:/dev/x` for what is configured. */
  readonly name: string;
  readonly family: Family;
  /** Where the noise comes from, as a phrase. */
  readonly physical: string;
  /**
   * `quick`: computes or enters the kernel for microseconds, and waits for nothing outside the machine's core and memory.
   * `patient`: may be kept waiting, by a device, a disk or a network; such sources share a thread of their own.
   */
  readonly pace: 'quick' | 'patient';
  /** `recorded`: no machine of the tests has the hardware; what is tested is its reading of recorded samples. */
  readonly exercised: 'live' | 'recorded';
  /** Whether this machine has it; opens nothing for good. */
  available(): Availability;
  /** @throws when what was available no longer is. */
  open(): Sampler;
}

export interface Sampler extends Disposable {
  /**
   * Writes raw samples from the start of `into` and returns how many: at least one if any could be had, fewer than fit
   * where more would take longer than a few milliseconds.
   * @throws when the source has gone away.
   */
  sample(into: Uint8Array): number;
}

/** A source without preconditions. */
export const alwaysAvailable = (): Availability => ({ ok: true });

export const unavailable = (why: string, remedy: string): Availability => ({ ok: false, why, remedy });

/** Available where `attempt` throws nothing. */
export function availableIf(
  attempt: () => void,
  why: (reason: string) => string,
  remedy: string,
): Availability {
  try {
    attempt();
    return { ok: true };
  } catch (error) {
    return unavailable(why((error as NodeJS.ErrnoException).code ?? reasonOf(error)), remedy);
  }
}

/** The low 8 bits of the nanoseconds from `start` until now. */
export const elapsedLow8 = (start: bigint): number => Number((process.hrtime.bigint() - start) & 0xffn);
