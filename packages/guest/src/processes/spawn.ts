import { ptr } from "bun:ffi";
import { closeSync, openSync, writeSync } from "node:fs";
import { libc, pipe, systemCall } from "../native.ts";
import type { User } from "../users.ts";
import { confine } from "./groups.ts";

/** What the kernel needs to know of a new process. */
export type Command = {
  /** Absolute path of the file to execute. */
  readonly program: string;
  /** Its arguments; the first is the name the caller used. */
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Record<string, string>;
  readonly user: User;
};

/** How the kernel told us that a process left. */
export type OnExit = (code: number | null, signal: string | number | null) => void;

/** A child on pipes; the agent's ends are raw descriptors that the caller closes. */
export type PipedChild = { pid: number; stdin: number | undefined; stdout: number; stderr: number };

/**
 * Starts `command` in its own session, on pipes rather than Bun's socket pairs: a program can open `/dev/stderr` only
 * when it is not a socket.
 */
export function spawnPiped(command: Command, stdin: boolean, onExit: OnExit): PipedChild {
  const ends: number[] = [];
  const open = () => {
    const made = pipe();
    ends.push(made.read, made.write);
    return made;
  };
  try {
    const [out, err, input] = [open(), open(), stdin ? open() : undefined];
    const child = spawnAs(command, (identity) =>
      Bun.spawn([command.program, ...command.argv.slice(1)], {
        ...identity,
        argv0: command.argv[0]!,
        cwd: command.cwd,
        env: command.env,
        detached: true,
        stdin: input ? input.read : "ignore",
        stdout: out.write,
        stderr: err.write,
        onExit: (_child, code, signal) => onExit(code, signal),
      }),
    );
    confine(child.pid, "user");
    for (const fd of [out.write, err.write, input?.read]) if (fd !== undefined) closeSync(fd);
    return { pid: child.pid, stdin: input?.write, stdout: out.read, stderr: err.read };
  } catch (thrown) {
    for (const fd of ends) closeSync(fd);
    throw thrown;
  }
}

/** Starts `command` on `terminal`, in its own session and with it as controlling terminal. */
export function spawnOnTerminal(command: Command, terminal: Bun.Terminal, onExit: OnExit): number {
  const { pid } = spawnAs(command, (identity) =>
    Bun.spawn([command.program, ...command.argv.slice(1)], {
      ...identity,
      argv0: command.argv[0]!,
      cwd: command.cwd,
      env: command.env,
      detached: true, // only then does the terminal become its controlling terminal
      terminal,
      onExit: (_child, code, signal) => onExit(code, signal),
    }),
  );
  confine(pid, "pty");
  return pid;
}

const isRoot = process.getuid?.() === 0;

type SpawnIdentity = { uid?: number; gid?: number };

/** Runs `start` so that the child has the user's uid, gid and groups, and the out-of-memory score of a command. */
function spawnAs<T>(command: Command, start: (identity: SpawnIdentity) => T): T {
  const { uid, gid, groups } = command.user;
  if (!isRoot) return start({});
  return withCommandScore(() => (groups.length === 0 ? start({ uid, gid }) : withCredentials(command.user, start)));
}

const number = { setgroups: 116, setresuid: 117, setresgid: 119 }; // x86-64
const rootGroups = process.getgroups?.() ?? [];

/**
 * Bun drops supplementary groups when it is given a uid. The kernel keeps credentials per thread, so the calling
 * thread takes the user's for the time of the spawn: raw system calls, since libc's would change all threads. The
 * saved uid stays 0, which is the way back; exec replaces it by the user's.
 */
function withCredentials<T>({ uid, gid, groups }: User, start: (identity: SpawnIdentity) => T): T {
  const undo: (() => void)[] = [];
  try {
    setGroups(groups);
    undo.push(() => setGroups(rootGroups));
    systemCall("setresgid", number.setresgid, gid, gid, 0);
    undo.push(() => systemCall("setresgid", number.setresgid, 0, 0, 0));
    systemCall("setresuid", number.setresuid, uid, uid, 0);
    undo.push(() => systemCall("setresuid", number.setresuid, 0, 0, 0));
    return start({});
  } finally {
    restore(undo);
  }
}

/** An agent that cannot become root again must not serve another request. */
function restore(undo: (() => void)[]): void {
  try {
    for (const step of undo.reverse()) step();
  } catch (thrown) {
    console.error("cannot take root's credentials back", thrown);
    process.exit(70);
  }
}

function setGroups(groups: readonly number[]): void {
  const list = new Uint32Array(groups.length || 1);
  list.set(groups);
  systemCall("setgroups", number.setgroups, groups.length, ptr(list));
}

/** The kernel ends commands before the agent when memory runs out. */
const score = { agent: "-1000", command: "100" };
let scoreFile: number | undefined;

/** Puts the agent out of the reach of the out-of-memory killer; without the right to do so nothing changes. */
export function protectAgent(): void {
  try {
    const file = openSync("/proc/self/oom_score_adj", "r+");
    writeSync(file, score.agent, 0);
    scoreFile = file;
  } catch {
    scoreFile = undefined; // not allowed: children then inherit what the agent has
  }
  libc(); // opened now, so that no command waits for it
}

/** Children inherit the score, so the agent has theirs while it spawns: no grandchild can be born with the agent's. */
function withCommandScore<T>(start: () => T): T {
  if (scoreFile === undefined) return start();
  writeSync(scoreFile, score.command, 0);
  try {
    return start();
  } finally {
    writeSync(scoreFile, score.agent, 0);
  }
}
