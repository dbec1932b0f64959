import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { Command } from "commander";
import { Sandbox, Wrenn, WrennError } from "wrenn";
import { resolveId } from "../ids.ts";
import { Failure, printJson, usage } from "../output.ts";
import { receiveFolder, sendFolder } from "../transfer/archive.ts";

/** One side of a copy. */
export type Place = { kind: "remote"; id: string; path: string } | { kind: "local"; path: string } | { kind: "pipe" };

/** Reads `ID:/path` or `NAME:/path`, a local path, or `-`. A local name with a colon is written with `./` before it. */
export function parsePlace(text: string): Place {
  if (text === "-") return { kind: "pipe" };
  const remote = /^([a-zA-Z0-9][a-zA-Z0-9._-]{0,63}):(.*)$/.exec(text);
  if (remote) return { kind: "remote", id: remote[1]!, path: remote[2] || "." };
  if (text === "") throw usage("a path is empty");
  return { kind: "local", path: text };
}

type CopyFlags = { user?: string; recursive?: boolean; json?: boolean };

/** `wrenn cp`. */
export const copyCommand = (): Command =>
  new Command("cp")
    .description("copy a file, or with -r a folder, into or out of a sandbox")
    .argument("<from>", "local file or folder, ID:/path, or - for standard input")
    .argument("<to>", "local file or folder, ID:/path, or - for standard output")
    .option("-r, --recursive", "copy a folder and everything in it, as one tar stream")
    .option("-u, --user <name>", "user in the sandbox")
    .option("--json", "print what was written as JSON")
    .addHelpText(
      "after",
      "\nExamples:\n  wrenn cp ./data.csv cl-3k9:/tmp/\n  wrenn cp cl-3k9:/tmp/plot.png .\n  wrenn cp -r ./src cl-3k9:app\n  curl -s URL | wrenn cp - cl-3k9:/tmp/page",
    )
    .action(async (from: string, to: string, flags: CopyFlags) => {
      const [source, target] = [parsePlace(from), parsePlace(to)];
      if ((source.kind === "remote") === (target.kind === "remote"))
        throw usage(
          "one side must be in a sandbox, the other on this machine",
          "Write the sandbox's side as ID:/path.",
        );
      const client = new Wrenn();
      const id = await resolveId(client, source.kind === "remote" ? source.id : (target as { id: string }).id);
      const sandbox = await Sandbox.connect(id, { client });
      if (source.kind === "remote") await download(sandbox, source.path, target as Local, flags);
      else await upload(sandbox, source, (target as { path: string }).path, flags);
    });

type Local = Exclude<Place, { kind: "remote" }>;

async function upload(sandbox: Sandbox, source: Local, path: string, flags: CopyFlags): Promise<void> {
  const { user, json } = flags;
  const name = source.kind === "local" ? basename(resolve(source.path)) : undefined;
  if (source.kind === "local" && (await isFolder(source.path, flags))) {
    // As `cp -r`: into a folder that is there, as the folder that is not; `DIR/.` means its contents.
    const contents = /(^|\/)\.\/?$/.test(source.path);
    const target = contents ? path : await remoteTarget(sandbox, path, name, user);
    await sendFolder(source.path, { sandbox, path: target, user });
    if (json) printJson({ path: target, name: basename(target), type: "directory" });
    return;
  }
  const contents = source.kind === "local" ? Bun.file(source.path) : Bun.stdin.stream();
  const written = await sandbox.files.write(await remoteTarget(sandbox, path, name, user), contents, { user });
  if (json) printJson(written);
}

/** Whether the local path is a folder; one is copied only when asked to. */
async function isFolder(path: string, { recursive }: CopyFlags): Promise<boolean> {
  const found = await stat(path).catch((thrown: NodeJS.ErrnoException) => {
    throw new Failure(`cannot read ${path}: ${thrown.code === "ENOENT" ? "no such file" : thrown.message}`);
  });
  if (found.isDirectory() && !recursive) throw folder(path);
  return found.isDirectory();
}

const folder = (path: string) => new Failure(`${path} is a folder`, "Copy it with everything in it: wrenn cp -r");

/** A target that is a folder, or says so with a slash at its end, takes the source's name. */
async function remoteTarget(sandbox: Sandbox, path: string, name: string | undefined, user: string | undefined) {
  const folder = path.endsWith("/") || (await isRemoteFolder(sandbox, path, user));
  if (!folder) return path;
  if (name === undefined) throw usage(`${path} is a folder`, "Give the file's name when copying from standard input.");
  return `${path.replace(/\/+$/, "")}/${name}`;
}

async function isRemoteFolder(sandbox: Sandbox, path: string, user: string | undefined): Promise<boolean> {
  try {
    return (await sandbox.files.stat(path, { user })).type === "directory";
  } catch (thrown) {
    if (thrown instanceof WrennError && thrown.code === "not_found") return false;
    throw thrown;
  }
}

async function download(sandbox: Sandbox, path: string, target: Local, flags: CopyFlags): Promise<void> {
  const { user, json } = flags;
  if (await isRemoteFolder(sandbox, path, user)) {
    if (!flags.recursive || target.kind === "pipe") throw folder(path);
    const name = basename(path);
    const into = name !== "." && (await isLocalFolder(target.path)) ? join(target.path, name) : target.path;
    await receiveFolder({ sandbox, path, user }, into);
    if (json) printJson({ path: into, name: basename(resolve(into)), type: "directory" });
    return;
  }
  if (target.kind === "pipe") {
    const out = Bun.stdout.writer();
    for await (const chunk of await sandbox.files.read(path, { user, format: "stream" })) {
      out.write(chunk);
      await out.flush();
    }
    await out.end();
    return;
  }
  const local = (await isLocalFolder(target.path)) ? join(target.path, basename(path)) : target.path;
  await sandbox.files.download(path, local, { user });
  if (json) printJson({ path: local, name: basename(local), type: "file" });
}

async function isLocalFolder(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return path.endsWith("/") || found?.isDirectory() === true;
}
