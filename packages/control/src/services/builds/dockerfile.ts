import { WrennError } from "@wrenn/contract";
import { DockerfileParser, type Instruction as Parsed } from "dockerfile-ast";
import { copyOf } from "./dockerfile-copy.ts";
import { Given } from "./dockerfile-given.ts";
import { mountsOf } from "./dockerfile-mount.ts";
import {
  type Command,
  type Instruction,
  type Origin,
  type Plan,
  refused,
  type SecretMount,
  type Stage,
  usualCheck,
} from "./plan.ts";
import { WordError, wholeWord, words } from "./words.ts";

/** A Dockerfile as it is submitted. `context` is the digest of the uploaded files that COPY takes from. */
export type Source = {
  text: string;
  context?: string | undefined;
  args: Readonly<Record<string, string>>;
  /** Name of the stage to build; the last one when absent. */
  target?: string | undefined;
  /** Whether a name in FROM that could be either is a template here. */
  isTemplate(name: string): boolean;
};

/**
 * Reads a Dockerfile. Throws `invalid_request` with the line for everything that is not well written or not supported,
 * before anything runs.
 */
export function readDockerfile(source: Source): Plan {
  return new Reader(source).read();
}

/** Instructions that say something about an image which a virtual machine has no use for. */
const ignored: Readonly<Record<string, string>> = {
  LABEL: "labels are not kept",
  MAINTAINER: "the maintainer is not kept",
  EXPOSE: "every port of a sandbox can be reached",
  STOPSIGNAL: "a sandbox is frozen or removed, its processes get no signal",
  VOLUME: "the folder is an ordinary one of the sandbox's disk",
};

type Draft = Stage & { instructions: Instruction[]; entrypoint?: Command; cmd?: Command; check?: Plan["ready"] };

class Reader {
  readonly #stages: Draft[] = [];
  readonly #global: Record<string, string> = {};
  readonly #warnings: { line: number; text: string }[] = [];

  constructor(readonly source: Source) {}

  read(): Plan {
    const parsed = DockerfileParser.parse(this.source.text);
    for (const instruction of parsed.getInstructions()) this.#take(instruction);
    if (this.#stages.length === 0)
      throw new WrennError("invalid_request", "The Dockerfile has no FROM.", {
        remedy: "Begin it with FROM and the name of a template or an image.",
      });
    const stages = this.#upTo(this.source.target);
    const last = stages.at(-1)!;
    const known = stages.map(({ name, line, from, instructions }) => ({ name, line, from, instructions }));
    const start = startOf(last, stages);
    return {
      ...{ syntax: "dockerfile", stages: known, args: this.source.args, warnings: this.#warnings },
      ...(start && { start }),
      ...(last.check && { ready: last.check }),
    };
  }

  #upTo(target: string | undefined): Draft[] {
    if (target === undefined) return this.#stages;
    const at = this.#stages.findIndex((stage) => stage.name === target.toLowerCase());
    if (at >= 0) return this.#stages.slice(0, at + 1);
    const names = this.#stages.map(({ name }) => name).filter(Boolean);
    throw new WrennError("invalid_request", `The Dockerfile has no stage "${target}".`, {
      remedy: names.length > 0 ? `Use one of: ${names.join(", ")}.` : "Name a stage with FROM ... AS NAME.",
    });
  }

  #take(parsed: Parsed): void {
    const given = Given.of(parsed);
    try {
      this.#read(given);
    } catch (thrown) {
      if (!(thrown instanceof WordError)) throw thrown;
      throw refused(given.line, thrown.message, "Correct the quoting of this instruction.");
    }
  }

