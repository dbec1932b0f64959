import { createHash } from "node:crypto";
import { posix } from "node:path";
import type { Defaults } from "../../store/schema/index.ts";
import {
  type Command,
  type Copy,
  type Instruction,
  type Origin,
  type Plan,
  refused,
  type SecretMount,
  type Stage,
} from "./plan.ts";
import { recipeValue, type Variables, WordError, wholeWord, words } from "./words.ts";

/** A command as it is run in the guest. */
export type Run = {
  argv: readonly string[];
  user: string;
  cwd: string;
  env: Variables;
  timeoutSec: number | undefined;
  /** Read by this command alone. Their values are not part of what its result depends on. */
  secrets?: readonly SecretMount[];
};
/** A copy with everything put in; `target` is absolute, and ends in `/` when it must be a folder. */
export type Copying = Omit<Copy, "do"> & { intoNamedFolder: boolean };

type Act =
  | ({ act: "run" } & Run)
  | ({ act: "start" } & Run)
  | { act: "folder"; path: string; user: string }
  | { act: "account"; name: string }
  | ({ act: "copy" } & Copying);

/** One thing to do. `key` is the digest of everything that its result depends on; a hidden one is not the author's. */
export type Action = { step: number; instruction: Instruction; key: string; isHidden: boolean } & Act;

/** What a stage begins with: an identity that changes when its content does, and the settings it hands on. */
export type Base = { key: string; defaults: Defaults; name: string; digest: string };

/** A stage ready to be carried out. */
export type StagePlan = { from: Origin; base: Base; actions: readonly Action[]; defaults: Defaults; key: string };

/** What the outside has to say for a plan to become actions. */
export type World = {
  /** What a template or image is. Throws `not_found`. */
  base(origin: Exclude<Origin, { kind: "stage" }>, line: number): Promise<Base>;
  /** Digest of what a copy takes from an archive. Throws `invalid_request` when that is nothing. */
  digest(copy: Copying, line: number): Promise<string>;
};

/** What a program finds when an image says nothing. */
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Who builds of the E2B protocol run as until they say otherwise. */
const stepsUser = "user";
/** Part of every key: a change here, or in how a step is carried out, makes every cached result unknown. */
const generation = "2";

const posixShell = ["/bin/sh", "-c"] as const;
/** Builds of the E2B protocol expect bash as a login shell; an image without it gets what it has. */
const loginShell = ["/bin/sh", "-c", 'exec "$(command -v bash || echo /bin/sh)" -l -c "$0"'] as const;

/** What runs lines of a syntax until it says otherwise; the line is the next argument. */
export const shellOf = (syntax: Plan["syntax"]): readonly string[] => (syntax === "steps" ? loginShell : posixShell);

/** Digest of a list of values; no two lists have the same. */
export const digestOf = (...parts: readonly unknown[]): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex");

/** Turns a plan into what is to be done, stage by stage, without doing any of it. */
export async function compilePlan(plan: Plan, world: World): Promise<StagePlan[]> {
  const stages: StagePlan[] = [];
  const needed = neededStages(plan);
  let step = 0;
  for (const [index, stage] of plan.stages.entries()) {
    const base = needed.has(index) ? await baseOf(stage, stages, world) : unneeded;
    const compiler = new Compiler(plan, stages, base, step);
    const instructions = needed.has(index) ? stage.instructions : [];
    if (plan.syntax === "steps") compiler.account(stepsUser, true);
    for (const instruction of instructions) await compiler.take(instruction, world);
    step = compiler.step;
    stages.push({ from: stage.from, base, ...compiler.result() });
  }
  return stages;
}

const unneeded: Base = { key: "", name: "", digest: "", defaults: { user: "root", workdir: "/", env: {} } };

/** The stages that the last one stands on, itself included. */
function neededStages({ stages }: Plan): Set<number> {
  const needed = new Set([stages.length - 1]);
  for (let index = stages.length - 1; index >= 0; index--) {
    if (!needed.has(index)) continue;
    const { from, instructions } = stages[index]!;
    if (from.kind === "stage") needed.add(from.index);
    for (const one of instructions) if (one.do === "copy" && one.from.kind === "stage") needed.add(one.from.index);
  }
  return needed;
}

async function baseOf({ from, line }: Stage, stages: readonly StagePlan[], world: World): Promise<Base> {
  if (from.kind !== "stage") return await world.base(from, line);
  const { key, defaults, base } = stages[from.index]!;
  return { ...base, key, defaults };
}

type Wishes = {
  command: Command;
  secrets?: readonly SecretMount[];
  user?: string | undefined;
  timeoutSec?: number | undefined;
};

class Compiler {
  readonly #actions: Action[] = [];
  readonly #env: Record<string, string>;
  readonly #args: Record<string, string> = {};
  #user: string;
  #cwd: string;
  #shell: readonly string[];
  #key: string;

  constructor(
    readonly plan: Plan,
    readonly stages: readonly StagePlan[],
    base: Base,
    public step: number,
  ) {
    this.#shell = shellOf(plan.syntax);
    this.#env = { ...base.defaults.env };
    this.#user = base.defaults.user || "root";
    this.#cwd = plan.syntax === "dockerfile" && base.defaults.workdir === "/root" ? "/" : base.defaults.workdir || "/";
    this.#key = digestOf(generation, base.key);
  }

