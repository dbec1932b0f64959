import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { WrennError } from "@wrenn/contract";
import { Tree } from "../../src/volumes/tree.ts";

let dir: string;
let root: string;
let tree: Tree;

beforeEach(() => {
  dir = mkdtempSync(`${tmpdir()}/wrenn-volume-`);
  root = `${dir}/volume`;
  mkdirSync(root);
  mkdirSync(`${dir}/outside`);
  writeFileSync(`${dir}/outside/secret`, "secret");
  tree = new Tree(root);
});
afterEach(() => {
  tree[Symbol.dispose]();
  rmSync(dir, { recursive: true, force: true });
});

async function* bytes(...texts: string[]) {
  for (const text of texts) yield new TextEncoder().encode(text);
}
const write = (path: string, text: string, replace = true) => tree.write(path, bytes(text), { replace });
const codeOf = (act: () => unknown): string | undefined => {
  try {
    act();
    return undefined;
  } catch (thrown) {
    return WrennError.from(thrown).code;
  }
};
const codeLater = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (thrown) => WrennError.from(thrown).code,
  );

describe("the files of a volume", () => {
  test("are written whole, described, listed to a depth, changed and removed", async () => {
    expect(await tree.write("/a/b/file", bytes("one ", "two"), { replace: true, mode: 0o600 })).toMatchObject({
      ...{ name: "file", path: "/a/b/file", type: "file", size: 7, mode: 0o600 },
    });
    expect(readFileSync(`${root}/a/b/file`, "utf8")).toBe("one two");
    await write("a/b/file", "three");
    expect(tree.stat("a/b/file")).toMatchObject({ size: 5, mode: 0o600 });
    expect(tree.makeDir("empty", {}, false)).toMatchObject({ type: "directory", mode: 0o755 });
    expect(tree.list("/", 1).map(({ path }) => path)).toEqual(["/a", "/empty"]);
    expect(tree.list("/", 3).map(({ path }) => path)).toEqual(["/a", "/a/b", "/a/b/file", "/empty"]);
    expect(tree.change("a/b", { mode: 0o4777 }).mode).toBe(0o777);
    using file = tree.read("a/b/file");
    expect([file.size, readFileSync(file.path, "utf8")]).toEqual([5, "three"]);
    tree.remove("a");
    expect(readdirSync(root)).toEqual(["empty"]);
  });

  test("what is wrong is refused by its code, and changes nothing", async () => {
    await write("file", "x");
    expect(codeOf(() => tree.stat("nope"))).toBe("not_found");
    expect(codeOf(() => tree.list("file", 1))).toBe("invalid_request");
    expect(codeOf(() => tree.makeDir("file", {}, true))).toBe("conflict");
    expect(codeOf(() => tree.makeDir("no/parents", {}, false))).toBe("not_found");
    expect(tree.makeDir("with/parents", {}, true).path).toBe("/with/parents");
    expect(codeOf(() => tree.makeDir("with/parents", {}, false))).toBe("conflict");
    expect(codeOf(() => tree.read("with"))).toBe("invalid_request");
    expect(codeOf(() => tree.remove("/"))).toBe("invalid_request");
    expect(await codeLater(write("file", "y", false))).toBe("conflict");
    expect(await codeLater(write("with", "y"))).toBe("invalid_request");
    expect(codeOf(() => tree.stat("a\0b"))).toBe("invalid_request");
  });

  test("an upload that breaks off leaves what was there", async () => {
    await write("file", "whole");
    async function* broken() {
      yield new Uint8Array(10);
      throw new Error("the client is gone");
    }
    await tree.write("file", broken(), { replace: true }).catch(() => {});
    expect(readFileSync(`${root}/file`, "utf8")).toBe("whole");
    expect(readdirSync(root)).toEqual(["file"]);
  });
});

describe("nothing outside is reached", () => {
  test("by dots, which end at the volume", async () => {
    await write("../../outside/secret", "mine");
    expect(readFileSync(`${dir}/outside/secret`, "utf8")).toBe("secret");
    expect(tree.stat("/../..").path).toBe("/");
  });

  for (const [kind, target] of [
    ["an absolute link", "/etc"],
    ["a relative link", "../outside"],
    ["a link to a process's own files", "/proc/self/root"],
  ] as const)
    test(`by ${kind}: it is described, replaced and removed itself, and never followed`, async () => {
      symlinkSync(target, `${root}/link`);
      expect(tree.stat("link")).toMatchObject({ type: "symlink", target });
      for (const act of [
        () => tree.stat("link/secret"),
        () => tree.list("link", 1),
        () => tree.makeDir("link/new", {}, true),
        () => tree.remove("link/secret"),
        () => tree.read("link/secret"),
        () => tree.change("link", { mode: 0o777 }),
      ])
        expect(codeOf(act)).toBe("invalid_request");
      expect(await codeLater(write("link/new", "x"))).toBe("invalid_request");
      expect(tree.list("/", 5).map(({ path }) => path)).toEqual(["/link"]);
      await write("link", "a file now");
      expect(readFileSync(`${root}/link`, "utf8")).toBe("a file now");
      expect(existsSync(`${dir}/outside/new`)).toBe(false);
    });

  test("by a folder that somebody replaced by a link", () => {
    mkdirSync(`${root}/tree/inner`, { recursive: true });
    renameSync(`${root}/tree/inner`, `${dir}/moved`);
    symlinkSync("../../outside", `${root}/tree/inner`);
    tree.remove("tree");
    expect(readdirSync(root)).toEqual([]);
    expect(readFileSync(`${dir}/outside/secret`, "utf8")).toBe("secret");
  });

  test("links within the volume are followed", async () => {
    await write("real/file", "x");
    symlinkSync("real", `${root}/alias`);
    expect(tree.stat("alias/file").size).toBe(1);
    await write("alias/other", "y");
    expect(readFileSync(`${root}/real/other`, "utf8")).toBe("y");
  });
});
