import { Command } from "commander";
import { type BuildInfo, type BuiltTemplateInfo, Wrenn } from "wrenn";
import { all } from "../commands/lifecycle.ts";
import type { Json } from "../options.ts";
import { age, bytes, Failure, print, printJson, printTable, table, usage } from "../output.ts";
import { buildCommand } from "./build.ts";
import { follow } from "./follow.ts";
import { took } from "./progress.ts";
import { exportCommand, importCommand } from "./transfer.ts";

/** `wrenn template`: build templates and look after them. */
export const templateCommand = (): Command =>
  new Command("template")
    .description("build templates, and list, tag, move and remove them")
    .addHelpText("after", "\nExamples:\n  wrenn template build . -t tools\n  wrenn create -t tools")
    .addCommand(buildCommand())
    .addCommand(listCommand())
    .addCommand(buildsCommand())
    .addCommand(logsCommand())
    .addCommand(cancelCommand())
    .addCommand(inspectCommand())
    .addCommand(tagCommand())
    .addCommand(promoteCommand())
    .addCommand(exportCommand())
    .addCommand(importCommand())
    .addCommand(removeCommand());

const listCommand = (): Command =>
  new Command("ls")
    .alias("list")
    .description("list the templates that were built")
    .option("--json", "print a JSON array")
    .option("-q, --quiet", "print names only")
    .addHelpText("after", "\nExample:\n  wrenn template ls")
    .action(async ({ json, quiet }: Json & { quiet?: boolean }) => {
      const found = await new Wrenn().builds.templates();
      if (json) return printJson(found);
      if (quiet) {
        for (const { name } of found) print(name);
        return;
      }
      const row = ({ name, tags, current, platform, createdAt }: BuiltTemplateInfo) => [
        name,
        tags
          .map(({ tag }) => tag)
          .filter((tag) => tag !== "default")
          .join(",") || "-",
        current ? `${current.vcpus}` : "-",
        current ? `${current.memoryMiB} MiB` : "-",
        current ? bytes(current.sizeBytes) : "not built",
        platform ? "all" : "team",
        age(current?.completedAt ?? createdAt),
      ];
      const head = ["NAME", "TAGS", "VCPUS", "MEMORY", "SIZE", "FOR", "AGE"];
      printTable(
        head,
        found.map(row),
        "No template was built. `wrenn template build --help` shows how; `wrenn templates` lists all.",
      );
    });

const buildsCommand = (): Command =>
  new Command("builds")
    .description("list builds, newest first")
    .argument("[name]", "of this template only")
    .option("--json", "print a JSON array")
    .addHelpText("after", "\nExample:\n  wrenn template builds tools")
    .action(async (template: string | undefined, { json }: Json) => {
      const found = await new Wrenn().builds.list({ template });
      if (json) return printJson(found);
      const row = (build: BuildInfo) => [
        ...[build.id, build.template, build.status, `${build.currentStep}/${build.totalSteps || "?"}`],
        build.completedAt ? took(build) : "-",
        age(build.createdAt),
      ];
      const head = ["ID", "TEMPLATE", "STATUS", "STEP", "TOOK", "AGE"];
      printTable(head, found.map(row), "Nothing was built. `wrenn template build --help` shows how.");
    });

const logsCommand = (): Command =>
  new Command("logs")
    .description("print the log of a build, and follow one that is under way")
    .argument("<build>", "id of a build, or name of a template for its newest build")
    .addHelpText("after", "\nExample:\n  wrenn template logs tools")
    .action(async (text: string) => {
      const client = new Wrenn();
      const done = await follow(client, await buildOf(client, text), false);
      if (done.error) throw new Failure(done.error.message, done.error.remedy);
    });

const cancelCommand = (): Command =>
  new Command("cancel")
    .description("end a build; the template's former version stays")
    .argument("<build>", "id of a build, or name of a template for its newest build")
    .addHelpText("after", "\nExample:\n  wrenn template cancel tools")
    .action(async (text: string) => {
      const client = new Wrenn();
      const id = await buildOf(client, text);
      await client.builds.cancel(id);
      print(`${id} cancelled`);
    });