  result(): Pick<StagePlan, "actions" | "defaults" | "key"> {
    const defaults = { user: this.#user, workdir: this.#cwd, env: { ...this.#env } };
    return { actions: this.#actions, defaults, key: digestOf(this.#key, defaults) };
  }

  /** Makes `name` exist and be the user from here on. */
  account(name: string, isHidden = false): void {
    const instruction: Instruction = { line: 0, text: `USER ${name}`, do: "user", name };
    this.#add(instruction, { act: "account", name }, isHidden);
    this.#user = name;
    if (isHidden) this.#cwd = `/home/${name}`;
  }

  async take(instruction: Instruction, world: World): Promise<void> {
    try {
      await this.#take(instruction, world);
    } catch (thrown) {
      if (!(thrown instanceof WordError)) throw thrown;
      throw refused(instruction.line, thrown.message, "Correct this instruction, or give the build argument.");
    }
  }

  async #take(instruction: Instruction, world: World): Promise<void> {
    const { line } = instruction;
    switch (instruction.do) {
      case "run":
        return this.#add(instruction, { act: "run", ...this.#run(instruction) });
      case "start":
        return this.#add(instruction, { act: "start", ...this.#run(instruction) });
      case "env": {
        // All values of one instruction are read with the variables before it (Dockerfile reference, ENV).
        const values = instruction.pairs.map(([name, value]) => [name, this.#value(value)] as const);
        for (const [name, value] of values) this.#env[name] = value;
        return;
      }
      case "arg": {
        const { name, fallback } = instruction;
        const value = this.plan.args[name] ?? (fallback === undefined ? undefined : this.#value(fallback));
        if (value !== undefined) this.#args[name] = value;
        return;
      }
      case "shell":
        this.#shell = instruction.argv;
        return;
      case "workdir":
        this.#cwd = posix.resolve(this.#cwd, this.#value(instruction.path));
        return this.#add(instruction, { act: "folder", path: this.#cwd, user: this.#user });
      case "user":
        return this.#become(instruction, this.#value(instruction.name).split(":")[0]!);
      case "copy": {
        const copying = this.#copying(instruction);
        const content = copying.from.kind === "archive" ? await world.digest(copying, line) : this.#origin(copying);
        return this.#add(instruction, { act: "copy", ...copying }, false, content);
      }
    }
  }

  /** In a recipe the account is made; elsewhere it must be there. */
  #become(instruction: Instruction, name: string): void {
    if (this.plan.syntax === "recipe") this.#add(instruction, { act: "account", name });
    this.#user = name;
  }

  #add(instruction: Instruction, act: Act, isHidden = false, content: unknown = undefined): void {
    const { from: _, ...facts } = act as Act & { from?: unknown };
    this.#key = digestOf(this.#key, facts, content);
    if (!isHidden) this.step++;
    this.#actions.push({ step: this.step, instruction, key: this.#key, isHidden, ...act });
  }

  /** What the source of a copy is, as far as it is no archive. */
  #origin({ from }: Copying): unknown {
    return from.kind === "stage" ? this.stages[from.index]!.key : from;
  }

  #run({ command, secrets, ...wishes }: Wishes): Run {
    const argv = "shell" in command ? [...this.#shell, command.shell] : command.argv;
    const env = { ...this.#args, ...this.#env };
    const run = { argv, user: wishes.user ?? this.#user, cwd: this.#cwd, env, timeoutSec: wishes.timeoutSec };
    return { ...run, ...(secrets && { secrets }) };
  }

  #copying(copy: Copy): Copying {
    const { do: _, ...facts } = copy;
    const many = copy.sources.flatMap((source) => this.#values(source));
    const target = this.#value(copy.target);
    const isFolder = target.endsWith("/") || target === "." || many.length > 1;
    const absolute = posix.resolve(this.#cwd, target);
    const fallback = this.plan.syntax === "dockerfile" ? undefined : this.#user;
    return {
      ...facts,
      from: copy.from.kind === "text" ? { kind: "text", text: this.#value(copy.from.text) } : copy.from,
      sources: many,
      target: isFolder && absolute !== "/" ? `${absolute}/` : absolute,
      owner: copy.owner === undefined ? fallback : this.#value(copy.owner),
      // `cp -r` puts a folder into one that exists; everywhere else what is in it is copied.
      intoNamedFolder: this.plan.syntax === "recipe" && isFolder,
    };
  }

  get #variables(): Variables {
    const HOME = this.#user === "root" ? "/root" : `/home/${this.#user}`;
    return { PATH: usualPath, HOME, ...this.#args, ...this.#env };
  }

  #value(text: string): string {
    if (this.plan.syntax === "steps") return text;
    return this.plan.syntax === "recipe" ? recipeValue(text, this.#variables) : wholeWord(text, this.#variables);
  }

  /** One source may name several after its variables are put in. */
  #values(text: string): string[] {
    return this.plan.syntax === "dockerfile" && text.includes("$") ? words(text, this.#variables) : [this.#value(text)];
  }
}
