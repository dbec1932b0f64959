import type { NetworkPolicy } from "wrenn";

/** How much of the outside a sandbox may reach, as a person chooses it. */
export type NetworkWay = "open" | "none" | "listed" | "except";

/** The ways there are when a sandbox is made. */
export const networkWays: readonly [NetworkWay, string][] = [
  ["open", "the internet"],
  ["listed", "only what is listed"],
  ["none", "nothing outside"],
];

/** Lines of a text box that say something. */
export const linesOf = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));

/** The policy of a way; `text` has a host name, address or range a line. */
export function policyOf(way: NetworkWay, text: string): NetworkPolicy {
  if (way === "listed") return { internet: false, allow: linesOf(text) };
  if (way === "except") return { internet: true, deny: linesOf(text) };
  return { internet: way === "open" };
}

/** Which way a policy is, and the lines of its list. */
export function wayOf({ internet = true, allow = [], deny = [] }: NetworkPolicy): { way: NetworkWay; text: string } {
  if (!internet) return { way: allow.length > 0 ? "listed" : "none", text: allow.join("\n") };
  return { way: deny.length > 0 ? "except" : "open", text: deny.join("\n") };
}