const tagCommand = (): Command =>
  new Command("tag")
    .description("give a version another name")
    .argument("<version>", "NAME, NAME:TAG or NAME:BUILD")
    .argument("<tag...>", "tags; `default` is the version that the bare name means")
    .option("--remove", "remove the tags instead")
    .addHelpText(
      "after",
      "\nExamples:\n  wrenn template tag tools:v2 stable\n  wrenn template tag tools:v1 default   # back to v1",
    )
    .action(async (text: string, tags: string[], { remove }: { remove?: boolean }) => {
      const { builds } = new Wrenn();
      const [name = "", version = "default"] = text.split(":");
      if (remove) for (const tag of tags) await builds.untag(name, tag);
      else await builds.tag(name, tags, version);
      for (const tag of tags) print(`${name}:${tag} ${remove ? "removed" : `is ${name}:${version}`}`);
    });

const promoteCommand = (): Command =>
  new Command("promote")
    .description("make a version the one that the bare name means")
    .argument("<version>", "NAME:TAG or NAME:BUILD")
    .option("--json", "print the template as JSON")
    .addHelpText("after", "\nExample:\n  wrenn template build . -t tools:next\n  wrenn template promote tools:next")
    .action(async (text: string, { json }: Json) => {
      const [name = "", version] = text.split(":");
      if (!version)
        throw usage("no version is named", "Write it as NAME:TAG; `wrenn template inspect NAME` lists them.");
      const template = await new Wrenn().builds.tag(name, ["default"], version);
      if (json) printJson(template);
      else print(`${name} is ${name}:${version}`);
    });

const inspectCommand = (): Command =>
  new Command("inspect")
    .description("tell what a template is: versions, size, what it was made of, by whom")
    .argument("<name>", "name of a template")
    .option("--json", "print the template and its builds as JSON")
    .addHelpText("after", "\nExample:\n  wrenn template inspect tools")
    .action(async (name: string, { json }: Json) => {
      const { builds } = new Wrenn();
      const [template, history] = await Promise.all([
        builds.template(name),
        builds.list({ template: name }).catch(() => []),
      ]);
      if (json) return printJson({ ...template, builds: history });
      for (const line of facts(template)) print(line);
      if (history.length === 0) return;
      const tagsOf = (id: string) => template.tags.filter(({ build }) => build === id).map(({ tag }) => tag);
      const row = (build: BuildInfo) => [
        ...[build.id, tagsOf(build.id).join(",") || "-", build.status, bytes(build.sizeBytes), build.by],
        age(build.createdAt),
      ];
      print("");
      print(table(["BUILD", "TAGS", "STATUS", "SIZE", "BY", "AGE"], history.map(row)));
    });

/** What is known of a template's present version, one fact a line. */
function facts({ name, current, platform }: BuiltTemplateInfo): string[] {
  const line = (title: string, value: string) => `${title.padEnd(10)}${value}`;
  const whose = line("for", platform ? "every team" : "the team");
  if (!current) return [line("name", name), whose, "it was not built yet"];
  return [
    ...[line("name", name), whose, line("build", current.id), line("size", bytes(current.sizeBytes))],
    line("sandboxes", `${current.vcpus} vCPU, ${current.memoryMiB} MiB`),
    line("user", `${current.defaults.user}, in ${current.defaults.workdir}`),
    ...Object.entries(current.defaults.env).map(([key, value]) => line("env", `${key}=${value}`)),
    ...current.from.map((origin) => line("from", `${origin.name}  ${origin.digest}`)),
    line("by", `${current.by}, ${age(current.completedAt ?? current.createdAt)} ago, in ${took(current)}`),
  ];
}

const removeCommand = (): Command =>
  new Command("rm")
    .description("remove templates with all their versions; sandboxes that were made from them stay")
    .argument("<name...>", "names of templates")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExample:\n  wrenn template rm tools")
    .action(async (names: string[], { json }: Json) => {
      const { builds } = new Wrenn();
      const remove = async (name: string) => {
        if (!(await builds.remove(name)))
          throw new Failure(`no template "${name}"`, "See `wrenn template ls` for those there are.");
        if (json) printJson({ name, status: "removed" });
        else print(`${name} removed`);
      };
      await all(names.map(remove), json === true);
    });

/** The build with this id, or the newest of the template with this name. */
async function buildOf(client: Wrenn, text: string): Promise<string> {
  if (/^[0-9a-z]{25}$/.test(text)) return text;
  const [newest] = await client.builds.list({ template: text });
  if (newest) return newest.id;
  throw new Failure(`the template "${text}" was never built`, "See `wrenn template ls`.");
}
