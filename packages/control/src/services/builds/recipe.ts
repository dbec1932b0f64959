import { WrennError } from "@wrenn/contract";
import { type Command, type Instruction, type Plan, type ReadyCheck, refused, usualCheck } from "./plan.ts";

/** Times of the original language (Wrenn templates reference, 1.1). */
const runSec = { recipe: 30, phase: 600 } as const;
const userName = /^[a-zA-Z_][a-zA-Z0-9_-]*$/;
const unitSec: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3600 };

/** A recipe as it is submitted. `archive` is the digest of the uploaded files that COPY takes from. */
export type Recipe = {
  base: string;
  lines: readonly string[];
  healthcheck?: string | undefined;
  archive?: string | undefined;
  /** Whether the package lists are not refreshed before and cleared after. */
  isBare: boolean;
};

/** Reads a recipe. Throws `invalid_request` with the line for everything that is not well written. */
export function readRecipe({ base, lines, healthcheck, archive, isBare }: Recipe): Plan {
  const own = lines.map((text, at) => instruction(text.trim(), at + 1, archive));
  const instructions = isBare ? own : [...before, ...own, ...after];
  const stage = { name: "", line: 1, from: { kind: "template", name: base } as const, instructions };
  const ready = healthcheck?.trim() ? readCheck(healthcheck) : undefined;
  return { syntax: "recipe", stages: [stage], args: {}, ready, warnings: [] };
}

function instruction(text: string, line: number, archive: string | undefined): Instruction {
  const [, word = "", rest = ""] = /^(\S+)\s*([\s\S]*)$/.exec(text) ?? [];
  const read = readers[word.toUpperCase()];
  if (!text) throw refused(line, "the instruction is empty", "Remove it, or write an instruction.");
  if (!read) throw refused(line, `"${word}" is not an instruction`, `Use one of: ${Object.keys(readers).join(", ")}.`);
  if (!rest) throw refused(line, `${word.toUpperCase()} needs a value`, `Write ${shapes[word.toUpperCase()]}.`);
  return { line, text, ...read(rest, line, archive) } as Instruction;
}

const shapes: Readonly<Record<string, string>> = {
  RUN: "RUN [--timeout=30s] COMMAND",
  START: "START COMMAND",
  ENV: "ENV KEY=VALUE",
  WORKDIR: "WORKDIR PATH",
  USER: "USER NAME",
  COPY: "COPY SOURCE... TARGET",
};

type Reader = (rest: string, line: number, archive: string | undefined) => object;

const readers: Readonly<Record<string, Reader>> = {
  RUN: (rest, line) => {
    const { flags, text } = readFlags(rest, ["timeout"], line);
    const timeoutSec = flags.timeout === undefined ? runSec.recipe : seconds(flags.timeout, line);
    if (!text) throw refused(line, "RUN has no command", `Write ${shapes.RUN}.`);
    return { do: "run", command: { shell: text }, timeoutSec };
  },
  START: (rest) => ({ do: "start", command: { shell: rest } }),
  ENV: (rest, line) => {
    const [, key, value] = /^([a-zA-Z_]\w*)=([\s\S]*)$/.exec(rest) ?? [];
    if (key === undefined) throw refused(line, "ENV has no KEY=VALUE", `Write ${shapes.ENV}.`);
    return { do: "env", pairs: [[key, value!]] };
  },
  WORKDIR: (path) => ({ do: "workdir", path }),
  USER: (name, line) => {
    if (!userName.test(name))
      throw refused(line, `"${name}" is no user name`, "Use letters, digits, `_` and `-`, a letter or `_` first.");
    return { do: "user", name };
  },
  COPY: (rest, line, archive) => {
    const parts = rest.split(/\s+/);
    const target = parts.pop()!;
    if (parts.length === 0) throw refused(line, "COPY needs a source and a target", `Write ${shapes.COPY}.`);
    if (!archive) throw refused(line, "COPY has nothing to copy from", "Upload an archive with the build.");
    const outside = parts.find((part) => part.split("/").includes(".."));
    if (outside) throw refused(line, `"${outside}" is outside the archive`, "Copy from within the archive.");
    return { do: "copy", from: { kind: "archive", hash: archive }, sources: parts, target, unpack: false };
  },
};

function readFlags(text: string, known: readonly string[], line: number) {
  const flags: Record<string, string> = {};
  let rest = text;
  for (;;) {
    const [all, name, value] = /^--([a-z-]+)(?:=(\S*))?(?:\s+|$)/.exec(rest) ?? [];
    if (all === undefined) return { flags, text: rest };
    if (!known.includes(name!)) throw refused(line, `--${name} is not a flag`, `Use ${known.map((k) => `--${k}`)}.`);
    if (!value) throw refused(line, `--${name} has no value`, `Write --${name}=VALUE.`);
    flags[name!] = value;
    rest = rest.slice(all.length);
  }
}

function seconds(text: string, line: number): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(text);
  if (!match) throw refused(line, `"${text}" is no duration`, "Write it as 500ms, 30s, 5m or 1h.");
  return Number(match[1]) * unitSec[match[2] ?? "s"]!;
}

const checkFlags = ["interval", "timeout", "start-period", "retries"] as const;

/** A check as text: `[--interval=3s] [--timeout=10s] [--start-period=0] [--retries=0] COMMAND` (reference, 1.5). */
export function readCheck(source: string, line = 1): ReadyCheck {
  const { flags, text } = readFlags(source.trim(), checkFlags, line);
  if (!text) throw new WrennError("invalid_request", "the ready check has no command", { remedy: "Name one." });
  const retries = flags.retries ?? "0";
  if (!/^\d{1,6}$/.test(retries)) throw refused(line, `"${retries}" is no number of retries`, "Write --retries=3.");
  const sec = (name: (typeof checkFlags)[number], usual: number) =>
    flags[name] === undefined ? usual : seconds(flags[name], line);
  return {
    command: { shell: text },
    intervalSec: sec("interval", usualCheck.intervalSec),
    timeoutSec: sec("timeout", usualCheck.timeoutSec),
    startSec: sec("start-period", usualCheck.startSec),
    retries: Number(retries),
  };
}

const phase = (shell: string): Instruction => ({
  ...{ line: 0, text: `RUN ${shell}`, do: "run", user: "root", timeoutSec: runSec.phase },
  command: { shell } as Command,
});

const before: readonly Instruction[] = [
  phase("if command -v apt-get >/dev/null; then apt-get update; fi"),
  { line: 0, text: "USER wrenn-user", do: "user", name: "wrenn-user" },
  { line: 0, text: "WORKDIR /home/wrenn-user", do: "workdir", path: "/home/wrenn-user" },
];

const after: readonly Instruction[] = [
  phase(
    "if command -v apt-get >/dev/null; then apt-get clean && apt-get autoremove -y && rm -rf /var/lib/apt/lists/*; fi",
  ),
];
