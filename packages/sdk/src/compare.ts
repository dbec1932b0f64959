import { WrennError } from "@wrenn/contract";
import type { CallOptions } from "./api.ts";
import type { Wrenn } from "./client.ts";
import { CommandExitError } from "./errors.ts";
import { Sandbox } from "./sandbox.ts";

/** A point in time: a sandbox that runs, as it is now, or a snapshot. */
export type Moment = { sandbox: string } | { snapshot: string };

/** What a path of the file system is. */
export type PathKind = "file" | "directory" | "symlink" | "other";

/** A path that one moment has and the other has not, or has otherwise. Sizes in bytes; of `removed`, the one it had. */
export type Difference = { path: string; kind: PathKind; size: number; sizeBefore?: number };

/** What lies between two moments, each list by path. */
export type Comparison = { added: Difference[]; changed: Difference[]; removed: Difference[] };

type Entry = { kind: PathKind; size: number; mark: string };

/** Every sandbox has its own of these, whatever was done in it. */
const identity: ReadonlySet<string> = new Set(["/etc/hostname", "/etc/hosts", "/etc/machine-id"]);

/** Label of a sandbox that is there for a comparison only. */
export const lookLabel = "compare-of";

/** A sandbox that was started to look into a snapshot ends by itself, should its maker die. */
const lookMs = 120_000;

/**
 * Compares the file systems of two moments of a line. A snapshot is looked into by a sandbox that is started from it and
 * removed again; what runs in it goes on meanwhile. Throws `invalid_state` for a sandbox that is not running.
 *
 * @example
 * ```ts
 * const { added, changed, removed } = await compare(client, { snapshot: "before" }, { sandbox: sandbox.id });
 * ```
 */
export async function compare(
  client: Wrenn,
  before: Moment,
  after: Moment,
  options: Pick<CallOptions, "signal"> = {},
): Promise<Comparison> {
  const [old, now] = await Promise.all([look(client, before, options), look(client, after, options)]);
  const found: Comparison = { added: [], changed: [], removed: [] };
  for (const [path, { kind, size, mark }] of now) {
    const was = old.get(path);
    if (!was) found.added.push({ path, kind, size });
    // Whatever is made in a directory changes the directory too; that tells nothing more.
    else if (was.mark !== mark && !(kind === "directory" && was.kind === kind))
      found.changed.push({ path, kind, size, sizeBefore: was.size });
  }
  for (const [path, { kind, size }] of old) if (!now.has(path)) found.removed.push({ path, kind, size });
  for (const list of Object.values(found)) list.sort((a, b) => (a.path < b.path ? -1 : 1));
  return found;
}

async function look(client: Wrenn, moment: Moment, { signal }: { signal?: AbortSignal | undefined }) {
  if ("sandbox" in moment) {
    const { status } = await Sandbox.info(moment.sandbox, { client, signal });
    if (status !== "running")
      throw new WrennError("invalid_state", `The sandbox is ${status}, so its files cannot be read.`, {
        remedy: "Resume it, or compare a snapshot of it.",
        details: { id: moment.sandbox },
      });
    return entriesOf(await Sandbox.connect(moment.sandbox, { client, signal }), signal);
  }
  await using sandbox = await Sandbox.create({
    ...{ client, signal, template: moment.snapshot, timeoutMs: lookMs, timeoutAction: "kill" },
    metadata: { [lookLabel]: moment.snapshot },
  });
  return await entriesOf(sandbox, signal);
}

/**
 * Type, mode, size and time of the last change (of content or of anything else, which no program can set) of every path
 * on the sandbox's own disk.
 */
async function entriesOf(sandbox: Sandbox, signal: AbortSignal | undefined): Promise<Map<string, Entry>> {
  const options = { user: "root", cwd: "/", timeoutMs: lookMs, signal };
  // A file that goes while it is looked at makes `find` fail, and takes nothing from what it found.
  const { stdout, stderr } = await sandbox.commands
    .exec("find", ["/", "-xdev", "-printf", "%y|%m|%s|%C@|%p\\0"], options)
    .catch((thrown) => {
      if (thrown instanceof CommandExitError) return thrown;
      throw thrown;
    });
  const entries = stdout.split("\0").flatMap(entryOf);
  if (entries.length > 0) return new Map(entries);
  throw new WrennError(
    "agent_error",
    `The files of ${sandbox.id} could not be listed: ${stderr.trim() || "no answer"}`,
    {
      remedy: "The sandbox needs GNU find, of the package findutils.",
    },
  );
}

const kinds: Record<string, PathKind> = { f: "file", d: "directory", l: "symlink" };

function entryOf(line: string): [path: string, entry: Entry][] {
  const [, type, mode, size, changed, path] = /^(.)\|(\d+)\|(\d+)\|([\d.]+)\|([\s\S]+)$/.exec(line) ?? [];
  if (!type || !path || identity.has(path)) return [];
  return [[path, { kind: kinds[type] ?? "other", size: Number(size), mark: [type, mode, size, changed].join("|") }]];
}
