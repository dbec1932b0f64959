import { accessSync, constants, type Stats, statSync } from "node:fs";
import { delimiter, isAbsolute, join } from "node:path";
import { WrennError } from "@wrenn/contract/core";
import { resolvePath, type User } from "../users.ts";
import type { Command } from "./spawn.ts";

/** What a caller asks for. */
export type CommandRequest = {
  readonly cmd: string;
  readonly args: readonly string[];
  readonly envs: Readonly<Record<string, string>>;
  readonly cwd: string;
};

/** What the sandbox adds to it. */
export type Surroundings = {
  readonly user: User;
  readonly envs: Readonly<Record<string, string>>;
  readonly defaultWorkdir: string;
};

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** The command with everything the kernel needs. Throws `command_not_found` and `invalid_request`. */
export function prepare(request: CommandRequest, { user, envs, defaultWorkdir }: Surroundings): Command {
  if (!request.cmd) throw new WrennError("invalid_request", "the command is empty", { remedy: "Name a program." });
  for (const text of [request.cmd, ...request.args, ...Object.entries(request.envs).flat()])
    if (text.includes("\0"))
      throw new WrennError("invalid_request", "a command, argument or variable holds a NUL byte", {
        remedy: "Pass binary data on standard input or as a file.",
      });
  if (process.getuid?.() !== 0 && user.uid !== process.getuid?.())
    throw new WrennError("forbidden", `the agent does not run as root and cannot act as '${user.name}'`, {
      remedy: "Leave the user out, or run the agent as root.",
    });
  const cwd = workingDirectory(request.cwd, user, defaultWorkdir);
  const env = {
    PATH: process.env.PATH || defaultPath,
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    ...envs,
    ...request.envs,
  };
  return { program: findProgram(request.cmd, env.PATH, cwd), argv: [request.cmd, ...request.args], cwd, env, user };
}

function workingDirectory(wanted: string, user: User, defaultWorkdir: string): string {
  const path = resolvePath(wanted, user, defaultWorkdir || user.home);
  if (statIfReachable(path)?.isDirectory()) return path;
  if (!wanted) return "/"; // a home that the image lacks must not make every command fail
  throw new WrennError("invalid_request", `cwd '${path}' does not exist or is not a directory`, {
    remedy: "Create the directory first, or name another.",
    details: { cwd: path },
  });
}

function findProgram(cmd: string, path: string, cwd: string): string {
  const candidates = cmd.includes("/")
    ? [isAbsolute(cmd) ? cmd : join(cwd, cmd)]
    : path.split(delimiter).map((folder) => join(isAbsolute(folder) ? folder : join(cwd, folder), cmd));
  let present = false;
  for (const candidate of candidates) {
    if (!statIfReachable(candidate)?.isFile()) continue;
    present = true;
    if (isExecutable(candidate)) return candidate;
  }
  if (present) throw notExecutable(cmd, "EACCES");
  throw commandNotFound(cmd);
}

/** A folder of the path may be closed to the agent, or its name be that of a file: then nothing is found there. */
function statIfReachable(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const commandNotFound = (cmd: string, cause?: unknown) =>
  new WrennError("command_not_found", `command not found: ${cmd}`, {
    remedy: "Install the program, give its absolute path, or run it through a shell.",
    details: { cmd },
    cause,
  });

const notExecutable = (cmd: string, errno: string, cause?: unknown) =>
  new WrennError("invalid_request", `cannot execute ${cmd}: ${errno}`, {
    remedy: "Make it executable for the user, and a script start with #!.",
    details: { cmd, errno },
    cause,
  });

/** What the kernel's refusal to start `cmd` means to the caller. */
export function spawnError(cmd: string, cause: unknown): WrennError {
  const errno = (cause as { code?: unknown }).code;
  if (errno === "ENOENT") return commandNotFound(cmd, cause);
  if (typeof errno === "string" && ["EACCES", "ENOEXEC", "EPERM", "ELIBBAD", "E2BIG"].includes(errno))
    return notExecutable(cmd, errno, cause);
  return new WrennError("internal_error", `cannot start ${cmd}: ${errno ?? cause}`, {
    remedy: "The sandbox may be out of processes or memory: stop some, or use a larger one.",
    details: { cmd },
    cause,
  });
}
