import { Command } from "commander";
import { type PtyHandle, Sandbox, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { pair } from "../options.ts";
import { usage } from "../output.ts";
import { exitCodeOf } from "./exec.ts";

type ShellFlags = { user?: string; cwd?: string; env?: Record<string, string> };

/** `wrenn shell`. */
export const shellCommand = (): Command =>
  new Command("shell")
    .description("open a terminal in a sandbox")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .option("-u, --user <name>", "user in the sandbox")
    .option("-w, --cwd <path>", "working directory")
    .option("-e, --env <name=value>", "environment; repeatable", pair)
    .addHelpText("after", "\nExample:\n  wrenn shell cl-3k9")
    .action(async (id: string, flags: ShellFlags) => {
      if (!process.stdin.isTTY || !process.stdout.isTTY)
        throw usage("standard input and output are not a terminal", "Use `wrenn exec ID -- COMMAND` in scripts.");
      const client = new Wrenn();
      const sandbox = await Sandbox.connect(await resolveId(client, id), { client });
      process.exitCode = await session(sandbox, flags);
    });

const size = () => ({ cols: process.stdout.columns || 80, rows: process.stdout.rows || 24 });

/** Variables of this terminal that programs in the guest draw by. */
const terminalEnv = () =>
  Object.fromEntries(["TERM", "COLORTERM"].flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));

async function session(sandbox: Sandbox, flags: ShellFlags): Promise<number> {
  const terminal = await sandbox.pty.create({
    ...size(),
    user: flags.user,
    cwd: flags.cwd,
    envs: { ...terminalEnv(), ...flags.env },
    onData: (bytes) => void process.stdout.write(bytes),
  });
  const restore = connect(terminal);
  try {
    return exitCodeOf(await terminal.wait());
  } finally {
    restore();
  }
}

/**
 * Hands every key and every byte on untouched; returns what makes the terminal as it was.
 * The runtime's raw mode still turns a line feed into two characters, which breaks full-screen programs: they move the
 * cursor down with a bare one.
 */
function makeRaw(): () => void {
  const stty = (...args: string[]) => Bun.spawnSync(["stty", ...args], { stdin: "inherit", stderr: "ignore" });
  const saved = stty("-g").stdout.toString().trim();
  const restore = () => {
    process.stdin.setRawMode(false);
    if (saved) stty(saved);
    process.off("exit", restore);
  };
  process.on("exit", restore); // a terminal left raw is useless to the person before it
  process.stdin.setRawMode(true);
  stty("-opost");
  return restore;
}

/** Joins this terminal to the remote one; returns what sets this one free again. */
function connect(terminal: PtyHandle): () => void {
  const onInput = (data: Uint8Array) => void terminal.sendInput(data).catch(() => {});
  const onResize = () => void terminal.resize(size()).catch(() => {});
  const onSignal = () => void terminal.kill().catch(() => {});
  const restore = makeRaw();
  process.stdin.on("data", onInput);
  process.on("SIGWINCH", onResize);
  for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
  return () => {
    process.stdin.off("data", onInput);
    process.off("SIGWINCH", onResize);
    for (const signal of ["SIGTERM", "SIGHUP"] as const) process.off(signal, onSignal);
    restore();
    process.stdin.destroy();
  };
}
