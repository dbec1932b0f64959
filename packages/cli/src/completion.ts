import tab from "@bomb.sh/tab/commander";
import type { Command } from "commander";
import { Sandbox, Wrenn } from "wrenn";

/** A shell waits for each press of the tab key. */
const patienceMs = 700;

/** Whether a command line is a shell's question for what may come next, as the generated scripts ask it. */
export const isQuestion = (argv: readonly string[]): boolean => argv[0] === "complete" && argv[1] === "--";

/** Adds `wrenn complete SHELL`, which prints a completion script; with `ids`, arguments named `id` offer those. */
export function addCompletion(root: Command, ids: readonly string[]): void {
  const shells = tab(root);
  for (const command of shells.commands.values())
    for (const argument of command.arguments.values())
      if (/^ids?$/.test(argument.name))
        argument.handler = (offer) => {
          for (const id of ids) offer(id, "");
        };
  root.commands
    .find((command) => command.name() === "complete")
    ?.addHelpText("after", "\nExamples:\n  source <(wrenn complete bash)\n  wrenn complete fish | source")
    .description("print a completion script for bash, zsh, fish or powershell");
}

/** Names and ids of this user's sandboxes, as far as a server says them in time. */
export async function knownIds(): Promise<string[]> {
  try {
    const found = await Sandbox.list({ client: new Wrenn(), requestTimeoutMs: patienceMs });
    return found.flatMap(({ id, name }) => (name === undefined ? [id] : [name, id]));
  } catch {
    return [];
  }
}
