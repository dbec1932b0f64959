/** How many tests ended how. */
export type Sums = { passed: number; failed: number; skipped: number };

/** A file's head in the output of `bun test`, and what begins the list of failed and skipped tests at its end. */
const head = /^(\S+\.test\.[jt]sx?):$/;
const closing = /^\d+ tests? (failed|skipped):$/;

/** The tests that ended so in what `bun test` printed, as `FILE: NAME`, each once: at its end bun lists them all again. */
export function namesIn(output: string, ending: "fail" | "skip"): string[] {
  const line = new RegExp(String.raw`^\(${ending}\) (.+?)(?: \[[\d.]+m?s\])?$`);
  const found = new Map<string, string>();
  let file = "";
  for (const text of output.split("\n")) {
    const name = line.exec(text)?.[1];
    file = closing.test(text) ? "" : (head.exec(text)?.[1] ?? file);
    if (name === undefined) continue;
    // What stands after the last file was told with its file before.
    if (file !== "" || ![...found.values()].includes(name)) found.set(`${file ? `${file}: ` : ""}${name}`, name);
  }
  return [...found.keys()];
}

/** The sums that `bun test` printed at its end, once or, where it ran several times, added. */
export function sumsIn(output: string): Sums {
  const sum = (word: string) =>
    [...output.matchAll(new RegExp(String.raw`^\s*(\d+) ${word}\b`, "gm"))].reduce((all, [, n]) => all + Number(n), 0);
  return { passed: sum("pass"), failed: sum("fail"), skipped: sum("skip") };
}
