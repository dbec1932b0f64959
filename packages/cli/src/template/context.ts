import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import dockerignore from "@balena/dockerignore";
import { Failure } from "../output.ts";
import { StatusLine } from "./status-line.ts";

/**
 * A build's folder, packed: what is left of it after `.dockerignore`. Disposing of it removes the file. How many files
 * there are is known of what was packed here.
 */
export type Context = AsyncDisposable & { sha256: string; sizeBytes: number; files: number | undefined; path: string };

/** What ends the packing of a folder, and whether it is compressed. */
export type Packing = { signal: AbortSignal; isPlain?: boolean };

/** Packs a folder. The same folder gives the same bytes, so that an unchanged one is not sent again. */
export async function packContext(root: string, { signal, isPlain = false }: Packing): Promise<Context> {
  using status = new StatusLine(process.stderr);
  status.show("looking for files");
  const names = await contextFiles(root, signal);
  status.show(`packing ${names.length} files`);
  const dir = await mkdtemp(join(tmpdir(), "wrenn-context-"));
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, "context.tar.gz");
  await pack(root, names, path, { signal, isPlain });
  const sha256 = await digest(path, signal);
  const held = undo.move();
  const { size: sizeBytes } = await stat(path);
  return { sha256, sizeBytes, files: names.length, path, [Symbol.asyncDispose]: () => held.disposeAsync() };
}

/** A file as it is; disposing of it leaves it. */
export async function asArchive(path: string, signal: AbortSignal): Promise<Context> {
  const { size: sizeBytes } = await stat(path);
  return {
    sha256: await digest(path, signal),
    sizeBytes,
    files: undefined,
    path,
    [Symbol.asyncDispose]: async () => {},
  };
}

/** Every path of a folder that `.dockerignore` leaves, sorted; folders only where they hold nothing. */
export async function contextFiles(root: string, signal?: AbortSignal): Promise<string[]> {
  const rules = dockerignore().add(await readFile(join(root, ".dockerignore"), "utf8").catch(() => ""));
  const found: string[] = [];
  const visit = async (folder: string): Promise<void> => {
    signal?.throwIfAborted();
    const entries = await readdir(join(root, folder), { withFileTypes: true });
    for (const entry of entries) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      const isLeft = !rules.ignores(path);
      if (!entry.isDirectory()) {
        if (isLeft) found.push(path);
        continue;
      }
      const before = found.length;
      await visit(path); // a rule may leave one file of a folder that is left out
      if (isLeft && found.length === before) found.push(path);
    }
  };
  await visit("");
  return found.sort();
}

async function pack(root: string, names: readonly string[], path: string, how: Packing): Promise<void> {
  if (!Bun.which("tar")) throw new Failure("this machine has no tar", "Install it: a build's folder is sent as a tar.");
  const same = ["--owner=0", "--group=0", "--numeric-owner", "--format=pax", "--pax-option=delete=atime,delete=ctime"];
  const what = ["--no-recursion", "--null", "--verbatim-files-from", "-T", "-"];
  const tar = Bun.spawn(["tar", "-C", root, ...same, ...what, "-cf", "-"], {
    stdin: new Blob([names.join("\0")]),
    stdout: "pipe",
    stderr: "pipe",
    signal: how.signal,
  });
  const gzip = new CompressionStream("gzip") as unknown as ReadableWritablePair<Uint8Array, Uint8Array>;
  const [, said] = await Promise.all([
    Bun.write(path, new Response(how.isPlain ? tar.stdout : tar.stdout.pipeThrough(gzip))),
    new Response(tar.stderr).text(),
  ]);
  const code = await tar.exited;
  how.signal.throwIfAborted();
  if (code !== 0) throw new Failure(`the folder ${root} could not be packed: ${said.trim()}`);
}

async function digest(path: string, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { signal })) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}
