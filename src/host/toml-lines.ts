// Where each key of a TOML 1.1 document stands: the parser gives values without positions, and an error must name a line.
// Only for text that the parser has accepted; what is not valid TOML is the parser's to refuse.
import { parse } from 'smol-toml';

export type KeyPath = readonly (string | number)[];

/** The line (from 1) of the key at `path`, or of its nearest ancestor that is written down; 1 where there is none. */
export type LineOf = (path: KeyPath) => number;

/** Walks the text once and remembers the first line of every key, table and array element. */
export function locateLines(text: string): LineOf {
  const lines = new Map<string, number>();
  new Scanner(text, lines).document();
  return (path) => {
    for (let length = path.length; length > 0; length--) {
      const line = lines.get(JSON.stringify(path.slice(0, length).map(String)));
      if (line !== undefined) return line;
    }
    return 1;
  };
}

class Scanner {
  readonly #text: string;
  readonly #lines: Map<string, number>;
  /** How many elements each array of tables has so far, by its path. */
  readonly #elements = new Map<string, number>();
  #at = 0;
  #line = 1;

  constructor(text: string, lines: Map<string, number>) {
    this.#text = text;
    this.#lines = lines;
  }

  document(): void {
    let table: string[] = [];
    for (this.#skipBlank(); this.#at < this.#text.length; this.#skipBlank()) {
      if (this.#text.startsWith('[[', this.#at)) {
        this.#move(2);
        const path = this.#resolve(this.#dottedKey());
        const index = this.#elements.get(JSON.stringify(path)) ?? 0;
        this.#elements.set(JSON.stringify(path), index + 1);
        table = [...path, String(index)];
        this.#remember(table);
        this.#move(2);
      } else if (this.#text[this.#at] === '[') {
        this.#move(1);
        table = this.#resolveWhole(this.#dottedKey());
        this.#remember(table);
        this.#move(1);
      } else {
        this.#keyValue(table);
      }
    }
  }

  /** A header's path with the current element of each array of tables on the way, except the last name's own. */
  #resolve(names: readonly string[]): string[] {
    const parent = this.#resolveWhole(names.slice(0, -1));
    return [...parent, ...names.slice(-1)];
  }

  #resolveWhole(names: readonly string[]): string[] {
    const path: string[] = [];
    for (const name of names) {
      path.push(name);
      const count = this.#elements.get(JSON.stringify(path));
      if (count !== undefined) path.push(String(count - 1));
    }
    return path;
  }

  #keyValue(table: readonly string[]): void {
    const path = [...table, ...this.#dottedKey()];
    this.#remember(path);
    this.#move(1); // =
    this.#skipSpaces();
    this.#value(path);
  }

  #value(path: readonly string[]): void {
    const first = this.#text[this.#at];
    if (first === '[') this.#array(path);
    else if (first === '{') this.#inlineTable(path);
    else if (first === '"' || first === "'") this.#string(first);
    else while (this.#at < this.#text.length && !/[,\]}\n#]/.test(this.#text[this.#at] ?? '')) this.#move(1);
  }

  #array(path: readonly string[]): void {
    this.#move(1);
    this.#skipSeparators();
    for (let index = 0; this.#at < this.#text.length && this.#text[this.#at] !== ']'; index++) {
      const element = [...path, String(index)];
      this.#remember(element);
      this.#value(element);
      this.#skipSeparators();
    }
    this.#move(1);
  }

  #inlineTable(path: readonly string[]): void {
    this.#move(1);
    this.#skipSeparators();
    while (this.#at < this.#text.length && this.#text[this.#at] !== '}') {
      this.#keyValue(path);
      this.#skipSeparators();
    }
    this.#move(1);
  }

  #dottedKey(): string[] {
    const names: string[] = [];
    do {
      if (names.length > 0) this.#move(1); // .
      this.#skipSpaces();
      const first = this.#text[this.#at];
      if (first === '"' || first === "'") {
        const written = this.#string(first);
        names.push(String(parse(`key = ${written}`).key));
      } else {
        const start = this.#at;
        while (/[A-Za-z0-9_-]/.test(this.#text[this.#at] ?? '')) this.#move(1);
        names.push(this.#text.slice(start, this.#at));
      }
      this.#skipSpaces();
    } while (this.#text[this.#at] === '.');
    return names;
  }

  /** Moves past a string of any of the four kinds and returns it as written. */
  #string(quote: '"' | "'"): string {
    const start = this.#at;
    const long = this.#text.startsWith(quote.repeat(3), this.#at);
    const end = long ? quote.repeat(3) : quote;
    this.#move(end.length);
    while (this.#at < this.#text.length && !this.#text.startsWith(end, this.#at)) {
      this.#move(quote === '"' && this.#text[this.#at] === '\\' ? 2 : 1);
    }
    this.#move(end.length);
    // Up to two quotes may stand directly before the closing three.
    while (long && this.#text[this.#at] === quote) this.#move(1);
    return this.#text.slice(start, this.#at);
  }

  #skipSpaces(): void {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#move(1);
  }

  /** White space, line ends, comments. */
  #skipBlank(): void {
    for (;;) {
      if (this.#text[this.#at] === '#') {
        while (this.#at < this.#text.length && this.#text[this.#at] !== '\n') this.#move(1);
      } else if (/[ \t\r\n\uFEFF]/.test(this.#text[this.#at] ?? '')) this.#move(1);
      else return;
    }
  }

  #skipSeparators(): void {
    for (this.#skipBlank(); this.#text[this.#at] === ','; this.#skipBlank()) this.#move(1);
  }

  #move(characters: number): void {
    for (let moved = 0; moved < characters; moved++, this.#at++) {
      if (this.#text[this.#at] === '\n') this.#line++;
    }
  }

  /** Notes the line of a path and, where they are new, of the tables that it implies. */
  #remember(path: readonly string[]): void {
    for (let length = 1; length <= path.length; length++) {
      const key = JSON.stringify(path.slice(0, length));
      if (!this.#lines.has(key)) this.#lines.set(key, this.#line);
    }
  }
}
