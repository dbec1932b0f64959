/** A file's head in the output of `bun test`, and a test that failed. */
const head = /^(\S+\.test\.[jt]sx?):$/;
const failed = /^\(fail\) (.+?)(?: \[[\d.]+m?s\])?$/;

/** The tests that failed in what `bun test` printed, as `FILE: NAME`, each once: at its end bun lists them all again. */
export function failuresIn(output: string): string[] {
  const found = new Map<string, string>();
  let file = "";
  for (const line of output.split("\n")) {
    const name = failed.exec(line)?.[1];
    file = head.exec(line)?.[1] ?? (/^\d+ tests? failed:$/.test(line) ? "" : file);
    if (name === undefined) continue;
    // What stands after the last file was told with its file before.
    if (file !== "" || ![...found.values()].includes(name)) found.set(`${file ? `${file}: ` : ""}${name}`, name);
  }
  return [...found.keys()];
}
