// What JSON (RFC 8259, section 4) leaves open, and what is signed or judged must not.

/** Whether an object in a text that is JSON has a key twice: readers differ in which of the two they take. */
export function repeatsKey(text: string): boolean {
  const open: Set<string>[] = [];
  for (const [token, string, colon] of text.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '}') open.pop();
    else if (string !== undefined && colon !== undefined) {
      const key: string = JSON.parse(string);
      if (open.at(-1)?.has(key)) return true;
      open.at(-1)?.add(key);
    }
  }
  return false;
}
