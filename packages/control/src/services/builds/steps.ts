import { WrennError } from "@wrenn/contract";
import { type Command, type Instruction, type Origin, type Plan, refused, usualCheck } from "./plan.ts";

/** A step of the E2B build protocol (version 3): positional arguments by type. */
export type Step = { type: string; args: readonly string[]; filesHash?: string | undefined };

/** A build of that protocol. */
export type StepsSource = {
  from: Origin;
  steps: readonly Step[];
  startCmd?: string | undefined;
  readyCmd?: string | undefined;
};

/** How often a ready command is tried, and how long it may take, seconds: it may wait by itself, as `sleep 20` does. */
const ready = { intervalSec: 2, timeoutSec: 3_600 } as const;

/** Reads such a build. Throws `invalid_request` with the number of the step. */
export function readSteps({ from, steps, startCmd, readyCmd }: StepsSource): Plan {
  const instructions = steps.map((step, at) => instruction(step, at + 1));
  const shell = (text: string | undefined): Command | undefined => (text ? { shell: text } : undefined);
  const start = shell(startCmd);
  const command = shell(readyCmd);
  return {
    ...{ syntax: "steps", stages: [{ name: "", line: 1, from, instructions }], args: {}, warnings: [] },
    ...(start && { start }),
    ...(command && { ready: { ...usualCheck, ...ready, command } }),
  };
}

/** What the protocol's builder begins with when its user names nothing: an image of that service; here it is `base`. */
const usualImage = /^(docker\.io\/)?e2bdev\/(base|code-interpreter)(:latest)?$/;

/** What such a build begins with. Throws `invalid_request` when that is nothing, or both. */
export function e2bOrigin(template: string | undefined, image: string | undefined): Exclude<Origin, { kind: "stage" }> {
  if ((template === undefined) === (image === undefined))
    throw new WrennError("invalid_request", "The build names none, or both, of fromTemplate and fromImage.", {
      remedy: "Send exactly one of them.",
    });
  if (template !== undefined) return { kind: "template", name: template };
  return usualImage.test(image!) ? { kind: "template", name: "base" } : { kind: "image", reference: image! };
}

const remedy = "See the arguments of this step in the client's documentation.";

function instruction({ type, args, filesHash }: Step, line: number): Instruction {
  const head = { line, text: `${type} ${args.join(" ")}`.trim() };
  const need = (count: number) => {
    if (args.length < count || !args[0]) throw refused(line, `${type} needs ${count} arguments`, remedy);
  };
  switch (type.toUpperCase()) {
    case "RUN":
      need(1);
      return { ...head, do: "run", command: { shell: args[0]! }, user: args[1] || undefined };
    case "WORKDIR":
      need(1);
      return { ...head, do: "workdir", path: args[0]! };
    case "USER":
      need(1);
      return { ...head, do: "user", name: args[0]! };
    case "ENV":
    case "ARG":
      need(2);
      return { ...head, do: "env", pairs: pairs(args, line) };
    case "COPY": {
      need(2);
      if (!filesHash)
        throw refused(line, "COPY names no uploaded files", "Upload them first and send their filesHash.");
      const [source, target, owner, mode] = args;
      if (mode && !/^[0-7]{3,4}$/.test(mode)) throw refused(line, `"${mode}" is no octal mode`, "Send such as 0755.");
      return {
        ...{ ...head, do: "copy", from: { kind: "archive", hash: filesHash }, unpack: false },
        ...{ ...taken(source!, target!), owner: owner || undefined },
        mode: mode ? Number.parseInt(mode, 8) : undefined,
      };
    }
    default:
      throw refused(line, `the step ${type} is not known`, "Use RUN, COPY, WORKDIR, USER or ENV.");
  }
}

/**
 * What a step copies to where. Its archive holds what a pattern matched and nothing else, so that everything below the
 * folder which the pattern begins with is taken, as it lies there; the target is a folder, for which authors of this
 * dialect write no slash.
 */
function taken(source: string, target: string): { sources: string[]; target: string } {
  const parts = source.split("/");
  const at = parts.findIndex((part) => /[*?[\]{}]/.test(part));
  if (at < 0) return { sources: [source], target };
  return { sources: [parts.slice(0, at).join("/") || "."], target: target.endsWith("/") ? target : `${target}/` };
}

function pairs(args: readonly string[], line: number): [string, string][] {
  if (args.length % 2 !== 0) throw refused(line, "ENV has a name without a value", remedy);
  return Array.from({ length: args.length / 2 }, (_, at) => [args[2 * at]!, args[2 * at + 1]!]);
}
