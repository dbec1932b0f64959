import { watch } from "node:fs";
import { stat } from "node:fs/promises";
import { Command } from "commander";
import { Sandbox, Wrenn, WrennError } from "wrenn";
import { resolveId } from "../ids.ts";
import type { Json } from "../options.ts";
import { Failure, paint, print, printJson, usage } from "../output.ts";
import { type RemoteFolder, sendFolder } from "../transfer/archive.ts";
import { difference, ignored, localTree, remoteTree, type Tree } from "../transfer/tree.ts";
import { parsePlace } from "./copy.ts";

/** Deeper trees than this are not source code. */
const deepest = 64;
/** An editor or a compiler writes in bursts: one copy for each. */
const quietMs = 120;

type SyncFlags = Json & { watch?: boolean; delete?: boolean; exclude?: string[]; gitignore: boolean; user?: string };
type Job = { local: string; remote: RemoteFolder; flags: SyncFlags };

/** `wrenn sync`. */
export const syncCommand = (): Command =>
  new Command("sync")
    .description("bring a folder of a sandbox up to date with a local one; only what differs travels")
    .argument("<folder>", "local folder")
    .argument("<to>", "ID:/path of the sandbox's folder")
    .option("-w, --watch", "stay, and send every change as it happens, until Ctrl-C")
    .option("--delete", "remove what the local folder does not have")
    .option("-x, --exclude <pattern>", "leave out, as in .gitignore; repeatable", (one, all: string[] = []) => [
      ...all,
      one,
    ])
    .option("--no-gitignore", "send what .gitignore names too; .git itself never travels")
    .option("-u, --user <name>", "user in the sandbox")
    .option("--json", "print what was sent and removed as one line of JSON for each pass")
    .addHelpText("after", "\nExamples:\n  wrenn sync . cl-3k9:app\n  wrenn sync --watch --delete ./src cl-3k9:/srv/src")
    .action(async (local: string, to: string, flags: SyncFlags) => {
      const target = parsePlace(to);
      if (target.kind !== "remote") throw usage(`"${to}" is no folder of a sandbox`, "Write it as ID:/path.");
      if (!(await stat(local).catch(() => undefined))?.isDirectory())
        throw new Failure(`${local} is no folder`, "Copy a single file with `wrenn cp`.");
      const client = new Wrenn();
      const sandbox = await Sandbox.connect(await resolveId(client, target.id), { client });
      await sandbox.files.makeDir(target.path, { user: flags.user });
      const { path } = await sandbox.files.stat(target.path, { user: flags.user });
      const job: Job = { local, remote: { sandbox, path, user: flags.user }, flags };
      const sent = await pass(job, await present(job.remote));
      if (flags.watch) await follow(job, sent);
    });

/** What the sandbox's folder holds. */
async function present({ sandbox, path, user }: RemoteFolder): Promise<Tree> {
  return remoteTree(path, await sandbox.files.list(path, { user, depth: deepest }));
}

/** Makes the sandbox's folder, which holds `there`, as the local one; answers what that is. */
async function pass({ local, remote, flags }: Job, there: Tree, removes = flags.delete ?? false): Promise<Tree> {
  const rules = await ignored(local, flags.exclude ?? [], flags.gitignore);
  const here = await localTree(local, rules);
  const { send, remove } = difference(here, there);
  const removed = removes ? remove.filter((path) => !rules.ignores(path)) : [];
  for (const path of removed) await remote.sandbox.files.remove(`${remote.path}/${path}`, { user: remote.user });
  if (send.length > 0) await sendFolder(local, remote, send);
  if (flags.json) printJson({ sent: send, removed });
  else for (const line of told(send, removed)) print(line);
  return here;
}

/** One line for each path, or the sums where a reader would not read them. */
function told(sent: readonly string[], removed: readonly string[]): string[] {
  if (sent.length + removed.length > 20) return [`${sent.length} sent, ${removed.length} removed`];
  return [
    ...sent.map((path) => `${paint("green", "+")} ${path}`),
    ...removed.map((path) => `${paint("red", "-")} ${path}`),
  ];
}

/** Sends changes until the program is interrupted or the sandbox ends. */
async function follow(job: Job, sent: Tree): Promise<void> {
  let known = sent;
  let isOver = false;
  let next = Promise.withResolvers<void>();
  const watcher = watch(job.local, { recursive: true }, () => next.resolve());
  const stop = () => {
    isOver = true;
    next.resolve();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stop);
  if (!job.flags.json) process.stderr.write(`${paint("dim", "watching; Ctrl-C ends", process.stderr)}\n`);
  try {
    for (;;) {
      await next.promise;
      if (isOver) return;
      next = Promise.withResolvers();
      await Bun.sleep(quietMs);
      known = await pass(job, known, true).catch((thrown) => {
        if (thrown instanceof WrennError) throw thrown;
        next.resolve(); // a file changed under tar's hands
        return known;
      });
    }
  } finally {
    watcher.close();
  }
}
