// TOML files that decide something (configuration, policies, profiles), checked against a zod schema. Every problem is
// listed as `file:line: key: what was expected, what was found`, unknown keys with the nearest known one.
import { readFileSync } from 'node:fs';
import { closest, distance } from 'fastest-levenshtein';
import { parse, TomlError } from 'smol-toml';
import { exitStatus, Failure } from './failure.ts';
import { type KeyPath, type LineOf, locateLines } from './toml-lines.ts';
import { z } from './zod.ts';

/**
 * Reads and checks one file.
 * @throws Failure `config-missing` when it cannot be read, `config-invalid` as `parseToml`; both with status 2.
 */
export function readToml<S extends z.ZodType>(path: string, schema: S): z.output<S> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why = code === 'ENOENT' ? 'there is no such file' : `${code ?? error}`;
    throw new Failure('config-missing', `${path} cannot be read: ${why}.`, {
      kept: nothingTouched,
      remedy: 'Check the path and its permissions.',
      status: exitStatus.usage,
      cause: error,
    });
  }
  return parseToml(text, path, schema);
}

/**
 * Checks the text of a TOML document; pure. `name` stands before each line number. A schema's own message (the second
 * argument of most zod checks) is worded as what was expected: `z.string().regex(…, 'a MAC address')`.
 * @throws Failure `config-invalid`, status 2, one line a problem, in the order of the file.
 */
export function parseToml<S extends z.ZodType>(text: string, name: string, schema: S): z.output<S> {
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const what = error.message.split('\n')[0]?.replace('Invalid TOML document: ', '');
    throw invalid(name, [{ line: error.line, sentence: `not valid TOML: ${what} (column ${error.column})` }]);
  }
  const result = schema.safeParse(document, { error: expectation });
  if (result.success) return result.data;
  const lineOf = locateLines(text);
  throw invalid(
    name,
    result.error.issues.flatMap((issue) => problemsOf(issue, document, schema, lineOf)),
  );
}

const nothingTouched = 'Nothing has been changed.';

interface Problem {
  readonly line: number;
  readonly sentence: string;
}

function invalid(name: string, problems: readonly Problem[]): Failure {
  const lines = problems
    .toSorted((a, b) => a.line - b.line)
    .map(({ line, sentence }) => `${name}:${line}: ${sentence}`);
  return new Failure('config-invalid', lines.join('\n'), {
    kept: nothingTouched,
    remedy: `Correct ${lines.length === 1 ? 'this line' : `these ${lines.length} lines`} and repeat the command.`,
    status: exitStatus.usage,
  });
}

function problemsOf(
  issue: z.core.$ZodIssue,
  document: unknown,
  schema: z.core.$ZodType,
  lineOf: LineOf,
): Problem[] {
  const path = issue.path.filter((part) => typeof part !== 'symbol');
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(schema, path);
    return issue.keys.map((key) => ({
      line: lineOf([...path, key]),
      sentence: unknownKey([...path, key], known),
    }));
  }
  if (issue.code === 'invalid_key') {
    const expected = issue.issues[0]?.message ?? 'another key';
    return [{ line: lineOf(path), sentence: `${written(path)}: expected ${expected} as the key` }];
  }
  const value = path.reduce<unknown>(
    (at, key) => (at as Record<string, unknown> | undefined)?.[key],
    document,
  );
  const found = value === undefined ? 'nothing is there' : `found ${describe(value)}`;
  const where = path.length === 0 ? 'the document' : written(path);
  return [{ line: lineOf(path), sentence: `${where}: expected ${issue.message}, ${found}` }];
}

function unknownKey(path: KeyPath, known: readonly string[]): string {
  const key = String(path.at(-1));
  if (/passw|secret|token|credential|private_?key|preshared|passphrase|pin$/i.test(key)) {
    return `${written(path)}: secrets never stand in the configuration; name a sealed key or a credential file instead`;
  }
  const nearest = known.length === 0 ? undefined : closest(key, known);
  const near = nearest !== undefined && distance(key, nearest) <= Math.max(2, key.length / 2);
  const hint = near
    ? `; did you mean \`${nearest}\`?`
    : known.length === 0
      ? ''
      : `; known here: ${known.join(', ')}`;
  return `${written(path)}: unknown key${hint}`;
}

/** What zod expected, in the words that follow "expected"; a schema's own message takes precedence over this. */
const expectation: z.core.$ZodErrorMap = (issue) => {
  switch (issue.code) {
    case 'invalid_type':
      return nouns[issue.expected] ?? issue.expected;
    case 'invalid_value':
      return issue.values.map((value) => JSON.stringify(value)).join(' or ');
    case 'too_small':
    case 'too_big': {
      const unit = issue.origin === 'string' ? ' characters' : issue.origin === 'array' ? ' elements' : '';
      const [bound, words, beyond] =
        issue.code === 'too_small'
          ? [issue.minimum, 'at least', 'more than']
          : [issue.maximum, 'at most', 'less than'];
      return `${issue.inclusive === false ? beyond : words} ${bound}${unit}`;
    }
    case 'invalid_union':
      return 'options' in issue && Array.isArray(issue.options)
        ? issue.options.map((value) => JSON.stringify(value)).join(' or ')
        : [...new Set(issue.errors?.flatMap((errors) => errors.map((error) => error.message)))].join(' or ');
    case 'invalid_format':
      if (issue.format === 'regex') return `something that matches ${issue.pattern}`;
      return 'prefix' in issue ? `something that starts with ${issue.prefix}` : `a valid ${issue.format}`;
    default:
      return undefined;
  }
};

const nouns: Record<string, string> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'an array',
  object: 'a table',
  record: 'a table',
};

/** A value as found, shortened; what looks like a key, or lies within a URL, may be a misplaced secret and is not shown. */
function describe(value: unknown): string {
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (value instanceof Date) return 'a date';
  if (typeof value === 'object' && value !== null) return 'a table';
  if (typeof value !== 'string') return String(value);
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(value)?.[0];
  if (scheme !== undefined) return JSON.stringify(`${scheme}…`);
  if (/[A-Za-z0-9+/=_-]{32,}|-----BEGIN/.test(value))
    return 'a string that is not shown (it may hold a secret)';
  return value.length > 60 ? `${JSON.stringify(value.slice(0, 60))}…` : JSON.stringify(value);
}

/** A path as a person would write it: `links[0].peers[1].public_key`. */
function written(path: KeyPath): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    const name = /^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part);
    return text === '' ? name : `${text}.${name}`;
  }, '');
}

/** The keys that the schema knows in the table at `path`. */
function keysAt(schema: z.core.$ZodType, path: KeyPath): string[] {
  const [first, ...rest] = path;
  if (
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault ||
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable
  ) {
    return keysAt(schema.unwrap(), path);
  }
  if (schema instanceof z.ZodPipe) return keysAt(schema.def.in, path);
  if (schema instanceof z.ZodUnion) return schema.options.flatMap((option) => keysAt(option, path));
  if (schema instanceof z.ZodArray) return keysAt(schema.element, rest);
  if (schema instanceof z.ZodRecord) {
    if (first !== undefined) return keysAt(schema.valueType, rest);
    return schema.keyType instanceof z.ZodEnum ? schema.keyType.options.map(String) : [];
  }
  if (!(schema instanceof z.ZodObject)) return [];
  const shape: Record<string, z.core.$ZodType> = schema.shape;
  if (first === undefined) return Object.keys(shape);
  const next = shape[String(first)];
  return next === undefined ? [] : keysAt(next, rest);
}
