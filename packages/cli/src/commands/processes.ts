import { Command, InvalidArgumentError } from "commander";
import { Commands, type Signal, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { type Json, positive } from "../options.ts";
import { Failure, print, printJson, printTable } from "../output.ts";

/** The commands of a sandbox as it is: looking at a paused one does not resume it. */
async function commandsOf(text: string): Promise<{ id: string; commands: Commands }> {
  const client = new Wrenn();
  const id = await resolveId(client, text);
  return { id, commands: new Commands(await client.agent(id)) };
}

/** `wrenn ps`. */
export const processesCommand = (): Command =>
  new Command("ps")
    .description("list the commands and terminals that run in a sandbox")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .option("--json", "print a JSON array")
    .addHelpText("after", "\nExample:\n  wrenn ps cl-3k9")
    .action(async (id: string, { json }: Json) => {
      const found = await (await commandsOf(id)).commands.list();
      if (json) return printJson(found);
      const rows = found.map(({ pid, tag, cmd, args }) => [`${pid}`, tag ?? "-", [cmd, ...args].join(" ")]);
      printTable(["PID", "TAG", "COMMAND"], rows, "No command runs in it. `wrenn exec ID -- COMMAND` starts one.");
    });

function signalOf(text: string): Signal {
  const name = text.toUpperCase().replace(/^(?!SIG)/, "SIG");
  if (name === "SIGTERM" || name === "SIGKILL") return name;
  throw new InvalidArgumentError("Give TERM or KILL.");
}

/** `wrenn kill`. */
export const killCommand = (): Command =>
  new Command("kill")
    .description("send a signal to a command of a sandbox; `wrenn rm` removes a whole sandbox")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .argument("<pid>", "process id, as `wrenn ps` shows it", positive)
    .option("-s, --signal <name>", "TERM, which a command can answer to, or KILL", signalOf, "SIGTERM")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExample:\n  wrenn kill cl-3k9 812 --signal KILL")
    .action(async (text: string, pid: number, { signal, json }: Json & { signal: Signal }) => {
      const { id, commands } = await commandsOf(text);
      if (!(await commands.kill(pid, signal)))
        throw new Failure(`no command with process id ${pid} in ${id}`, `See \`wrenn ps ${id}\` for those there are.`);
      if (json) printJson({ id, pid, signal });
      else print(`${pid} got ${signal}`);
    });
