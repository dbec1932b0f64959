import { BlockList, isIPv6 } from "node:net";
import type { Logger } from "pino";
import { vmmUids } from "./owner.ts";
import { mayActForOthers } from "./privileges.ts";

/**
 * Where no guest may connect: this machine, private networks, link-local addresses (cloud metadata is one), and what
 * routes to no single host (IANA special-purpose address registries).
 */
export const denied4 =
  "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 224.0.0.0/4, 240.0.0.0/4";
const denied6 = "::/127, fc00::/7, fe80::/10, ff00::/8, ::ffff:0:0/96";

const [floor4, floor6] = [denied4, denied6].map((ranges) => {
  const list = new BlockList();
  for (const range of ranges.split(", ")) {
    const [net = "", bits] = range.split("/");
    list.addSubnet(net, Number(bits), isIPv6(net) ? "ipv6" : "ipv4");
  }
  return list;
}) as [BlockList, BlockList];

/**
 * Whether an address lies there: a public name that points to one is an attack (DNS rebinding). A list for each family,
 * since one that holds `::ffff:0:0/96` holds every IPv4 address too.
 */
export const isBelowFloor = (address: string): boolean =>
  isIPv6(address) ? floor6.check(address, "ipv6") : floor4.check(address, "ipv4");

/**
 * The floor under every guest's network, as nftables rules on the user ids of VMMs: QEMU's user networking opens the
 * guest's connections itself. Answers to this machine's own connections pass, and so do questions to its name servers.
 */
const floorRules = (nameservers: readonly string[]): string => `
table inet wrenn_floor
delete table inet wrenn_floor
table inet wrenn_floor {
  chain output {
    type filter hook output priority -150; policy accept; # before a connection is led to a gate, which has another address
    meta skuid ${vmmUids.first}-${vmmUids.last} jump guests
  }
  chain guests {
    ct direction reply accept
    ${nameservers.map((ip) => `${ip.includes(":") ? "ip6" : "ip"} daddr ${ip} meta l4proto { tcp, udp } th dport 53 accept`).join("\n    ")}
    ip daddr { ${denied4} } reject
    ip6 daddr { ${denied6} } reject
    fib daddr type local reject
  }
}
`;

/** Whether guests may open connections to the outside, and why. */
export type Egress = {
  readonly isOpen: boolean;
  /** Whether this agent may set firewall rules, with which it can tell guests apart. */
  readonly hasFirewall: boolean;
  readonly detail: string;
};

/**
 * Puts the floor in place. Without root or nftables it cannot be, and guests get no way out at all; `open`, the
 * operator's word, lets them reach whatever this machine reaches.
 */
export async function layFloor(wish: string | undefined, log: Logger): Promise<Egress> {
  const nft = Bun.which("nft", { PATH: `${process.env.PATH}:/usr/sbin:/sbin` });
  const hasFirewall = mayActForOthers && nft !== null;
  if (wish === "open") return { isOpen: true, hasFirewall, detail: "open: guests reach whatever this machine reaches" };
  const closed = (detail: string): Egress => ({ isOpen: false, hasFirewall: false, detail });
  if (wish === "none") return closed("none: guests reach nothing outside");
  if (!hasFirewall) {
    const why = nft ? "only root can set firewall rules" : "nftables is not installed";
    return closed(`none: ${why}, so guests reach nothing outside; WRENN_EGRESS=open lifts that`);
  }
  const child = Bun.spawn([nft, "-f", "-"], { stdin: new Blob([floorRules(await nameservers())]), stderr: "pipe" });
  const said = (await new Response(child.stderr).text()).trim();
  if ((await child.exited) === 0) return { isOpen: true, hasFirewall, detail: "floor: public addresses only" };
  log.warn({ said }, "no egress floor: guests reach nothing outside");
  return closed("none: nftables refused the floor, so guests reach nothing outside");
}

/** The name servers of this machine. */
export async function nameservers(): Promise<string[]> {
  const text = await Bun.file("/etc/resolv.conf")
    .text()
    .catch(() => "");
  const found = [...text.matchAll(/^nameserver\s+([0-9a-fA-F.:]+)/gm)].map((match) => match[1]!);
  return [...new Set(found)];
}
