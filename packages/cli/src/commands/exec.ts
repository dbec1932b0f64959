import { fstatSync } from "node:fs";
import { Command } from "commander";
import { type CommandHandle, type CommandResult, type OutputChunk, Sandbox, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { duration, pair } from "../options.ts";
import { print, printJson, usage } from "../output.ts";
import { type CreateFlags, createFrom, withCreateFlags } from "./lifecycle.ts";

type ExecFlags = {
  user?: string;
  cwd?: string;
  env?: Record<string, string>;
  timeout?: number;
  interactive?: boolean;
  detach?: boolean;
  json?: boolean;
};

const withExecFlags = (command: Command): Command =>
  command
    .option("-u, --user <name>", "user in the sandbox")
    .option("-w, --cwd <path>", "working directory")
    .option("-e, --env <name=value>", "environment; repeatable", pair)
    .option("--timeout <duration>", "time the command may take, such as 30s; default no limit", duration)
    .option("-i, --interactive", "send standard input even when it is a terminal")
    .option("-d, --detach", "leave it running and print its process id")
    .option("--json", "print stdout, stderr and exit code as JSON when it has ended");

/** `wrenn exec`. */
export const execCommand = (): Command =>
  withExecFlags(new Command("exec"))
    .description("run a command in a sandbox; its output, input and exit code pass through")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .argument("[command...]", "program and arguments; `sh -c '...'` for a line of shell")
    .passThroughOptions()
    .addHelpText(
      "after",
      "\nExamples:\n  wrenn exec cl-3k9 -- python3 -c 'print(6 * 7)'\n  cat data | wrenn exec cl-3k9 -- wc -c",
    )
    .action(async (id: string, rest: string[], outer: ExecFlags) => {
      const { flags, command } = readRest(rest, outer);
      const client = new Wrenn();
      const sandbox = await Sandbox.connect(await resolveId(client, id), { client });
      process.exitCode = await execute(sandbox, command, flags);
    });

/** Options may stand behind the id too, up to the first word of the command. */
function readRest(rest: string[], outer: ExecFlags): { flags: ExecFlags; command: [string, ...string[]] } {
  const inner = withExecFlags(new Command("exec")).argument("[command...]").passThroughOptions();
  inner.exitOverride().configureOutput({ outputError: () => {} });
  inner.parse(rest, { from: "user" });
  const [program, ...args] = inner.args;
  if (program === undefined) throw usage("no command to run", "Write it behind the id: wrenn exec ID -- ls -l");
  const flags = { ...outer, ...inner.opts<ExecFlags>() };
  const env = { ...outer.env, ...flags.env };
  return { flags: { ...flags, env }, command: [program, ...args] };
}

type RunFlags = CreateFlags & { user?: string; cwd?: string; interactive?: boolean; keep?: boolean; json?: boolean };

/** `wrenn run`. */
export const runCommand = (): Command =>
  withCreateFlags(new Command("run"))
    .description("create a sandbox, run one command in it and remove it")
    .argument("<command...>", "program and arguments")
    .option("-u, --user <name>", "user in the sandbox")
    .option("-w, --cwd <path>", "working directory")
    .option("-i, --interactive", "send standard input even when it is a terminal")
    .option("--keep", "keep the sandbox and print its id on standard error")
    .option("--json", "print stdout, stderr and exit code as JSON when it has ended")
    .passThroughOptions()
    .addHelpText("after", "\nExample:\n  wrenn run -t base -- python3 -c 'import platform; print(platform.release())'")
    .action(async ([program, ...args]: string[], flags: RunFlags) => {
      const { user, cwd, interactive, json, keep } = flags;
      const sandbox = await createFrom(flags, new Wrenn());
      const given = Object.fromEntries(
        Object.entries({ user, cwd, interactive, json }).filter(([, value]) => value !== undefined),
      );
      try {
        process.exitCode = await execute(sandbox, [program!, ...args], given);
      } finally {
        if (keep) process.stderr.write(`${sandbox.id}\n`);
        else await sandbox.kill();
      }
    });

/** Runs one command with this process's standard streams; returns the exit code to end with. */
async function execute(sandbox: Sandbox, [program, ...args]: [string, ...string[]], flags: ExecFlags): Promise<number> {
  const input = flags.interactive || (!process.stdin.isTTY && !isNull(0));
  const handle = await sandbox.commands.exec(program, args, {
    background: true,
    timeoutMs: flags.timeout ?? 0,
    user: flags.user,
    cwd: flags.cwd,
    envs: flags.env,
    stdin: input && !flags.detach,
    collect: flags.json === true,
    ...(flags.json || flags.detach ? {} : { onOutput: write }),
  });
  if (flags.detach) {
    handle.disconnect();
    if (flags.json) printJson({ id: sandbox.id, pid: handle.pid });
    else print(`${handle.pid}`);
    return 0;
  }
  if (input) void forward(handle);
  const result = await interruptible(handle);
  if (flags.json) printJson({ stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode });
  return exitCodeOf(result);
}

/** Standard input from /dev/null has nothing to send, so the guest need not open a pipe for it. */
function isNull(fd: number): boolean {
  try {
    return fstatSync(fd).isCharacterDevice();
  } catch {
    return true;
  }
}

/** Writes a chunk to the stream of the same name; a promise while the reader is slower than the guest, or has gone. */
function write({ stream, bytes }: OutputChunk): Promise<void> | undefined {
  const target = stream === "stderr" ? process.stderr : process.stdout;
  if (target.destroyed || target.errored || target.write(bytes)) return undefined;
  return new Promise((resolve) => {
    const settle = () => {
      for (const event of ["drain", "error", "close"]) target.off(event, settle);
      resolve();
    };
    for (const event of ["drain", "error", "close"]) target.once(event, settle);
  });
}

async function forward(handle: CommandHandle): Promise<void> {
  try {
    for await (const chunk of process.stdin) await handle.sendStdin(chunk as Uint8Array);
    await handle.closeStdin();
  } catch {
    // The command ended without reading all of its input; its exit code tells the rest.
  }
}

/** How long a command that was asked to end has before it is made to. */
const killAfterMs = 2_000;

/** Waits for the end; a signal to this program ends the command, a second one at once. */
async function interruptible(handle: CommandHandle): Promise<CommandResult> {
  const interrupted = new AbortController();
  const onSignal = () => {
    if (interrupted.signal.aborted) return void handle.kill();
    interrupted.abort();
    void handle.kill("SIGTERM").catch(() => {});
    setTimeout(() => void handle.kill().catch(() => {}), killAfterMs).unref();
  };
  const onClosed = () => void handle.kill().catch(() => {});
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, onSignal);
  process.stdout.on("error", onClosed); // the reader of a pipe has gone
  try {
    return await handle.ended();
  } finally {
    for (const signal of signals) process.off(signal, onSignal);
    process.stdin.destroy();
  }
}

/** Numbers of the signals by which commands end, in the guest agent's words. */
const numberOf: Readonly<Record<string, number>> = {
  hangup: 1,
  interrupt: 2,
  quit: 3,
  "illegal instruction": 4,
  aborted: 6,
  "floating point exception": 8,
  killed: 9,
  "segmentation fault": 11,
  "broken pipe": 13,
  "alarm clock": 14,
  terminated: 15,
};

/** A shell's convention: 128 and the signal's number for a command that a signal ended. */
export function exitCodeOf({ exitCode, status }: { exitCode: number; status: string }): number {
  if (exitCode >= 0) return exitCode;
  const text = status.replace(/^signal: /, "");
  return 128 + (numberOf[text] ?? (Number(/^signal (\d+)$/.exec(text)?.[1]) || 9));
}
