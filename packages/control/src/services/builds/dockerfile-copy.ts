import { posix } from "node:path";
import type { Given } from "./dockerfile-given.ts";
import { type Copy, type CopySource, refused } from "./plan.ts";

/** What a COPY can take from. */
export type Sources = { context: string | undefined; stages: readonly string[] };

/** Reads COPY and ADD. Values keep their variables; they are put in when the build reaches them. */
export function copyOf(given: Given, sources: Sources): Copy {
  const { keyword, line } = given;
  const flags = given.flags(keyword === "COPY" ? ["from", "chown", "chmod", "link"] : ["chown", "chmod", "link"]);
  if (flags.chmod !== undefined && !/^[0-7]{3,4}$/.test(flags.chmod))
    throw refused(line, `--chmod=${flags.chmod} is not supported`, "Write it in octal, such as --chmod=755.");
  const facts = {
    do: "copy" as const,
    owner: flags.chown,
    mode: flags.chmod === undefined ? undefined : Number.parseInt(flags.chmod, 8),
    unpack: keyword === "ADD",
  };
  const [heredoc, another] = given.heredocs();
  if (another)
    throw refused(line, "more than one here-document in a COPY is not supported", "Write one COPY for each.");
  if (heredoc) {
    const target = given.rest.split("\n")[0]!.trim().split(/\s+/).at(-1)!;
    return { ...facts, from: { kind: "text", text: heredoc.text }, sources: [heredoc.name], target };
  }
  const parts = given.json() ?? given.rest.split(/(?<!\\)\s+/).filter(Boolean);
  const target = parts.pop();
  if (target === undefined || parts.length === 0)
    throw refused(line, `${keyword} needs a source and a target`, `Write ${keyword} SOURCE... TARGET.`);
  if (parts.length > 1 && !target.endsWith("/"))
    throw refused(line, `${keyword} of several sources needs a folder as its target`, `Write ${target}/.`);
  const from = flags.from === undefined ? contextOf(given, sources, parts) : stageOf(flags.from, given, sources);
  return { ...facts, from, sources: parts, target };
}

function contextOf(given: Given, { context }: Sources, parts: readonly string[]): CopySource {
  const { keyword, line } = given;
  for (const part of parts) {
    if (/^(https?|git|ssh):\/\/|^git@/.test(part))
      throw refused(
        line,
        `${keyword} of an address is not supported`,
        "Fetch it with RUN curl, or put the file in the folder.",
      );
    const path = posix.normalize(part.replace(/^\/+/, ""));
    if (path === ".." || path.startsWith("../"))
      throw refused(line, `"${part}" is outside the build's folder`, "Copy from within the folder.");
  }
  if (!context) throw refused(line, `${keyword} has nothing to copy from`, "Upload the build's folder with it.");
  return { kind: "archive", hash: context };
}

function stageOf(name: string, { line }: Given, { stages }: Sources): CopySource {
  const named = stages.lastIndexOf(name.toLowerCase());
  const index = named < 0 && /^\d+$/.test(name) && Number(name) < stages.length ? Number(name) : named;
  if (index >= 0) return { kind: "stage", index };
  const known = stages.filter(Boolean);
  throw refused(
    line,
    `there is no stage "${name}" before this one`,
    known.length > 0 ? `Stages before it: ${known.join(", ")}.` : "Add a stage for it: FROM IMAGE AS NAME.",
  );
}
