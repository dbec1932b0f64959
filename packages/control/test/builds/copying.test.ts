import { describe, expect, test } from "bun:test";
import { zipSync } from "fflate";
import { extract, type Header, pack } from "tar-stream";
import type { Copying } from "../../src/services/builds/actions.ts";
import { asTar } from "../../src/services/builds/archive.ts";
import { type Bytes, contentDigest, eachEntry, Selection, selected } from "../../src/services/builds/copying.ts";

type Item = Partial<Header> & { name: string; content?: string };

async function tarOf(...items: Item[]): Promise<Buffer> {
  const writer = pack();
  for (const { content = "", ...header } of items) writer.entry({ mode: 0o644, ...header }, content);
  writer.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of writer) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

/** The bytes in small pieces, as a network brings them. */
async function* pieces(bytes: Uint8Array, size = 700): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function listed(tar: Bytes): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  const reader = extract();
  void (async () => {
    for await (const chunk of tar) reader.write(chunk);
    reader.end(undefined);
  })().catch((error) => reader.destroy(error));
  for await (const entry of reader) {
    let text = "";
    for await (const chunk of entry) text += Buffer.from(chunk as Uint8Array).toString();
    const { name, type, mode, uid, linkname } = entry.header;
    found[name] = type === "file" ? `${mode.toString(8)} ${uid} ${text}` : `${type} ${linkname ?? ""}`.trim();
  }
  return found;
}

const copying = (sources: string[], target: string, more: Partial<Copying> = {}): Copying => ({
  ...{ from: { kind: "archive", hash: "x" }, sources, target, unpack: false, intoNamedFolder: false },
  ...more,
});

const context = () =>
  tarOf(
    { name: "./", type: "directory", mode: 0o755 },
    { name: "./a.txt", content: "A" },
    { name: "./b.md", content: "B" },
    { name: "./src/", type: "directory", mode: 0o755 },
    { name: "./src/main.ts", content: "M", mode: 0o755 },
    { name: "./src/lib/x.ts", content: "X" },
    { name: "./link", type: "symlink", linkname: "/etc/passwd" },
  );

const copied = async (what: Copying, isFolder = false) =>
  listed(selected(pieces(await context()), new Selection(what, 3, isFolder), { uid: 7, gid: 7 }));

describe("COPY", () => {
  test("puts what is in a folder into the target", async () => {
    expect(await copied(copying(["src"], "/app"))).toEqual({
      ...{ app: "directory", "app/main.ts": "755 7 M", "app/lib/x.ts": "644 7 X" },
    });
  });

  test("names a file as its target, or puts it into a folder that ends with / or is there", async () => {
    expect(await copied(copying(["a.txt"], "/etc/motd"))).toEqual({ "etc/motd": "644 7 A" });
    expect(await copied(copying(["a.txt"], "/etc/"))).toEqual({ "etc/a.txt": "644 7 A" });
    expect(await copied(copying(["a.txt"], "/etc"), true)).toEqual({ "etc/a.txt": "644 7 A" });
  });

  test("takes patterns, which do not cross folders", async () => {
    expect(Object.keys(await copied(copying(["*.txt", "src/*.ts"], "/x/")))).toEqual(["x/a.txt", "x/main.ts"]);
  });

  test("takes everything, symbolic links as they are", async () => {
    const all = await copied(copying(["."], "/app"));
    expect(all["app/link"]).toBe("symlink /etc/passwd");
    expect(Object.keys(all)).toContain("app/src/lib/x.ts");
  });

  test("of a recipe keeps the folder's name", async () => {
    expect(Object.keys(await copied(copying(["src"], "/app/", { intoNamedFolder: true })))).toContain(
      "app/src/main.ts",
    );
  });

  test("sets the mode that it is given", async () => {
    expect(await copied(copying(["a.txt"], "/x", { mode: 0o600 }))).toEqual({ x: "600 7 A" });
  });

  test("of what is not there is refused with its line", async () => {
    await expect(copied(copying(["none"], "/x"))).rejects.toThrow('line 3: there is no "none"');
  });
});

describe("the digest of what is copied", () => {
  const digest = async (what: Copying, tar: Uint8Array) => contentDigest(pieces(tar), new Selection(what, 1));

  test("does not see files that are not copied, times or owners", async () => {
    const one = await tarOf({ name: "a", content: "1", mtime: new Date(1), uid: 1 }, { name: "b", content: "1" });
    const two = await tarOf({ name: "b", content: "2" }, { name: "a", content: "1", mtime: new Date(9e11), uid: 2 });
    expect(await digest(copying(["a"], "/x"), one)).toBe(await digest(copying(["a"], "/x"), two));
    expect(await digest(copying(["b"], "/x"), one)).not.toBe(await digest(copying(["b"], "/x"), two));
  });
});

describe("an archive", () => {
  test.each(["../evil", "a/../../evil", "/../evil"])("that holds %j is refused", async (name) => {
    const tar = await tarOf({ name, content: "x" });
    await expect(eachEntry(pieces(tar), () => {})).rejects.toThrow("leads out of it");
  });

  test("with absolute names is taken from its root", async () => {
    expect(
      await listed(
        selected(pieces(await tarOf({ name: "/etc/x", content: "x" })), new Selection(copying(["etc"], "/y"), 1), {
          ...{ uid: 0, gid: 0 },
        }),
      ),
    ).toEqual({ "y/x": "644 0 x" });
  });

  test("that is cut or no archive at all is refused", async () => {
    const tar = await context();
    for (const bytes of [Bun.gzipSync(new Uint8Array(tar)).subarray(0, 90), Buffer.alloc(2_000, "x")])
      await expect(eachEntry(asTar(pieces(bytes)), () => {})).rejects.toThrow("broken");
  });

  test("that claims to be larger than any disk is refused at its header", async () => {
    const writer = pack();
    writer.entry({ name: "zeros", size: 70 * 1024 ** 3 });
    const head = (await writer[Symbol.asyncIterator]().next()).value as Uint8Array;
    await expect(eachEntry(pieces(head), () => {})).rejects.toThrow("more than a build may copy");
  });

  test("is read plain, with gzip, with zstd and as a zip", async () => {
    const tar = new Uint8Array(await tarOf({ name: "a/b", content: "text" }));
    const zip = zipSync({ "a/b": Buffer.from("text") });
    for (const bytes of [tar, Bun.gzipSync(tar), Bun.zstdCompressSync(tar), zip])
      expect(await listed(asTar(pieces(bytes, 13)))).toEqual({ "a/b": "644 0 text" });
  });
});
