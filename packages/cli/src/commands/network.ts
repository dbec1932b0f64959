import { Command } from "commander";
import { type NetworkFlow, type NetworkInfo, type NetworkPolicy, Sandbox, Wrenn } from "wrenn";
import { resolveId } from "../ids.ts";
import { type Json, list, networkHeader } from "../options.ts";
import { age, bytes, paint, print, printable, printJson, table, usage } from "../output.ts";

/** What the command line says of a policy. */
export type NetworkFlags = {
  internet?: boolean;
  allow?: string[];
  deny?: string[];
  header?: NonNullable<NetworkPolicy["headers"]>;
};

const help = `
Examples:
  wrenn network cl-3k9                                             # what it may reach, reached, and was refused
  wrenn network cl-3k9 --no-internet                               # nothing outside
  wrenn network cl-3k9 --no-internet --allow pypi.org --allow '*.pythonhosted.org'
  wrenn network cl-3k9 --deny 203.0.113.0/24                       # everything but
  wrenn network cl-3k9 --header 'api.test=authorization: Bearer \${secrets.key}'
  wrenn network cl-3k9 --open                                      # no rules of its own`;

/** `wrenn network`. */
export const networkCommand = (): Command =>
  networkOptions(
    new Command("network")
      .description("show or replace what a sandbox may reach, at once while it runs")
      .argument("<id>", "sandbox id, or its first characters"),
  )
    .option("--open", "take every rule away")
    .option("--json", "print JSON")
    .addHelpText("after", help)
    .action(async (text: string, flags: NetworkFlags & Json & { open?: boolean }) => {
      const client = new Wrenn();
      const policy = flags.open ? {} : policyOf(flags);
      if (flags.open && policyOf(flags)) throw usage("--open takes every rule away", "Give it without other rules.");
      const id = await resolveId(client, text);
      const info = policy ? await Sandbox.setNetwork(id, policy, { client }) : await Sandbox.network(id, { client });
      if (flags.json) return printJson(info);
      show(info);
    });

/** Adds the options with which a policy is written. */
export const networkOptions = (command: Command): Command =>
  command
    .option("--no-internet", "let it reach only what --allow names")
    .option("--allow <what>", "an address, a range, or with --no-internet a host name; repeatable", list)
    .option("--deny <what>", "an address or a range that it may not reach; repeatable", list)
    .option("--header <host=name: value>", "a header that requests to a host get; repeatable", networkHeader);

/** The policy that a command line describes, `undefined` when it says nothing of one. */
export function policyOf({ internet, allow, deny, header }: NetworkFlags): NetworkPolicy | undefined {
  if (internet !== false && !allow && !deny && !header) return undefined;
  return { internet: internet !== false, allow, deny, headers: header };
}

function show({ policy, detail, connections, denials }: NetworkInfo): void {
  const line = (name: string, text: string) => print(`${paint("dim", name.padEnd(9))} ${printable(text)}`);
  line("internet", policy.internet ? "yes" : "only what is allowed");
  if (policy.allow.length > 0) line("allow", policy.allow.join(", "));
  if (policy.deny.length > 0) line("deny", policy.deny.join(", "));
  for (const [host, set] of Object.entries(policy.headers)) line("headers", `${host}: ${Object.keys(set).join(", ")}`);
  if (detail) line("held by", detail);
  for (const [title, flows] of [
    ["REACHED", connections],
    ["REFUSED", denials],
  ] as const)
    if (flows.length > 0) print(`\n${table([title, "PORT", "TIMES", "SENT", "RECEIVED", "LAST"], flows.map(row))}`);
}

const row = ({ host, ip, port, protocol, count, sentBytes, receivedBytes, lastAt }: NetworkFlow): string[] => [
  host ?? ip ?? "",
  `${port}/${protocol}`,
  `${count}`,
  sentBytes === undefined ? "-" : bytes(sentBytes),
  receivedBytes === undefined ? "-" : bytes(receivedBytes),
  age(lastAt),
];
