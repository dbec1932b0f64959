import { Command } from "commander";
import { Sandbox, type SnapshotInfo, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { duration, type Json, pair, positive } from "../options.ts";
import { age, bytes, Failure, print, printJson, printTable } from "../output.ts";
import { all } from "./lifecycle.ts";

type CheckpointFlags = Json & { name?: string; metadata?: Record<string, string>; diskOnly?: boolean };

/** `wrenn checkpoint`. */
export const checkpointCommand = (): Command =>
  new Command("checkpoint")
    .description("take a snapshot of a sandbox, which runs on, and print its name")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .option("-n, --name <name>", "what it is called; default: a name that the server makes")
    .option("--metadata <name=value>", "label; repeatable", pair)
    .option("--disk-only", "leave the memory out: what is created from it boots")
    .option("--json", "print the snapshot as JSON")
    .addHelpText("after", "\nExample:\n  wrenn checkpoint cl-3k9 --name before-upgrade")
    .action(async (id: string, { name, metadata, diskOnly, json }: CheckpointFlags) => {
      const client = new Wrenn();
      const made = await Sandbox.checkpoint(await resolveId(client, id), { client, name, metadata, diskOnly });
      if (json) printJson(made);
      else print(made.name);
    });

type ForkFlags = Json & {
  count: number;
  timeout?: number;
  env?: Record<string, string>;
  metadata?: Record<string, string>;
};

/** `wrenn fork`. */
export const forkCommand = (): Command =>
  new Command("fork")
    .description("start copies of a sandbox, memory and processes included, and print their ids")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .option("-n, --count <n>", "how many copies", positive, 1)
    .option("--timeout <duration>", "their time without activity, such as 10m; default: the sandbox's own", duration)
    .option("-e, --env <name=value>", "environment of every command of the copies; repeatable", pair)
    .option("--metadata <name=value>", "label; repeatable; default: the sandbox's own", pair)
    .option("--json", "print the copies as a JSON array")
    .addHelpText("after", "\nExample:\n  wrenn fork cl-3k9 -n 3")
    .action(async (id: string, { count, timeout, env, metadata, json }: ForkFlags) => {
      const client = new Wrenn();
      const wishes = { client, count, timeoutMs: timeout, envs: env, metadata };
      const copies = await Sandbox.fork(await resolveId(client, id), wishes);
      if (json) return printJson(await Promise.all(copies.map((copy) => copy.info())));
      for (const copy of copies) print(copy.id);
    });

/** `wrenn rollback`. */
export const rollbackCommand = (): Command =>
  new Command("rollback")
    .description("put a sandbox back to a snapshot of its line; what came after is lost")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .argument("<snapshot>", "name of the snapshot")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExample:\n  wrenn rollback cl-3k9 before-upgrade")
    .action(async (text: string, snapshot: string, { json }: Json) => {
      const client = new Wrenn();
      const id = await resolveId(client, text);
      await Sandbox.rollback(id, snapshot, { client });
      if (json) printJson({ id, status: "running", snapshot });
      else print(`${id} is back at ${snapshot}`);
    });

/** `wrenn snapshots`. */
export const snapshotsCommand = (): Command =>
  new Command("snapshots")
    .alias("snapshot")
    .description("list and remove snapshots")
    .addHelpText("after", "\nExamples:\n  wrenn snapshots ls\n  wrenn create -t before-upgrade")
    .addCommand(listCommand())
    .addCommand(removeCommand());

const listCommand = (): Command =>
  new Command("ls")
    .alias("list")
    .description("list snapshots, newest first")
    .option("--json", "print a JSON array")
    .option("-q, --quiet", "print names only")
    .addHelpText("after", "\nExample:\n  wrenn snapshots ls")
    .action(async ({ json, quiet }: Json & { quiet?: boolean }) => {
      const found = await new Wrenn().snapshots.list();
      if (json) return printJson(found);
      if (quiet) {
        for (const { name } of found) print(name);
        return;
      }
      const row = (one: SnapshotInfo) => [
        one.name,
        one.sandboxId,
        one.parent ?? "-",
        bytes(one.sizeBytes),
        age(one.createdAt),
      ];
      const head = ["NAME", "SANDBOX", "PARENT", "SIZE", "AGE"];
      printTable(head, found.map(row), "There is no snapshot. `wrenn checkpoint ID` takes one.");
    });

const removeCommand = (): Command =>
  new Command("rm")
    .description("remove snapshots; sandboxes that were made from them stay")
    .argument("<name...>", "names of snapshots")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExample:\n  wrenn snapshots rm before-upgrade")
    .action(async (names: string[], { json }: Json) => {
      const { snapshots } = new Wrenn();
      const remove = async (name: string) => {
        if (!(await snapshots.delete(name)))
          throw new Failure(`no snapshot "${name}"`, "See `wrenn snapshots ls` for those there are.");
        if (json) printJson({ name, status: "removed" });
        else print(`${name} removed`);
      };
      await all(names.map(remove), json === true);
    });
