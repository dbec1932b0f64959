import { describe, expect, test } from "bun:test";
import { Glob } from "bun";

const root = new URL("..", import.meta.url).pathname;
const files = [...new Glob("deploy/**/*").scanSync({ cwd: root, onlyFiles: true })].sort();
const text = (path: string) => Bun.file(root + path).text();

/** What the programs say they read. */
const known = async () => {
  const helps = await Promise.all(["packages/control/src/main.ts", "packages/host/src/main.ts"].map(text));
  return new Set(helps.join(" ").match(/\b[A-Z][A-Z0-9]*(_[A-Z0-9]+)+\b/g));
};
const own = /\b(WRENN|CP|SMTP|OAUTH)_[A-Z0-9_]+\b|\bDATABASE_URL\b/g;

describe("deployment files", () => {
  test("name only variables that the programs read", async () => {
    const variables = await known();
    for (const file of files) {
      const strange = (await text(file)).match(own)?.filter((name) => !variables.has(name) && name !== "WRENN_BIN_DIR");
      expect([file, strange ?? []]).toEqual([file, []]);
    }
  });

  test("are well formed where that can be told without their own programs", async () => {
    for (const file of files.filter((path) => /\.ya?ml$/.test(path) && !path.includes("/templates/")))
      expect(Bun.YAML.parse(await text(file))).toBeObject();
    for (const file of files.filter((path) => path.endsWith(".service"))) {
      const sections = (await text(file)).match(/^\[\w+\]$/gm);
      expect([file, sections]).toEqual([file, ["[Unit]", "[Service]", "[Install]"]]);
    }
    for (const file of files.filter((path) => path.includes("/templates/"))) {
      const content = await text(file);
      const opened = content.match(/\{\{-? (if|range|with)\b/g)?.length ?? 0;
      expect([file, content.match(/\{\{-? end\b/g)?.length ?? 0]).toEqual([file, opened]);
    }
  });
});
