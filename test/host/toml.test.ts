import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { Failure } from '../../src/host/failure.ts';
import { parseToml, readToml } from '../../src/host/toml.ts';

const schema = z.strictObject({
  name: z.string().min(2).default('node'),
  count: z.int().max(9).default(1),
  ratio: z.number().default(0.5),
  above: z.number().positive().default(1),
  on: z.boolean().default(true),
  colour: z.enum(['red', 'green']).default('red'),
  mac: z
    .string()
    .regex(/^[0-9a-f]{2}$/)
    .optional(),
  where: z.union([z.literal(''), z.url()]).default(''),
  host: z.union([z.literal(''), z.string().startsWith('/')], 'an absolute path or ""').default(''),
  table: z.strictObject({ inner: z.number().optional(), other: z.number().optional() }).prefault({}),
  items: z
    .array(z.discriminatedUnion('kind', [z.strictObject({ kind: z.literal('a'), value: z.number() })]))
    .max(2)
    .default([]),
  rules: z
    .record(z.string().regex(/^[a-z]+$/, 'lower-case letters'), z.strictObject({ level: z.number() }))
    .default({}),
  maybe: z.strictObject({ deep: z.number() }).nullable().optional(),
  piped: z
    .strictObject({ left: z.number() })
    .transform(({ left }) => left)
    .optional(),
});

