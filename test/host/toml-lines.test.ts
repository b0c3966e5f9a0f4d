import fc from 'fast-check';
import { stringify } from 'smol-toml';
import { describe, expect, it } from 'vitest';
import { type KeyPath, locateLines } from '../../src/host/toml-lines.ts';

const everyForm = `# a comment with [brackets] and = signs
plain = 1
"quo.ted" = 2   # a = b
'lit\\eral' = 3
"tab\\tand\\u0041" = 4
a.b.c = 5
text = """
[not.a.table]
key = "no" \\""" still """""
literal = '''
[[nor.this]]
'''
when = 1979-05-27 07:32:00Z
list = [ # comment ]
  "x,]", 'y#',
  [ 1,
    2 ],
  { deep = { er = true } }, # last
]
inline = { one = 1, "two" = [ 2 ], three.four = 4 }

[table]
key = 1
[ "spa ced" . sub ]
key = 2

[[items]]
name = "first"
[items.inner]
key = 3
[[items.parts]]
p = 1
[[items.parts]]
p = 2
[[items]]
name = "second"
[[items.parts]]
p = 3
`;

describe('finding the line of a key in a TOML document', () => {
  const lineOf = locateLines(everyForm);
  const cases: [KeyPath, number][] = [
    [['plain'], 2],
    [['quo.ted'], 3],
    [['lit\\eral'], 4],
    [['tab\tandA'], 5],
    [['a'], 6],
    [['a', 'b', 'c'], 6],
    [['text'], 7],
    [['literal'], 10],
    [['when'], 13],
    [['list', 0], 15],
    [['list', 1], 15],
    [['list', 2, 1], 17],
    [['list', 3, 'deep', 'er'], 18],
    [['inline', 'three', 'four'], 20],
    [['inline', 'two', 0], 20],
    [['table', 'key'], 23],
    [['spa ced', 'sub', 'key'], 25],
    [['items', 0], 27],
    [['items', 0, 'inner', 'key'], 30],
    [['items', 0, 'parts', 1, 'p'], 34],
    [['items', 1, 'name'], 36],
    [['items', 1, 'parts', 0, 'p'], 38],
  ];
  it.each(cases)('finds %j on line %i', (path, line) => {
    expect(lineOf(path)).toBe(line);
  });

  it('falls back to the nearest ancestor that is written down, and to line 1', () => {
    expect(lineOf(['table', 'missing'])).toBe(22);
    expect(lineOf(['items', 1, 'inner', 'key'])).toBe(35);
    expect(lineOf(['nowhere', 'at', 'all'])).toBe(1);
    expect(lineOf([])).toBe(1);
  });

  it('keeps count of lines that end in CR LF', () => {
    expect(locateLines('\uFEFFa = 1\r\n\r\n[t]\r\nb = "x"\r\n')(['t', 'b'])).toBe(4);
  });

  it('finds every value of any document that the serializer writes', () => {
    let next = 100_000;
    const leaf = fc.constant(null).map(() => next++);
    const key = fc.string({ minLength: 1, maxLength: 6 }).filter((text) => text !== '__proto__');
    const { tree } = fc.letrec((tie) => ({
      tree: fc.dictionary(
        key,
        fc.oneof({ maxDepth: 4 }, leaf, fc.array(leaf), fc.array(tie('tree'), { maxLength: 3 }), tie('tree')),
        { maxKeys: 5 },
      ),
    }));
    fc.assert(
      fc.property(tree, (document) => {
        const text = stringify(document as Record<string, unknown>);
        const lines = text.split('\n');
        const found = locateLines(text);
        for (const [path, value] of leavesOf(document)) {
          expect(lines[found(path) - 1], `${JSON.stringify(path)} in\n${text}`).toContain(String(value));
        }
      }),
      { numRuns: 300 },
    );
  });
});

function leavesOf(value: unknown, path: KeyPath = []): [KeyPath, number][] {
  if (typeof value === 'number') return [[path, value]];
  const entries = Array.isArray(value) ? [...value.entries()] : Object.entries(value as object);
  return entries.flatMap(([key, inner]) => leavesOf(inner, [...path, key]));
}
