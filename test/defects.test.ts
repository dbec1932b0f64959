import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";

const root = new URL("..", import.meta.url).pathname;
const rows = readFileSync(`${root}docs/defects.md`, "utf8")
  .split("\n")
  .filter((line) => /^\| (?!defect|-)/.test(line))
  .map((line) => line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "")));

test("every defect names a test that exists under its title", () => {
  expect(rows.length).toBeGreaterThan(25);
  const missing: string[] = [];
  for (const [defect, , proof = ""] of rows) {
    const files = [...proof.matchAll(/`([^`]+)`((?:[:;] ?"[^"]+")*)/g)];
    if (files.length === 0) missing.push(`${defect}: no test`);
    for (const [, file, titles] of files) {
      const source = existsSync(root + file) ? readFileSync(root + file, "utf8") : undefined;
      if (source === undefined) missing.push(`${defect}: ${file}`);
      for (const [, title] of titles!.matchAll(/"([^"]+)"/g))
        if (!source?.includes(title!)) missing.push(`${defect}: ${file}: ${title}`);
    }
  }
  expect(missing).toEqual([]);
});
