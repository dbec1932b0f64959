import { BlockList, isIPv4, isIPv6 } from "node:net";
import { networkInterfaces } from "node:os";
import { rest } from "@wrenn/contract";
import { isBelowFloor } from "../drivers/floor.ts";
import type { NetPolicy } from "../drivers/ports.ts";

/** Whether an address lies where no guest may connect: below the floor, or this machine's own. */
export function isForbidden(ip: string): boolean {
  if (!isIPv4(ip) || isBelowFloor(ip)) return true;
  return Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === ip));
}

/** Where a connection goes, as far as its first bytes tell. */
export type Destination = { readonly ip: string; readonly name: string | undefined };

/** What becomes of a connection: `name` is asked of the resolver, an `address` is taken as the guest gave it. */
export type Decision = "name" | "address" | "denied";

/** A policy, ready to decide about connections. */
export class Judge {
  readonly #allow = new BlockList();
  readonly #deny = new BlockList();
  readonly #names: readonly string[];
  readonly #rewrites: readonly string[];

  constructor(readonly policy: NetPolicy) {
    for (const rule of policy.allow.filter(rest.isAddress)) add(this.#allow, rule);
    for (const rule of policy.deny.filter(rest.isAddress)) add(this.#deny, rule);
    this.#names = namesIn(policy);
    this.#rewrites = Object.keys(policy.rewrites ?? {});
  }

  /** What becomes of a connection. A name that is allowed or rewritten counts for more than the address that came with it. */
  decide({ ip, name }: Destination): Decision {
    if (isForbidden(ip)) return "denied";
    if (name !== undefined && (this.allowsName(name) || this.rewrites(name))) return "name";
    return this.allowsAddress(ip) ? "address" : "denied";
  }

  /** Whether a connection to this name may end at an address that the name has. */
  mayEndAt({ ip, name }: Destination): boolean {
    if (isForbidden(ip)) return false;
    return (name !== undefined && this.allowsName(name)) || this.allowsAddress(ip);
  }

  /** Whether the guest may ask for this name: with the outside closed, only for those it may reach. */
  mayAsk(name: string): boolean {
    return this.policy.internet || this.allowsName(name) || this.rewrites(name);
  }

  allowsName(name: string): boolean {
    return this.#names.some((rule) => rest.namesHost(rule, name));
  }

  /** Whether requests to this name are changed on their way. */
  rewrites(name: string): boolean {
    return this.#rewrites.some((rule) => rest.namesHost(rule, name));
  }

  /** The headers that requests to this name get. A later rule's win. */
  headersFor(name: string): Record<string, string> {
    const fitting = this.#rewrites.filter((rule) => rest.namesHost(rule, name));
    return Object.assign({}, ...fitting.map((rule) => this.policy.rewrites![rule]!));
  }

  allowsAddress(ip: string): boolean {
    if (this.#allow.check(ip, "ipv4")) return true;
    return this.policy.internet && !this.#deny.check(ip, "ipv4");
  }
}

/** The names that a policy allows. */
export const namesIn = ({ allow }: NetPolicy): string[] => allow.filter((rule) => !rest.isAddress(rule));

/** Whether requests to some hosts are changed. */
export const hasRewrites = ({ rewrites }: NetPolicy): boolean => Object.keys(rewrites ?? {}).length > 0;

/** Whether connections must be looked into: by name, or to change them. */
export const needsGate = (policy: NetPolicy): boolean => namesIn(policy).length > 0 || hasRewrites(policy);

function add(list: BlockList, rule: string): void {
  const [address = "", bits] = rule.split("/");
  const family = isIPv6(address) ? "ipv6" : "ipv4";
  list.addSubnet(address, Number(bits ?? (family === "ipv6" ? 128 : 32)), family);
}
