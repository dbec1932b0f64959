import { WrennError } from "@wrenn/contract";

/** What a stage begins with: a template or image by name, or the result of an earlier stage. */
export type Origin = { kind: "template"; name: string } | { kind: "image"; reference: string } | StageRef;
/** The result of the stage at this place in the plan. */
export type StageRef = { kind: "stage"; index: number };

/** A command: a line for a shell, or a program with its arguments. */
export type Command = { shell: string } | { argv: readonly string[] };

/** Where the files of a copy come from: the uploaded archive with this digest, an earlier stage, or the file itself. */
export type CopySource = { kind: "archive"; hash: string } | StageRef | { kind: "text"; text: string };

/** One file operation of a build. */
export type Copy = {
  do: "copy";
  from: CopySource;
  /** Absolute from the root of the source; may hold `*`, `?` and `[...]`. */
  sources: readonly string[];
  target: string;
  /** `name[:group]` or numbers; absent means `owner` of the syntax: root, or the recipe's user. */
  owner?: string | undefined;
  mode?: number | undefined;
  /** Whether a source that is an archive is unpacked, as ADD does. */
  unpack: boolean;
};

/** A secret that one step reads: as a file, in a variable, or both. */
export type SecretMount = {
  id: string;
  target: string | undefined;
  env: string | undefined;
  isRequired: boolean;
  owner: string;
  mode: string;
};

type Deed =
  | ({ do: "run"; command: Command; secrets?: readonly SecretMount[] } & {
      timeoutSec?: number | undefined;
      user?: string | undefined;
    })
  | { do: "env"; pairs: readonly (readonly [string, string])[] }
  | { do: "arg"; name: string; fallback: string | undefined }
  | { do: "workdir"; path: string }
  | { do: "user"; name: string }
  | { do: "shell"; argv: readonly string[] }
  | { do: "start"; command: Command }
  | Copy;

/** One instruction, where it stands (1-based line, or number of the step) and how its author wrote it. */
export type Instruction = { readonly line: number; readonly text: string } & Deed;

/** A command that is repeated until it succeeds; only then is the template frozen. */
export type ReadyCheck = {
  command: Command;
  intervalSec: number;
  timeoutSec: number;
  startSec: number;
  /** Failures that are taken before the build fails; 0 means any number, until the build's own time is up. */
  retries: number;
};

/** A stage: what it starts from and what is done then. */
export type Stage = { name: string; line: number; from: Origin; instructions: readonly Instruction[] };

/**
 * How values are read: `dockerfile` knows quotes and `${NAME:-default}` and runs everything as the user of the moment;
 * `recipe` is the Wrenn language, in which USER makes the user; `steps` takes every value literally.
 */
export type Syntax = "dockerfile" | "recipe" | "steps";

/** Everything that a build does, checked before it is begun. The last stage becomes the template. */
export type Plan = {
  syntax: Syntax;
  stages: readonly Stage[];
  /** Build arguments by name. */
  args: Readonly<Record<string, string>>;
  /** What runs when the template is frozen, unless an instruction says it. */
  start?: Command | undefined;
  ready?: ReadyCheck | undefined;
  warnings: readonly { line: number; text: string }[];
};

/** Throws `invalid_request` with the line when a step needs a secret that was not given. */
export function needSecrets({ stages }: Plan, given: Readonly<Record<string, string>>): void {
  for (const { instructions } of stages)
    for (const one of instructions)
      for (const { id, isRequired } of one.do === "run" ? (one.secrets ?? []) : [])
        if (isRequired && !(id in given))
          throw refused(one.line, `the secret "${id}" was not given`, `Give it with --secret id=${id},src=FILE.`);
}

/** The refusal of something an author wrote, with its line. */
export const refused = (line: number, message: string, remedy: string): WrennError =>
  new WrennError("invalid_request", `line ${line}: ${message}`, { remedy, details: { line: String(line) } });

/** How a check is repeated that says nothing about it (Wrenn templates reference, 1.5). */
export const usualCheck = { intervalSec: 3, timeoutSec: 10, startSec: 0, retries: 0 } as const;
