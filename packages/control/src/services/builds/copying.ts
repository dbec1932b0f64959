import { createHash } from "node:crypto";
import { posix } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { WrennError } from "@wrenn/contract";
import { Glob } from "bun";
import { type Extract, extract, type Header, pack } from "tar-stream";
import type { Copying } from "./actions.ts";
import { refused } from "./plan.ts";

/** More entries than any source tree has; an archive that claims so is meant to exhaust whoever reads it. */
const maxEntries = 1_000_000;
/** What an archive may unpack to, bytes: more than a guest's disk holds, far less than a bomb claims. */
const maxUnpackedBytes = 64 * 1024 ** 3;

/** Bytes that arrive piece by piece. */
export type Bytes = AsyncIterable<Uint8Array>;
type Entry = Extract extends AsyncIterable<infer Each> ? Each : never;

/** Numbers that files get. */
export type Owner = { uid: number; gid: number };

/** A path of an archive without `./`, `/` and `..`. Throws `invalid_request` for one that leads out. */
export function safePath(name: string): string {
  const path = posix.normalize(name.replace(/^\/+/, "")).replace(/\/+$/, "");
  if (path === ".." || path.startsWith("../") || name.includes("\0"))
    throw new WrennError("invalid_request", `The archive holds "${name}", which leads out of it.`, {
      remedy: "Make the archive from within the folder, without `..`.",
    });
  return path === "." ? "" : path;
}

/** What stands at each source of a copy: decides for every path of an archive whether, and to where, it is copied. */
export class Selection {
  readonly #found = new Set<string>();
  readonly #globs: readonly { source: string; path: string; glob: Glob | undefined }[];

  constructor(
    readonly copying: Copying,
    readonly line: number,
    /** Whether the target is a folder of the guest already. */
    readonly isFolder = false,
  ) {
    this.#globs = copying.sources.map((source) => {
      const path = safePath(source);
      return { source, path, glob: /[*?[{]/.test(path) ? new Glob(path.replaceAll("{", "\\{")) : undefined };
    });
  }

  /** Absolute path that `name` is copied to; `undefined` when it is not copied. */
  place(name: string, isDirectory: boolean): string | undefined {
    for (const { source, path, glob } of this.#globs) {
      const root = glob
        ? rootOf(glob, name)
        : path === "" || name === path || name.startsWith(`${path}/`)
          ? path
          : undefined;
      if (root === undefined) continue;
      this.#found.add(source);
      return this.#target(root, name, isDirectory);
    }
    return undefined;
  }

  /** Throws `invalid_request` when a source was not there. */
  check(): void {
    const missing = this.copying.sources.find((source) => !this.#found.has(source));
    if (missing === undefined) return;
    const where = this.copying.from.kind === "stage" ? "in that stage" : "in the build's folder";
    throw refused(
      this.line,
      `there is no "${missing}" ${where}`,
      "Check the name, and that .dockerignore does not leave it out.",
    );
  }

  /** `root` is the source itself: a file goes to the target or into it; of a folder what is in it does. */
  #target(root: string, name: string, isDirectory: boolean): string {
    const { target, intoNamedFolder } = this.copying;
    if (name !== root) return posix.join(target, intoNamedFolder ? posix.basename(root) : "", name.slice(root.length));
    if (isDirectory) return posix.join(target, intoNamedFolder ? posix.basename(root) : "");
    return target.endsWith("/") || this.isFolder ? posix.join(target, posix.basename(name)) : target;
  }
}

/** The part of `name` that the pattern matches: itself, or a folder above it. */
function rootOf(glob: Glob, name: string): string | undefined {
  for (let root = name; root !== "" && root !== "."; root = posix.dirname(root)) if (glob.match(root)) return root;
  return undefined;
}

/** Calls `each` with every entry of a tar, in order. Throws `invalid_request` for a broken or hostile one. */
export async function eachEntry(tar: Bytes, each: (header: Header, entry: Entry) => Promise<void> | void) {
  const reader = extract();
  const fed = pipeline(Readable.from(tar), reader as unknown as NodeJS.WritableStream).catch(() => {});
  let [count, bytes] = [0, 0];
  try {
    for await (const entry of reader) {
      const { header } = entry;
      bytes += header.size ?? 0;
      if (++count > maxEntries || bytes > maxUnpackedBytes) throw tooMuch();
      await each({ ...header, name: safePath(header.name) }, entry);
      entry.resume();
    }
  } catch (thrown) {
    throw thrown instanceof WrennError ? thrown : broken(thrown);
  } finally {
    reader.destroy();
    await fed;
  }
}

const broken = (cause: unknown) =>
  new WrennError("invalid_request", "The archive is broken.", { remedy: "Upload it again.", cause });

const tooMuch = () =>
  new WrennError("too_large", "The archive unpacks to more than a build may copy.", {
    remedy: "Leave out what the build does not need, with .dockerignore.",
  });

/** Digest of what a copy takes: names, kinds, modes and contents, not times or owners. */
export async function contentDigest(tar: Bytes, selection: Selection): Promise<string> {
  const found: string[] = [];
  await eachEntry(tar, async (header, entry) => {
    const place = selection.place(header.name, header.type === "directory");
    if (place === undefined) return;
    const hash = createHash("sha256");
    for await (const chunk of entry) hash.update(chunk as Uint8Array);
    found.push(JSON.stringify([place, header.type, header.mode, header.linkname, hash.digest("hex")]));
  });
  selection.check();
  return createHash("sha256").update(found.sort().join("\n")).digest("hex");
}

/** What a copy takes as a tar whose names are the places in the guest, without the first slash. */
export function selected(tar: Bytes, selection: Selection, owner: Owner): Bytes {
  const writer = pack();
  const { mode } = selection.copying;
  const work = eachEntry(tar, async (header, entry) => {
    const place = selection.place(header.name, header.type === "directory");
    if (place === undefined || place === "/") return;
    const linkname = header.type === "link" ? linkTarget(header, selection) : header.linkname;
    const numbers = { ...owner, uname: "", gname: "", mode: mode ?? header.mode };
    await write(writer, { ...header, ...numbers, name: place.slice(1), linkname, pax: null }, entry);
  }).then(() => selection.check());
  work.then(
    () => writer.finalize(),
    (thrown) => writer.destroy(thrown),
  );
  return writer as unknown as Bytes;
}

/** A hard link names another file of its archive, which is at another place now. */
function linkTarget(header: Header, selection: Selection): string {
  const place = selection.place(safePath(header.linkname ?? ""), false);
  if (place !== undefined) return place.slice(1);
  throw refused(selection.line, `"${header.name}" is a hard link to a file that is not copied`, "Copy that file too.");
}

async function write(writer: ReturnType<typeof pack>, header: Header, entry: Entry): Promise<void> {
  const isFile = header.type === "file" || header.type === "contiguous-file";
  const { promise: done, resolve, reject } = Promise.withResolvers<void>();
  const sink = writer.entry(isFile ? header : { ...header, size: 0 }, (error) => (error ? reject(error) : resolve()));
  if (isFile) {
    for await (const chunk of entry)
      if (!sink.write(chunk)) await new Promise((drained) => sink.once("drain", () => drained(undefined)));
    sink.end(undefined);
  }
  await done;
}
