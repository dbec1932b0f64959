import { Command } from "commander";
import { type BuildInfo, type BuiltTemplateInfo, Wrenn } from "wrenn";
import { all, type Json } from "../commands/lifecycle.ts";
import { age, bytes, Failure, print, printJson, table } from "../output.ts";
import { buildCommand, follow } from "./build.ts";
import { took } from "./progress.ts";

/** `wrenn template`: build templates and look after them. */
export const templateCommand = (): Command =>
  new Command("template")
    .description("build templates, and list, tag and remove them")
    .addHelpText("after", "\nExamples:\n  wrenn template build . -t tools\n  wrenn create -t tools")
    .addCommand(buildCommand())
    .addCommand(listCommand())
    .addCommand(buildsCommand())
    .addCommand(logsCommand())
    .addCommand(cancelCommand())
    .addCommand(tagCommand())
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
      print(table(["NAME", "TAGS", "VCPUS", "MEMORY", "SIZE", "FOR", "AGE"], found.map(row)));
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
      print(table(["ID", "TEMPLATE", "STATUS", "STEP", "TOOK", "AGE"], found.map(row)));
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
