import { open, rename, rm } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { Command } from "commander";
import { Wrenn } from "wrenn";
import { bytes, Failure, print, printJson, usage } from "../output.ts";
import { nameOf } from "./build.ts";
import { asArchive } from "./context.ts";
import { finish } from "./follow.ts";
import { StatusLine } from "./status-line.ts";
import { interruptible, upload } from "./upload.ts";

/** Between two words about a file that takes long. */
const tellMs = 1_000;

/** `wrenn template export`. */
export const exportCommand = (): Command =>
  new Command("export")
    .description("write a template to a file that another installation imports")
    .argument("<template>", "NAME or NAME:TAG")
    .option("-o, --output <file>", "where to; default: NAME.template.tar")
    .addHelpText(
      "after",
      "\nThe file is an OCI artifact (an image layout in a tar) with the disk and what it starts. Memory is made anew\nwhere it is imported, so it fits any processor.\n\nExample:\n  wrenn template export tools -o tools.tar\n  wrenn template import tools.tar -t tools   # on another machine",
    )
    .action(async (name: string, { output }: { output?: string }) => {
      const path = resolve(output ?? `${name.replace(":", "-")}.template.tar`);
      const from = await new Wrenn().builds.export(name);
      const size = await save(from, path);
      print(`${path}  ${bytes(size)}`);
    });

/** Writes a file that is there whole or not at all; says how far it is on a terminal. */
async function save(from: ReadableStream<Uint8Array>, path: string): Promise<number> {
  const partial = `${path}.partial`;
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(partial, { force: true }));
  using status = new StatusLine(process.stderr);
  let size = 0;
  let told = performance.now();
  {
    await using file = await open(partial, "w");
    for await (const chunk of from) {
      await file.write(chunk);
      size += chunk.length;
      if (performance.now() - told < tellMs) continue;
      told = performance.now();
      status.tell(`${bytes(size)} written`);
    }
    await file.sync();
  }
  await rename(partial, path);
  return size;
}

/** `wrenn template import`. */
export const importCommand = (): Command =>
  new Command("import")
    .description("make a template of a file that was exported")
    .argument("<file>", "what `wrenn template export` wrote")
    .option("-t, --tag <name[:tag]>", "name of the template; default: as it was called")
    .option("-d, --detach", "do not wait: print the build's id")
    .option("--json", "print the build as JSON when it is over")
    .addHelpText("after", "\nExample:\n  wrenn template import tools.tar -t tools:v1")
    .action(async (path: string, flags: { tag?: string; detach?: boolean; json?: boolean }) => {
      const facts = await factsOf(path);
      const client = new Wrenn();
      const started = await interruptible(async (signal) => {
        await using archive = await asArchive(path, signal);
        await upload(client, archive, signal);
        return await client.builds.start(flags.tag ?? nameOf(facts.name), {
          ...{ from: `archive:${archive.sha256}`, vcpus: facts.vcpus, memoryMiB: facts.memoryMib },
        });
      });
      if (flags.detach) return flags.json ? printJson(started) : print(started.id);
      await finish(client, started, flags);
    });

type Facts = { name: string; vcpus: number; memoryMib: number };

/** A tar is a series of blocks of this size (POSIX pax, "ustar Interchange Format"). */
const block = 512;
/** What an exported template says of itself stands among its first members, all of them small. */
const maxHead = 256 * 1024;

/** What an exported template says of itself. The server checks it again. */
async function factsOf(path: string): Promise<Facts> {
  await using file = await open(path).catch(() => {
    throw usage(`there is no ${path}`, "Name a file that `wrenn template export` wrote.");
  });
  const { buffer, bytesRead } = await file.read(Buffer.alloc(maxHead), 0, maxHead, 0);
  for (let at = 0; at + block <= bytesRead; ) {
    const size = Number.parseInt(buffer.toString("latin1", at + 124, at + 136), 8);
    if (!(size >= 0) || at + block + size > bytesRead) break;
    const facts = size > 0 ? readFacts(buffer.toString("utf8", at + block, at + block + size)) : undefined;
    if (facts) return facts;
    at += block + Math.ceil(size / block) * block;
  }
  throw new Failure(
    `${basename(path)} is no exported template`,
    "Images are taken with `wrenn template build --from FILE`.",
  );
}

function readFacts(text: string): Facts | undefined {
  try {
    const found = JSON.parse(text) as Partial<Facts>;
    return found.name && found.vcpus && found.memoryMib ? (found as Facts) : undefined;
  } catch {
    return undefined;
  }
}