function refusalOf(text: string): Failure {
  try {
    parseToml(text, 'x.toml', schema);
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

describe('a TOML file that decides something', () => {
  it('may be empty where everything has a default', () => {
    expect(parseToml('', 'x.toml', schema)).toMatchObject({ name: 'node', count: 1, table: {}, items: [] });
  });

  it.each([
    ['count = "3"', 'x.toml:1: count: expected a number, found "3"'],
    ['count = 1.5', 'x.toml:1: count: expected a whole number, found 1.5'],
    ['count = 10', 'x.toml:1: count: expected at most 9, found 10'],
    ['above = 0', 'x.toml:1: above: expected more than 0, found 0'],
    ['name = "a"', 'x.toml:1: name: expected at least 2 characters, found "a"'],
    ['name = 1979-05-27', 'x.toml:1: name: expected a string, found a date'],
    ['ratio = [1, 2]', 'x.toml:1: ratio: expected a number, found an array of 2'],
    ['on = "yes"', 'x.toml:1: on: expected true or false, found "yes"'],
    ['\n\ncolour = "blue"', 'x.toml:3: colour: expected "red" or "green", found "blue"'],
    ['mac = "zz"', 'x.toml:1: mac: expected something that matches /^[0-9a-f]{2}$/, found "zz"'],
    // zod reports the one alternative of a union that has the right type.
    ['where = "x"', 'x.toml:1: where: expected a valid url, found "x"'],
    ['host = 1', 'x.toml:1: host: expected an absolute path or "", found 1'],
    ['host = "x"', 'x.toml:1: host: expected something that starts with /, found "x"'],
    ['table = 1', 'x.toml:1: table: expected a table, found 1'],
    ['items = { }', 'x.toml:1: items: expected an array, found a table'],
    ['[[items]]\nkind = "b"', 'x.toml:2: items[0].kind: expected "a", found "b"'],
    ['[[items]]\nkind = "a"', 'x.toml:1: items[0].value: expected a number, nothing is there'],
    [
      'items = [{ kind = "a", value = 1 }, { kind = "a", value = 1 }, { kind = "a", value = 1 }]',
      'x.toml:1: items: expected at most 2 elements, found an array of 3',
    ],
    ['[rules.A]\nlevel = 1', 'x.toml:1: rules.A: expected lower-case letters as the key'],
    ['[rules."a b"]\nlevel = 1', 'x.toml:1: rules."a b": expected lower-case letters as the key'],
    [`name = "${'word '.repeat(20)}"\ncount = true`, 'x.toml:2: count: expected a number, found true'],
    [
      `colour = "${'word '.repeat(20)}"`,
      `x.toml:1: colour: expected "red" or "green", found "${'word '.repeat(12)}"…`,
    ],
  ])('says of %j where, what was expected and what was found', (text, message) => {
    const refusal = refusalOf(text);
    expect(refusal.message).toBe(message);
    expect(refusal).toMatchObject({ code: 'config-invalid', status: 2, kept: 'Nothing has been changed.' });
  });

  it.each([
    ['nmae = "x"', 'x.toml:1: nmae: unknown key; did you mean `name`?'],
    ['[table]\niner = 1', 'x.toml:2: table.iner: unknown key; did you mean `inner`?'],
    ['[table]\nzzzzzzzz = 1', 'x.toml:2: table.zzzzzzzz: unknown key; known here: inner, other'],
    [
      '[[items]]\nkind = "a"\nvalue = 1\nvalu = 1',
      'x.toml:4: items[0].valu: unknown key; did you mean `value`?',
    ],
    ['[rules.a]\nlevel = 1\nlevle = 2', 'x.toml:3: rules.a.levle: unknown key; did you mean `level`?'],
    ['[maybe]\ndeep = 1\ndepe = 1', 'x.toml:3: maybe.depe: unknown key; did you mean `deep`?'],
    ['[piped]\nleft = 1\nlfet = 1', 'x.toml:3: piped.lfet: unknown key; did you mean `left`?'],
  ])('names the nearest known key for %j', (text, message) => {
    expect(refusalOf(text).message).toBe(message);
  });

  it('lists all problems in the order of the file', () => {
    expect(refusalOf('colour = "x"\ncuont = 1\non = 1\n').message.split('\n')).toEqual([
      'x.toml:1: colour: expected "red" or "green", found "x"',
      'x.toml:2: cuont: unknown key; did you mean `count`?',
      'x.toml:3: on: expected true or false, found 1',
    ]);
  });

  it('gives line and column of what is not TOML', () => {
    expect(refusalOf('a = 1\nb = = 2\n').message).toMatch(/^x\.toml:2: not valid TOML: .+ \(column \d+\)$/);
    expect(refusalOf('a = 1\na = 2\n').message).toMatch(/^x\.toml:2: not valid TOML: /);
  });

  it.each(['password', 'api_token', 'aws_secret', 'private_key', 'preshared_key', 'tpm_pin'])(
    'refuses the key %s because secrets never stand in the configuration, without showing its value',
    (key) => {
      const { message } = refusalOf(`${key} = "hunter2"`);
      expect(message).toContain('secrets never stand in the configuration');
      expect(message).not.toContain('hunter2');
    },
  );

  it('does not show a misplaced value that may be a secret', () => {
    const key = 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=';
    expect(refusalOf(`colour = "${key}"`).message).not.toContain(key.slice(0, 12));
    expect(refusalOf('colour = "s3://user:hunter2@bucket"').message).not.toContain('hunter2');
  });

  it('answers any text with a value or a Failure', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom(...'[]{}="\'\n.,#ab1\\ ') })),
        (text) => {
          try {
            parseToml(text, 'x.toml', schema);
          } catch (error) {
            expect(error).toBeInstanceOf(Failure);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('reading it from a path', () => {
  it('names the file as it was given', () => {
    const directory = mkdtempSync(join(tmpdir(), 'ea-toml-'));
    try {
      const path = join(directory, 'a.toml');
      writeFileSync(path, 'count = 2\n');
      expect(readToml(path, schema).count).toBe(2);
      writeFileSync(path, 'count = "2"\n');
      expect(() => readToml(path, schema)).toThrow(`${path}:1: count:`);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('says when there is none, or it is a directory', () => {
    expect(() => readToml('/nonexistent/a.toml', schema)).toThrow('there is no such file');
    expect(() => readToml('/', schema)).toThrow('EISDIR');
  });
});
