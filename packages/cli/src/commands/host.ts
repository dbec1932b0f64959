import { Command } from "commander";
import { type DrainInfo, type HostInfo, Wrenn } from "wrenn";
import type { Json } from "../options.ts";
import { age, Failure, print, printJson, table } from "../output.ts";

/** `wrenn host`. */
export const hostCommand = (): Command =>
  new Command("host")
    .description("look after the machines of an installation")
    .addHelpText("after", "\nExamples:\n  wrenn host ls\n  wrenn host drain host-3k9")
    .addCommand(listCommand())
    .addCommand(modeCommand("cordon", "keep new sandboxes away; what is there goes on"))
    .addCommand(modeCommand("uncordon", "let it take new sandboxes again"))
    .addCommand(drainCommand());

const listCommand = (): Command =>
  new Command("ls")
    .alias("list")
    .description("list hosts")
    .option("--json", "print a JSON array")
    .addHelpText("after", "\nExample:\n  wrenn host ls")
    .action(async ({ json }: Json) => {
      const hosts = await new Wrenn().hosts.list();
      if (json) return printJson(hosts);
      print(table(["ID", "STATUS", "MODE", "ZONE", "SANDBOXES", "MEMORY", "AGE"], hosts.map(row)));
    });

const row = (host: HostInfo): string[] => [
  ...[host.id, host.status, host.mode, host.zone ?? "-", `${host.sandboxes}`],
  `${host.memoryReservedMiB}/${host.memoryCapacityMiB} MiB`,
  age(host.createdAt),
];

const modeCommand = (name: "cordon" | "uncordon", description: string): Command =>
  new Command(name)
    .description(description)
    .argument("<host>", "host id, or its first characters")
    .option("--json", "print the host as JSON")
    .addHelpText("after", `\nExample:\n  wrenn host ${name} host-3k9`)
    .action(async (text: string, { json }: Json) => {
      const client = new Wrenn();
      const host = await client.hosts[name](await resolveHost(client, text));
      if (json) return printJson(host);
      print(`${host.id} ${host.mode}`);
    });

const drainCommand = (): Command =>
  new Command("drain")
    .description("empty a host: its sandboxes move to others, or are paused where no other could resume them")
    .argument("<host>", "host id, or its first characters")
    .option("--json", "print what became of each sandbox as JSON")
    .addHelpText("after", "\nExample:\n  wrenn host drain host-3k9 && wrenn host uncordon host-3k9")
    .action(async (text: string, { json }: Json) => {
      const client = new Wrenn();
      const told = new Set<string>();
      const drain = await client.hosts.drain(await resolveHost(client, text), {
        onProgress: json ? undefined : (now) => tell(now, told),
      });
      if (json) printJson(drain);
      else
        print(`${drain.host} is empty of ${told.size - Object.keys(drain.failed).length} of ${drain.total} sandboxes`);
      const failed = Object.keys(drain.failed).length;
      if (failed > 0)
        throw new Failure(
          `${failed} of ${drain.total} could not leave`,
          "Look at the host's log, then drain it again.",
        );
    });

/** A line for each sandbox that has come to rest since. */
function tell(drain: DrainInfo, told: Set<string>): void {
  const say = (ids: readonly string[], what: (id: string) => string) => {
    for (const id of ids)
      if (!told.has(id)) {
        told.add(id);
        print(`${id} ${what(id)}`);
      }
  };
  say(drain.moved, () => "moved");
  say(drain.hibernated, () => "hibernated");
  say(drain.paused, () => "paused");
  say(Object.keys(drain.failed), (id) => `failed: ${drain.failed[id]}`);
}

/** The host that a person means by an id or its first characters. Throws when there is none, or several. */
async function resolveHost(client: Wrenn, text: string): Promise<string> {
  const ids = (await client.hosts.list()).map(({ id }) => id);
  const found = ids.filter((id) => id === text || id.startsWith(text) || id.startsWith(`host-${text}`));
  if (found.length === 1 || found.includes(text)) return found.includes(text) ? text : found[0]!;
  if (found.length > 1) throw new Failure(`"${text}" may be any of ${found.join(", ")}`, "Give more characters.");
  throw new Failure(`no host ${text}`, "See `wrenn host ls` for those there are.");
}