  #read(given: Given): void {
    const { keyword, line } = given;
    const stage = this.#stages.at(-1);
    if (keyword === "FROM") this.#from(given);
    else if (stage) this.#within(stage, given);
    else if (keyword === "ARG") this.#globalArg(given);
    else throw refused(line, `${keyword} stands before the first FROM`, "Move it below FROM; only ARG may be above.");
  }

  #within(stage: Draft, given: Given): void {
    const { keyword, line } = given;
    const why = ignored[keyword];
    if (why) this.#warnings.push({ line, text: `${keyword} has no effect: ${why}` });
    else if (keyword === "CMD") stage.cmd = given.command();
    else if (keyword === "ENTRYPOINT") stage.entrypoint = given.command();
    else if (keyword === "HEALTHCHECK") stage.check = readHealthcheck(given);
    else stage.instructions.push(this.#instruction(given));
  }

  #from(given: Given): void {
    const { line } = given;
    const flags = given.flags(["platform"]);
    if (flags.platform && !/^(\$|linux(\/amd64)?$)/.test(flags.platform))
      throw refused(
        line,
        `the platform ${flags.platform} does not run here`,
        "Remove --platform, or name linux/amd64.",
      );
    const [name, as, label, ...more] = words(given.rest, this.#global);
    if (!name || more.length > 0 || (as !== undefined && (as.toLowerCase() !== "as" || !label)))
      throw refused(line, "FROM is not FROM NAME [AS STAGE]", "Write FROM and one name.");
    this.#stages.push({ name: (label ?? "").toLowerCase(), line, from: this.#origin(name, line), instructions: [] });
  }

  #origin(name: string, line: number): Origin {
    const index = this.#stages.findIndex((stage) => stage.name !== "" && stage.name === name.toLowerCase());
    if (index >= 0) return { kind: "stage", index };
    if (name === "scratch")
      throw refused(
        line,
        "FROM scratch is not supported",
        "Begin with a template such as minimal: a sandbox boots a system.",
      );
    return this.source.isTemplate(name) ? { kind: "template", name } : { kind: "image", reference: name };
  }

  #globalArg(given: Given): void {
    for (const [name, fallback] of argsOf(given, this.#global)) {
      const value = this.source.args[name] ?? fallback;
      if (value !== undefined) this.#global[name] = value;
    }
  }

  #instruction(given: Given): Instruction {
    const { line, text, keyword, rest } = given;
    const head = { line, text };
    switch (keyword) {
      case "RUN":
        return { ...head, do: "run", ...this.#run(given) };
      case "ENV":
        return { ...head, do: "env", pairs: given.pairs() };
      case "ARG": {
        const [[name, fallback]] = argsOf(given, undefined) as [[string, string | undefined]];
        return { ...head, do: "arg", name, fallback: fallback ?? this.#global[name] };
      }
      case "WORKDIR":
        return { ...head, do: "workdir", path: rest };
      case "USER":
        return { ...head, do: "user", name: rest };
      case "SHELL": {
        const argv = given.json();
        if (!argv?.length) throw refused(line, "SHELL is not a JSON array", 'Write SHELL ["/bin/bash", "-c"].');
        return { ...head, do: "shell", argv };
      }
      case "COPY":
      case "ADD":
        return { ...head, ...copyOf(given, { context: this.source.context, stages: this.#earlier() }) };
      default:
        throw refused(line, `${keyword} is not supported`, `Supported are ${supported}.`);
    }
  }

  /** The stages before the present one, by name; a stage may copy from those alone, so no cycle can be written. */
  #earlier(): string[] {
    return this.#stages.slice(0, -1).map(({ name }) => name);
  }

  #run(given: Given): { command: Command; secrets?: readonly SecretMount[] } {
    const { secrets, warnings } = mountsOf(given);
    for (const text of warnings) this.#warnings.push({ line: given.line, text });
    given.flags(["mount", "network", "security"]);
    const heredoc = given.heredocs()[0];
    const command = heredoc ? { shell: heredoc.isScript ? heredoc.text : given.rest } : given.command();
    return { command, ...(secrets.length > 0 && { secrets }) };
  }
}

const supported =
  "FROM, RUN, COPY, ADD, ENV, ARG, WORKDIR, USER, SHELL, CMD, ENTRYPOINT, HEALTHCHECK, and without effect LABEL, EXPOSE, VOLUME";

function argsOf(given: Given, variables: Record<string, string> | undefined): [string, string | undefined][] {
  const [, name, value] = /^([a-zA-Z_]\w*)(?:=([\s\S]*))?$/.exec(given.rest) ?? [];
  if (!name) throw refused(given.line, "ARG is not NAME or NAME=DEFAULT", "Write one argument a line.");
  return [[name, value === undefined || !variables ? value : wholeWord(value, variables)]];
}

/** What the last stage runs: its own, or that of the stage it begins with. An ENTRYPOINT of its own forgets an older CMD. */
function startOf(stage: Draft, stages: readonly Draft[]): Command | undefined {
  let entrypoint: Command | undefined;
  let cmd: Command | undefined;
  for (let at: Draft | undefined = stage; at; ) {
    if (!entrypoint) cmd ??= at.cmd;
    entrypoint ??= at.entrypoint;
    at = at.from.kind === "stage" ? stages[at.from.index] : undefined;
  }
  if (!entrypoint) return cmd;
  if ("shell" in entrypoint || !cmd) return entrypoint;
  const more = "argv" in cmd ? cmd.argv : ["/bin/sh", "-c", cmd.shell];
  return { argv: [...entrypoint.argv, ...more] };
}

function readHealthcheck(given: Given): Plan["ready"] {
  if (/^none$/i.test(given.rest)) return undefined;
  const match = /^CMD\s+([\s\S]+)$/i.exec(given.rest);
  if (!match) throw refused(given.line, "HEALTHCHECK is not HEALTHCHECK [FLAGS] CMD COMMAND", "Write it so, or NONE.");
  const flags = given.flags(["interval", "timeout", "start-period", "start-interval", "retries"]);
  const sec = (text: string | undefined, usual: number) => {
    const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text ?? "") ?? [];
    if (text !== undefined && !unit) throw refused(given.line, `"${text}" is no duration`, "Write 500ms, 30s or 5m.");
    return unit ? Number(number) * { ms: 0.001, s: 1, m: 60, h: 3600 }[unit as "s"] : usual;
  };
  const argv = match[1]!.startsWith("[") ? (JSON.parse(match[1]!) as string[]) : undefined;
  return {
    command: argv ? { argv } : { shell: match[1]! },
    intervalSec: sec(flags.interval, usualCheck.intervalSec),
    timeoutSec: sec(flags.timeout, usualCheck.timeoutSec),
    startSec: sec(flags["start-period"], usualCheck.startSec),
    retries: Number(flags.retries ?? 0) || 0,
  };
}
