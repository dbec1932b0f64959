import { Command, Option } from "commander";
import { type LogEntry, type LogOptions, Sandbox, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { type Json, positive } from "../options.ts";
import { paint, print, printable, printJson } from "../output.ts";

type LogFlags = Json & { follow?: boolean; lines: number; level: NonNullable<LogOptions["level"]> };

/** `wrenn logs`. */
export const logsCommand = (): Command =>
  new Command("logs")
    .description("show what happened in and around a sandbox: its life, its commands, its kernel")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .option("-f, --follow", "go on with what happens from now on, until Ctrl-C or the sandbox is gone")
    .option("-n, --lines <n>", "how many of the newest entries", positive, 200)
    .addOption(
      new Option("--level <level>", "at least this grave").choices(["debug", "info", "warn", "error"]).default("info"),
    )
    .option("--json", "print one line of JSON for each entry")
    .addHelpText("after", "\nExamples:\n  wrenn logs cl-3k9\n  wrenn logs -f cl-3k9 --level warn")
    .action(async (text: string, { follow, lines, level, json }: LogFlags) => {
      const client = new Wrenn();
      const id = await resolveId(client, text);
      const options = { client, limit: lines, level };
      const show = (entry: LogEntry) => (json ? printJson(entry) : print(line(entry)));
      if (!follow) for (const entry of await Sandbox.logs(id, options)) show(entry);
      else for await (const entry of Sandbox.followLogs(id, options)) show(entry);
    });

const colours = { debug: "dim", info: "cyan", warn: "yellow", error: "red" } as const;

function line({ at, level, source, message, fields }: LogEntry): string {
  const facts = Object.entries(fields).map(([name, value]) => ` ${name}=${value}`);
  const head = `${paint("dim", at.toISOString())} ${paint(colours[level], level.padEnd(5))} ${source.padEnd(7)}`;
  return `${head} ${printable(message)}${paint("dim", printable(facts.join("")))}`;
}
