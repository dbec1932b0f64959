import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** What the documents name must be there: a reader who follows them must not end in nothing. */
const root = join(import.meta.dir, "..");
const documents = ["README.md", "SCOPE.md", "SPEC.md", "CONTRIBUTING.md", "SECURITY.md", "docs/ARCHITECTURE.md"];
for (const name of readdirSync(`${root}/docs`))
  if (name.endsWith(".md") && !documents.includes(`docs/${name}`)) documents.push(`docs/${name}`);

const folders = new Set(
  readdirSync(root, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? entry.name : [])),
);
const targets = new Set(
  [...readFileSync(`${root}/Makefile`, "utf8").matchAll(/^([a-z-]+):/gm)].map((match) => match[1]!),
);

/** Commands of the command line, as its own sources name them. */
const commands = new Set(
  ["commands", "up", "doctor", "template"]
    .flatMap((folder) => readdirSync(`${root}/packages/cli/src/${folder}`).map((file) => `${folder}/${file}`))
    .map((file) => readFileSync(`${root}/packages/cli/src/${file}`, "utf8"))
    .flatMap((source) => [...source.matchAll(/(?:new Command|act)\("(\w+)"|\.alias\("(\w+)"\)/g)])
    .map((match) => match[1] ?? match[2]!),
);

/** Made on each machine, and not part of the repository. */
const made = /^(builds|node_modules|\.tools|\.cache|bench\/results)(\/|$)/;

/** Paths of the repository that a text names: targets of links, and code that begins with a folder of the repository. */
function pathsIn(text: string, document: string): string[] {
  const links = [...text.matchAll(/\]\((?!\w+:|#)([^)#\s]+)/g)].map((match) => join(dirname(document), match[1]!));
  const code = [...text.matchAll(/`([\w.-]+\/[\w./-]*)`/g)].map((match) => match[1]!);
  return [...links, ...code.filter((path) => folders.has(path.split("/")[0]!))].filter((path) => !made.test(path));
}

const blocks = (text: string) => [...text.matchAll(/^```sh\n(.*?)^```/gms)].flatMap((match) => match[1]!.split("\n"));

for (const document of documents) {
  const isThere = existsSync(`${root}/${document}`);
  describe.skipIf(!isThere)(isThere ? document : `${document} — skipped: it is not written yet`, () => {
    const text = isThere ? readFileSync(`${root}/${document}`, "utf8") : "";

    test("every path it names exists", () => {
      const missing = pathsIn(text, document).filter(
        (path) => !existsSync(`${root}/${path}`) && !documents.includes(path),
      );
      expect(missing).toEqual([]);
    });

    test("every make target it names exists", () => {
      const inCode = [...text.matchAll(/`(?:[A-Z_]+=\S+ )?make ([a-z-]+)/g)].map((match) => match[1]!);
      const inBlocks = blocks(text).flatMap((line) => /^make ([a-z-]+)/.exec(line)?.[1] ?? []);
      expect([...inCode, ...inBlocks].filter((name) => !targets.has(name))).toEqual([]);
    });

    test("every wrenn command in its examples exists", () => {
      const lines = blocks(text).flatMap((line) => /(?:^|\$\()\s*(?:builds\/)?wrenn ([a-z]+)/.exec(line)?.[1] ?? []);
      const inCode = [...text.matchAll(/`wrenn ([a-z]+)/g)].map((match) => match[1]!);
      expect([...lines, ...inCode].filter((name) => !commands.has(name))).toEqual([]);
    });
  });
}

test("the sources name the commands that the checks above compare with", () => {
  expect([...commands]).toEqual(
    expect.arrayContaining(["up", "doctor", "create", "exec", "shell", "cp", "pause", "rm"]),
  );
  expect([...targets]).toEqual(expect.arrayContaining(["up", "test", "build", "images"]));
});
