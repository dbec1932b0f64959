import { Command } from "commander";
import { Sandbox, type SandboxInfo, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { duration, type Json, mebibytes, mount, pair, positive } from "../options.ts";
import { age, bytes, Failure, paint, print, printable, printJson, printTable, report, usage } from "../output.ts";
import { type NetworkFlags, networkOptions, policyOf } from "./network.ts";

/** Options that shape a new sandbox, shared by `create` and `run`. */
export type CreateFlags = {
  name?: string;
  template: string;
  vcpus?: number;
  memory?: number;
  disk?: number;
  timeout?: number;
  timeoutAction?: "pause" | "kill";
  env?: Record<string, string>;
  metadata?: Record<string, string>;
  /** Names of volumes by path. */
  volume?: Record<string, string>;
} & NetworkFlags;

/** Adds the options of {@link CreateFlags} to a command. */
export const withCreateFlags = (command: Command): Command =>
  networkOptions(command)
    .option("--name <name>", "name of the sandbox; commands take it in place of the id")
    .option("-t, --template <name>", "template to start from", "base")
    .option("--vcpus <n>", "virtual processors", positive)
    .option("--memory <size>", "memory, such as 512M or 2G", mebibytes)
    .option("--disk <size>", "disk, such as 5G", mebibytes)
    .option("--timeout <duration>", "time without activity until it is paused, such as 10m; default never", duration)
    .option("--timeout-action <action>", "what happens then: pause or kill", oneOf("pause", "kill"))
    .option("-e, --env <name=value>", "environment of every command; repeatable", pair)
    .option("--volume <name:/path>", "a volume to mount, see `wrenn volume`; repeatable", mount)
    .option("--metadata <name=value>", "label; repeatable", pair);

const oneOf =
  (...choices: string[]) =>
  (text: string) => {
    if (choices.includes(text)) return text;
    throw usage(`"${text}" is not one of ${choices.join(", ")}`);
  };

/** Creates the sandbox that flags describe. */
export const createFrom = (flags: CreateFlags, client: Wrenn): Promise<Sandbox> =>
  Sandbox.create({
    client,
    name: flags.name,
    template: flags.template,
    vcpus: flags.vcpus,
    memoryMiB: flags.memory,
    diskMiB: flags.disk,
    timeoutMs: flags.timeout,
    timeoutAction: flags.timeoutAction,
    envs: flags.env,
    metadata: flags.metadata,
    network: policyOf(flags),
    volumes: flags.volume,
  });

/** `wrenn create`. */
export const createCommand = (): Command =>
  withCreateFlags(new Command("create"))
    .description("start a sandbox")
    .option("--json", "print the sandbox as JSON")
    .addHelpText("after", "\nExample:\n  wrenn create --name build -t base --memory 1G --timeout 30m")
    .action(async (flags: CreateFlags & Json) => {
      const sandbox = await createFrom(flags, new Wrenn());
      if (flags.json) return printJson(await sandbox.info());
      print(sandbox.id);
      if (process.stdout.isTTY) print(paint("dim", `next: wrenn exec ${sandbox.id.slice(0, 11)} -- uname -a`));
    });

/** `wrenn ls`. */
export const listCommand = (): Command =>
  new Command("ls")
    .alias("list")
    .description("list sandboxes")
    .option("--json", "print a JSON array")
    .option("-q, --quiet", "print ids only")
    .addHelpText("after", "\nExample:\n  wrenn ls")
    .action(async ({ json, quiet }: Json & { quiet?: boolean }) => {
      const found = await Sandbox.list({ client: new Wrenn() });
      if (json) return printJson(found);
      if (quiet) {
        for (const { id } of found) print(id);
        return;
      }
      const row = (one: SandboxInfo) => [
        one.id,
        one.name ?? "",
        one.hibernated ? "hibernated" : one.status,
        one.template,
        `${one.vcpus}`,
        `${one.memoryMiB} MiB`,
        age(one.createdAt),
      ];
      const head = ["ID", "NAME", "STATUS", "TEMPLATE", "VCPUS", "MEMORY", "AGE"];
      printTable(head, found.map(row), "There is no sandbox. `wrenn create` starts one.");
    });

/** `wrenn info`. */
export const infoCommand = (): Command =>
  new Command("info")
    .description("describe a sandbox")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExample:\n  wrenn info cl-3k9")
    .action(async (id: string, { json }: Json) => {
      const client = new Wrenn();
      const info = await Sandbox.info(await resolveId(client, id), { client });
      if (json) return printJson(info);
      for (const [name, value] of Object.entries(info)) {
        if (value === undefined) continue;
        const text =
          value instanceof Date ? value.toISOString() : typeof value === "object" ? JSON.stringify(value) : `${value}`;
        print(`${paint("dim", name.padEnd(13))} ${printable(text)}`);
      }
    });

type How = { diskOnly?: boolean; hibernate?: boolean };

const act = (
  name: string,
  done: string,
  run: (id: string, options: { client: Wrenn } & How) => Promise<unknown>,
): Command =>
  new Command(name)
    .argument("<id...>", "names of sandboxes, or their ids or the beginnings of them")
    .option("--json", "print JSON")
    .action(async (ids: string[], { json, diskOnly, hibernate }: Json & How) => {
      const client = new Wrenn();
      const each = async (text: string) => {
        const id = await resolveId(client, text);
        await run(id, { client, ...(diskOnly && { diskOnly }), ...(hibernate && { hibernate }) });
        const status = hibernate ? "hibernated" : done;
        if (json) printJson({ id, status });
        else print(`${id} ${status}`);
      };
      await all(ids.map(each), json === true);
    });

/** Waits for every one, reports each failure by itself, and fails as a whole when one did. */
export async function all(running: Promise<unknown>[], json: boolean): Promise<void> {
  const failed = (await Promise.allSettled(running)).filter((one) => one.status === "rejected");
  if (failed.length === 1) throw failed[0]!.reason;
  for (const one of failed) report(one.reason, json);
  if (failed.length > 0) throw new Failure(`${failed.length} of ${running.length} failed`);
}

/** `wrenn pause`. */
export const pauseCommand = (): Command =>
  act("pause", "paused", Sandbox.pause)
    .description("freeze sandboxes: memory, processes and disk are kept, the machine is freed")
    .option("--disk-only", "keep the files and give memory and processes up: a resume boots it")
    .option("--hibernate", "move it to the object store, paused or running: its host holds nothing of it then")
    .addHelpText(
      "after",
      "\nExamples:\n  wrenn pause cl-3k9\n  wrenn pause --hibernate cl-3k9\n  wrenn pause --disk-only cl-3k9",
    );

/** `wrenn resume`. */
export const resumeCommand = (): Command =>
  act("resume", "running", Sandbox.resume)
    .description("continue paused sandboxes where they stopped; those that kept their disk alone boot")
    .option("--disk-only", "boot it, also when its memory was kept")
    .addHelpText("after", "\nExample:\n  wrenn resume cl-3k9");

/** `wrenn rename`. */
export const renameCommand = (): Command =>
  new Command("rename")
    .description("give a sandbox another name, or none")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .argument("[name]", "the new name; without it the sandbox has none")
    .option("--json", "print the sandbox as JSON")
    .addHelpText("after", "\nExample:\n  wrenn rename cl-3k9 build")
    .action(async (text: string, name: string | undefined, { json }: Json) => {
      const client = new Wrenn();
      const info = await Sandbox.update(await resolveId(client, text), { name: name ?? null }, { client });
      if (json) return printJson(info);
      print(`${info.id} ${info.name === undefined ? "has no name" : `is ${info.name}`}`);
    });

/** `wrenn rm`. */
export const removeCommand = (): Command =>
  new Command("rm")
    .description("remove sandboxes and everything in them")
    .argument("[id...]", "names of sandboxes, or their ids or the beginnings of them")
    .option("--all", "every sandbox of the team")
    .option("-f, --force", "do not ask")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExamples:\n  wrenn rm cl-3k9 cl-x0\n  wrenn rm --all")
    .action(async (texts: string[], flags: Json & { all?: boolean; force?: boolean }) => {
      if ((flags.all === true) === texts.length > 0) throw usage("give ids, or --all", "See `wrenn rm --help`.");
      const client = new Wrenn();
      const ids = flags.all ? await everyId(client, flags) : texts;
      const remove = async (text: string) => {
        const id = await resolveId(client, text);
        if (!(await Sandbox.kill(id, { client })))
          throw new Failure(`no sandbox ${id}`, "See `wrenn ls` for those there are.");
        if (flags.json) printJson({ id, status: "removed" });
        else print(`${id} removed`);
      };
      await all(ids.map(remove), flags.json === true);
    });

async function everyId(client: Wrenn, { force, json }: Json & { force?: boolean }): Promise<string[]> {
  const found = await Sandbox.list({ client });
  if (found.length === 0 || force || json || !process.stdin.isTTY) return found.map(({ id }) => id);
  const { confirm } = await import("@clack/prompts");
  const sure = await confirm({
    message: `Remove ${found.length} sandboxes and everything in them?`,
    initialValue: false,
  });
  if (sure !== true) throw new Failure("nothing was removed");
  return found.map(({ id }) => id);
}

/** `wrenn templates`. */
export const templatesCommand = (): Command =>
  new Command("templates")
    .description("list templates that sandboxes can start from")
    .option("--json", "print a JSON array")
    .addHelpText("after", "\nExample:\n  wrenn templates")
    .action(async ({ json }: Json) => {
      const found = await new Wrenn().templates();
      if (json) return printJson(found);
      const rows = found.map((one) => [
        one.name,
        one.kind,
        one.vcpus === undefined ? "-" : `${one.vcpus}`,
        one.memoryMiB === undefined ? "-" : `${one.memoryMiB} MiB`,
        bytes(one.sizeBytes),
        age(one.createdAt),
      ]);
      printTable(
        ["NAME", "KIND", "VCPUS", "MEMORY", "SIZE", "AGE"],
        rows,
        "There is no template. `make images` makes two.",
      );
    });
