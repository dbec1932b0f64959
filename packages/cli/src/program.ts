import { Command, CommanderError } from "commander";
import { version } from "wrenn";
import { copyCommand } from "./commands/copy.ts";
import { dashboardCommand } from "./commands/dashboard.ts";
import { diffCommand } from "./commands/diff.ts";
import { execCommand, runCommand } from "./commands/exec.ts";
import { forwardCommand } from "./commands/forward.ts";
import { hostCommand } from "./commands/host.ts";
import {
  createCommand,
  infoCommand,
  listCommand,
  pauseCommand,
  removeCommand,
  renameCommand,
  resumeCommand,
  templatesCommand,
} from "./commands/lifecycle.ts";
import { statsCommand, topCommand } from "./commands/load.ts";
import { logsCommand } from "./commands/logs.ts";
import { networkCommand } from "./commands/network.ts";
import { portCommand } from "./commands/port.ts";
import { killCommand, processesCommand } from "./commands/processes.ts";
import { shellCommand } from "./commands/shell.ts";
import { checkpointCommand, forkCommand, rollbackCommand, snapshotsCommand } from "./commands/snapshots.ts";
import { syncCommand } from "./commands/sync.ts";
import { treeCommand } from "./commands/tree.ts";
import { trustCommand } from "./commands/trust.ts";
import { volumeCommand } from "./commands/volume.ts";
import { addCompletion, isQuestion, knownIds } from "./completion.ts";
import { doctorCommand } from "./doctor/command.ts";
import { mcpCommand } from "./mcp/command.ts";
import { badUsage, Failure, report } from "./output.ts";
import { templateCommand } from "./template/commands.ts";
import { upCommand } from "./up/command.ts";

function program(ids: readonly string[]): Command {
  const root = new Command("wrenn")
    .description("Sandboxes for AI agents: virtual machines that start in milliseconds.")
    .version(version)
    .helpCommand("help [command]", "describe a command")
    .enablePositionalOptions()
    .addHelpText(
      "after",
      "\nExample:\n  wrenn up                                     # in one terminal\n  wrenn run -- python3 -c 'print(6 * 7)'       # in another",
    );
  const groups = {
    "This machine:": [upCommand(), dashboardCommand(), doctorCommand(), trustCommand(), mcpCommand()],
    "Hosts:": [hostCommand()],
    "Sandboxes:": [
      createCommand(),
      runCommand(),
      listCommand(),
      topCommand(),
      infoCommand(),
      statsCommand(),
      logsCommand(),
      networkCommand(),
      pauseCommand(),
      resumeCommand(),
      renameCommand(),
      removeCommand(),
    ],
    "Templates:": [templatesCommand(), templateCommand()],
    "Files that stay:": [volumeCommand()],
    "Points in time:": [
      checkpointCommand(),
      forkCommand(),
      rollbackCommand(),
      diffCommand(),
      snapshotsCommand(),
      treeCommand(),
    ],
    "Inside a sandbox:": [
      execCommand(),
      shellCommand(),
      copyCommand(),
      syncCommand(),
      processesCommand(),
      killCommand(),
      portCommand(),
      forwardCommand(),
    ],
  };
  for (const [group, commands] of Object.entries(groups))
    for (const command of commands) root.addCommand(command.helpGroup(group));
  addCompletion(root, ids);
  quiet(root);
  return root;
}

/** The command whose line could not be understood, as `wrenn template build`. */
const misused = new WeakMap<CommanderError, string>();

/** Errors of the command line are thrown, so that they print like every other and end with code 2. */
function quiet(command: Command, path = command.name()): void {
  command.configureOutput({ outputError: () => {} }).exitOverride((error) => {
    misused.set(error, path);
    throw error;
  });
  for (const inner of command.commands) quiet(inner, `${path} ${inner.name()}`);
}

/** What commander found wrong with a command line; its suggestion becomes the remedy. */
function misuse(error: CommanderError): Failure {
  const [first = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const message = first.replace(/^command-argument value ('.*') is invalid for argument ('.*?')\./, "$1 is no $2:");
  const meant = suggestion?.replace(/^\(|\)$/g, "");
  return new Failure(message, meant ?? `See \`${misused.get(error) ?? "wrenn"} --help\`.`, badUsage);
}

/** A command as it is typed, such as `wrenn template build`. */
const pathOf = (command: Command): string =>
  command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();

/** Runs one command line; returns the exit code. */
export async function run(argv: readonly string[]): Promise<number> {
  const own = argv.includes("--") ? argv.slice(0, argv.indexOf("--")) : argv;
  const json = own.includes("--json");
  let called = "wrenn";
  try {
    const root = program(isQuestion(argv) ? await knownIds() : []);
    root.hook("preAction", (_, command) => {
      called = pathOf(command);
    });
    if (argv.length === 0) root.help({ error: true });
    await root.parseAsync([...argv], { from: "user" });
    return Number(process.exitCode ?? 0);
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) return report(thrown, json, called);
    if (thrown.exitCode === 0) return 0;
    if (thrown.code === "commander.help") return badUsage;
    return report(misuse(thrown), json);
  }
}
