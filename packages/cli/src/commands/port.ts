import { Command } from "commander";
import { Sandbox, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { duration, type Json, portNumber } from "../options.ts";
import { paint, print, printJson, usage } from "../output.ts";

type PortFlags = Json & { public?: boolean; private?: boolean; expires?: number };

/** `wrenn port`. */
export const portCommand = (): Command =>
  new Command("port")
    .description("print the address of a port: signed while it is private, bare when it is public")
    .argument("<id>", "name of a sandbox, or its id or the beginning of it")
    .argument("<port>", "port that a program in the sandbox listens on", portNumber)
    .option("--public", "let anybody reach it from now on")
    .option("--private", "let only signed links, the sandbox's token and the team's keys reach it from now on")
    .option("--expires <duration>", "time until the signed link ends, such as 30m; default 1h", duration)
    .option("--json", "print address, token and signed link as JSON")
    .addHelpText("after", "\nExamples:\n  wrenn port cl-3k9 8000 --expires 1h\n  wrenn port cl-3k9 8000 --public")
    .action(async (id: string, port: number, flags: PortFlags) => {
      const client = new Wrenn();
      const wish = { public: wanted(flags), expiresMs: flags.expires };
      const access = await Sandbox.openPort(await resolveId(client, id), port, { client, ...wish });
      if (flags.json) return printJson(access);
      print(access.signedUrl ?? access.url);
      if (process.stdout.isTTY && access.public) print(paint("dim", "anybody who knows this address can open it"));
    });

function wanted(flags: PortFlags): boolean | undefined {
  if (flags.public && flags.private) throw usage("--public and --private exclude each other", "Give one of them.");
  if (flags.public && flags.expires !== undefined)
    throw usage("a public port has no link that could end", "Give --expires without --public.");
  if (flags.public) return true;
  return flags.private ? false : undefined;
}
