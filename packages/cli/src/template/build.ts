import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { type BuildOptions, Wrenn } from "wrenn";
import { duration, mebibytes, pair, positive } from "../options.ts";
import { print, printJson, usage } from "../output.ts";
import { asArchive, packContext } from "./context.ts";
import { finish } from "./follow.ts";
import { interruptible, upload } from "./upload.ts";

type Flags = {
  file?: string;
  from?: string;
  tag?: string;
  buildArg?: Record<string, string>;
  registryUser?: string;
  secret?: Record<string, Secret>;
  target?: string;
  start?: string;
  ready?: string;
  vcpus?: number;
  memory?: number;
  cache: boolean;
  timeout?: number;
  detach?: boolean;
  quiet?: boolean;
  json?: boolean;
};

/** `wrenn template build`. */
export const buildCommand = (): Command =>
  new Command("build")
    .description("build a template from a Dockerfile, or from a template or image as it is")
    .argument("[folder]", "folder with the Dockerfile and the files it copies", ".")
    .option("-f, --file <path>", "Dockerfile; default: Dockerfile in the folder")
    .option("--from <name>", "instead of a Dockerfile: a template, an image, or an archive or OCI layout of one")
    .option("--registry-user <name>", "user of the image's registry; WRENN_REGISTRY_PASSWORD holds the password")
    .option("-t, --tag <name[:tag]>", "name of the template; default: the folder's name")
    .option("--build-arg <name=value>", "value of an ARG; repeatable", pair)
    .option(
      "--secret <spec>",
      "id=NAME,src=FILE or id=NAME,env=VARIABLE, for RUN --mount=type=secret; repeatable",
      secret,
    )
    .option("--target <stage>", "stage to build; default: the last one")
    .option("--start <command>", "what runs in every sandbox of it from the begin; instead of CMD")
    .option("--ready <command>", "must succeed before the template is frozen; instead of HEALTHCHECK")
    .option("--vcpus <n>", "virtual processors", positive)
    .option("--memory <size>", "memory, such as 512M or 2G", mebibytes)
    .option("--no-cache", "do every step anew")
    .option("--timeout <duration>", "longest the build may take, such as 30m; default 1h", duration)
    .option("-d, --detach", "do not wait: print the build's id")
    .option("-q, --quiet", "leave out what the steps print")
    .option("--json", "print the build as JSON when it is over")
    .addHelpText(
      "after",
      "\nExamples:\n  wrenn template build . -t tools\n  wrenn template build --from python:3.12-slim -t python\n  wrenn run -t tools -- ls",
    )
    .action((folder: string, flags: Flags) => build(folder, flags));

async function build(folder: string, flags: Flags): Promise<void> {
  const client = new Wrenn();
  const what = await interruptible((signal) =>
    flags.from === undefined ? fromFolder(client, folder, { flags, signal }) : fromImage(client, flags.from, signal),
  );
  const name = flags.tag ?? nameOf(flags.from ?? resolve(folder));
  const started = await client.builds.start(name, {
    ...{ ...what, args: flags.buildArg, target: flags.target, startCommand: flags.start, healthcheck: flags.ready },
    ...{ vcpus: flags.vcpus, memoryMiB: flags.memory, noCache: !flags.cache, timeoutMs: flags.timeout },
    ...{ registry: await credentials(flags), secrets: await secretsOf(flags.secret ?? {}) },
  });
  if (flags.detach) return flags.json ? printJson(started) : print(started.id);
  await finish(client, started, flags);
}

type Reading = { flags: Flags; signal: AbortSignal };

async function fromFolder(client: Wrenn, folder: string, { flags, signal }: Reading): Promise<BuildOptions> {
  if (!(await stat(folder).catch(() => undefined))?.isDirectory())
    throw usage(`${folder} is no folder`, "Name the folder with the Dockerfile, or use --from NAME.");
  const file = flags.file ?? join(folder, "Dockerfile");
  const dockerfile = await readFile(file, "utf8").catch(() => undefined);
  if (dockerfile === undefined)
    throw usage(`there is no ${file}`, "Write one, name another with -f, or use --from NAME.");
  if (!/^\s*(COPY|ADD)\s/im.test(dockerfile)) return { dockerfile };
  await using context = await packContext(folder, { signal });
  await upload(client, context, signal);
  return { dockerfile, files: context.sha256 };
}

/** A template or image by its name; an archive of one when that is what the name leads to here. */
async function fromImage(client: Wrenn, from: string, signal: AbortSignal): Promise<BuildOptions> {
  const found = await stat(from).catch(() => undefined);
  if (!found || !/[/.]/.test(from)) return { from };
  await using archive = found.isDirectory()
    ? await packContext(from, { signal, isPlain: true })
    : await asArchive(from, signal);
  await upload(client, archive, signal);
  return { from: `archive:${archive.sha256}` };
}

/** Where the value of a secret is: a file, or a variable. */
type Secret = { file: string } | { variable: string };

/** Collects `id=NAME,src=FILE` options, as `docker build` has them; without a source it is the variable of that name. */
export function secret(text: string, before: Record<string, Secret> = {}): Record<string, Secret> {
  const values = new Map(text.split(",").map((part) => part.split(/=(.*)/s, 2) as [string, string | undefined]));
  const id = values.get("id");
  const file = values.get("src") ?? values.get("source");
  if (!id) throw new InvalidArgumentError("Write it as id=NAME,src=FILE or id=NAME,env=VARIABLE.");
  return { ...before, [id]: file === undefined ? { variable: values.get("env") ?? id } : { file } };
}

async function secretsOf(secrets: Record<string, Secret>): Promise<Record<string, string | Uint8Array> | undefined> {
  const found: Record<string, string | Uint8Array> = {};
  for (const [id, source] of Object.entries(secrets)) {
    const value = "file" in source ? await readFile(source.file).catch(() => undefined) : process.env[source.variable];
    if (value === undefined)
      throw usage(
        `the secret ${id} is missing`,
        `There is no ${"file" in source ? source.file : `variable ${source.variable}`}.`,
      );
    found[id] = value;
  }
  return Object.keys(found).length > 0 ? found : undefined;
}

async function credentials({ registryUser: username }: Flags) {
  if (username === undefined) return undefined;
  const password = process.env.WRENN_REGISTRY_PASSWORD;
  if (password) return { username, password };
  throw usage("the registry's password is missing", "Set WRENN_REGISTRY_PASSWORD to the password or token.");
}

/** A name for a template, of a folder or an image. */
export function nameOf(text: string): string {
  const last = basename(text.includes("/") || !text.includes(":") ? text : dirname(`${text}/x`));
  const name = last
    .replace(/[:@].*$/, "")
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[^a-z0-9]+/, "");
  if (name) return name.slice(0, 64);
  throw usage(`"${text}" gives no name for a template`, "Name it with -t.");
}
