// Configuration: one TOML file, the command line's flags over it, and the whole of it printed back with its
// documentation. Absent file: the defaults. The schema is in config-schema.ts.
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { stringify } from 'smol-toml';
import { exitStatus, Failure } from '../host/failure.ts';
import { readToml } from '../host/toml.ts';
import { z } from '../host/zod.ts';
import { type Config, configSchema, dataInterface } from './config-schema.ts';
import { defaultConfigPath } from './state-layout.ts';

export type { Config, LinkConfig } from './config-schema.ts';

/** The flags that stand above the file, as the command line gives them. */
export interface Overrides {
  /** `--state-dir`; relative to the working directory. */
  readonly stateDir?: string | undefined;
  /** `--tpm` */
  readonly tcti?: string | undefined;
  /** `--no-tpm` */
  readonly noTpm?: boolean | undefined;
  /** `--no-sigstore` */
  readonly noSigstore?: boolean | undefined;
  /** `--no-gpu` */
  readonly noGpu?: boolean | undefined;
  /** `-I`: `any`, `eth0,eth1`, `CPU`, `CPU0`. */
  readonly interfaces?: string | undefined;
}

export interface LoadOptions {
  /** `--config`. Without it the default path is read where it exists. */
  readonly path?: string | undefined;
  readonly overrides?: Overrides;
  /** Names the node where the file does not. */
  readonly hostName?: string;
}

/**
 * The configuration that holds: the file, then the flags.
 * @throws Failure `config-missing`, `config-invalid` or `usage`, all with status 2.
 */
export function loadConfig(options: LoadOptions = {}): Config {
  const path = options.path ?? (existsSync(defaultConfigPath) ? defaultConfigPath : undefined);
  const config = path === undefined ? configSchema.parse({}) : readToml(resolve(path), configSchema);
  const flags = options.overrides ?? {};
  if (flags.noTpm === true && flags.tcti !== undefined) {
    throw new Failure('usage', '--tpm and --no-tpm exclude each other.', {
      remedy: 'Give one of the two.',
      status: exitStatus.usage,
    });
  }
  return {
    ...config,
    node: {
      ...config.node,
      name: config.node.name === '' ? nodeNameFrom(options.hostName ?? hostname()) : config.node.name,
      ...(flags.stateDir === undefined ? {} : { state_dir: resolve(flags.stateDir) }),
      ...(flags.interfaces === undefined ? {} : { interfaces: parseInterfaces(flags.interfaces) }),
    },
    tpm: {
      ...config.tpm,
      ...(flags.tcti === undefined ? {} : { mode: 'tpm', tcti: flags.tcti }),
      ...(flags.noTpm === true ? { mode: 'none' } : {}),
    },
    entropy: { ...config.entropy, ...(flags.noGpu === true ? { gpu: false } : {}) },
    sigstore: { ...config.sigstore, ...(flags.noSigstore === true ? { mode: 'none' } : {}) },
  };
}

/** The first label of a host name, in the characters that a node's name may have; `node` where none are left. */
export function nodeNameFrom(host: string): string {
  const first = host.split('.')[0] ?? '';
  const name = first
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]/g, '-')
    .replace(/^-+/, '')
    .slice(0, 32);
  return name === '' ? 'node' : name;
}

/** The argument of `-I`: interfaces with commas between. @throws Failure `usage`. */
export function parseInterfaces(argument: string): string[] {
  return argument.split(',').map((word) => {
    const checked = dataInterface.safeParse(word.trim());
    if (checked.success) return checked.data;
    throw new Failure(
      'usage',
      `-I takes any, interface names or CPU[n] with commas between, not "${word}".`,
      {
        remedy: 'List the interfaces of this machine with `ip -brief link`.',
        status: exitStatus.usage,
      },
    );
  });
}

/** The configuration as a TOML file that `loadConfig` reads back to the same, each key with its documentation. */
export function renderConfig(config: Config): string {
  return `${renderTable(configSchema.unwrap(), config, []).join('\n').trim()}\n`;
}

type Table = Readonly<Record<string, unknown>>;

/** A table's own keys first, then its tables and arrays of tables, as TOML wants them. */
function renderTable(schema: z.ZodObject, values: Table, path: readonly string[]): string[] {
  const own: string[] = [];
  const nested: string[] = [];
  for (const [key, field] of Object.entries(schema.shape)) {
    const plain = withoutDefault(field);
    const value = values[key];
    const title = [...path, key].join('.');
    if (plain instanceof z.ZodObject) {
      nested.push('', `# ${describe(field)}.`);
      const body = renderTable(plain, value as Table, [...path, key]);
      const holdsOnlyTables = body[0] === '';
      nested.push(...(holdsOnlyTables ? body.slice(1) : [`[${title}]`, ...body]));
    } else if (plain instanceof z.ZodArray && withoutDefault(plain.element) instanceof z.ZodObject) {
      const element = withoutDefault(plain.element) as z.ZodObject;
      const elements = value as readonly Table[];
      nested.push('', `# ${describe(field)}: each is a table [[${title}]] with these keys.`);
      nested.push(...documentKeys(element));
      for (const item of elements)
        nested.push('', `[[${title}]]`, ...renderTable(element, item, [...path, key]));
    } else {
      own.push(`# ${describe(field)}.${defaultNote(field)}`, `${key} = ${renderValue(key, value)}`);
    }
  }
  return [...own, ...nested];
}

function documentKeys(element: z.ZodObject): string[] {
  return Object.entries(element.shape)
    .filter(([, field]) => !(withoutDefault(field) instanceof z.ZodArray && field instanceof z.ZodDefault))
    .map(([key, field]) => `#   ${key}: ${describe(field)}.${defaultNote(field)}`);
}

const describe = (field: z.core.$ZodType): string => z.globalRegistry.get(field)?.description ?? '';

const withoutDefault = (field: z.core.$ZodType): z.core.$ZodType =>
  field instanceof z.ZodDefault || field instanceof z.ZodPrefault ? field.unwrap() : field;

function defaultNote(field: z.core.$ZodType): string {
  return field instanceof z.ZodDefault ? ` Default ${renderValue('', field.def.defaultValue)}.` : '';
}

/** TPM handles and NV indices are read in hexadecimal by everyone. */
function renderValue(key: string, value: unknown): string {
  if (typeof value === 'number' && /_(handle|base)$/.test(key))
    return `0x${value.toString(16).padStart(8, '0')}`;
  return stringify({ value })
    .trim()
    .replace(/^value = /, '');
}
