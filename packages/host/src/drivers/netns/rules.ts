import { denied4 } from "../floor.ts";
import type { NetPolicy } from "../ports.ts";
import { hostDevicePrefix, linkRange, type Slot, tapNet } from "./addresses.ts";

/** Names, not addresses, among the rules of a policy. */
export const isDomain = (rule: string): boolean => /[a-z]/i.test(rule) && !rule.includes(":");

const addresses = (rules: readonly string[]): string[] => rules.filter((rule) => !isDomain(rule));

const set = (name: string, elements: readonly string[], flags = "interval; auto-merge"): string =>
  `set ${name} { type ipv4_addr; flags ${flags}; ${elements.length > 0 ? `elements = { ${elements.join(", ")} }` : ""} }`;

/** Every sandbox's links on this machine. */
const ours = `"${hostDevicePrefix}*"`;

/**
 * This machine's part, once for all sandboxes: guests reach its name service and nothing else of it, no private range, and
 * not each other; nobody outside opens a connection to a guest. `namePort` is where the agent answers name queries.
 */
export const hostRules = (namePort: number): string => `
table inet wrenn_net
delete table inet wrenn_net
table inet wrenn_net {
  ${set("floor", denied4.split(", "))}
  chain input {
    type filter hook input priority -10; policy accept;
    iifname ${ours} jump from_guests
    iifname != "lo" meta l4proto { tcp, udp } th dport ${namePort} drop
  }
  chain from_guests {
    ct direction reply accept
    ip saddr ${linkRange} meta l4proto { tcp, udp } th dport ${namePort} accept
    reject
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    iifname ${ours} oifname ${ours} reject
    iifname ${ours} ct direction original ip daddr @floor reject
    iifname ${ours} meta nfproto ipv6 reject
    oifname ${ours} ct direction original reject
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    iifname ${ours} ip daddr ${linkRange} meta l4proto { tcp, udp } th dport 53 redirect to :${namePort}
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr ${linkRange} oifname != ${ours} masquerade
  }
}
`;

/**
 * One name space's part: address translation, and the sandbox's own rules. They are looked at for every packet that the
 * guest sends of its own accord, so a change also ends connections that it forbids.
 */
export const netnsRules = ({ hostIp, peerIp, reachIp }: Slot): string => `
table inet wrenn {
  ${set("floor", denied4.split(", "))}
  ${set("allow", [])}
  ${set("deny", [])}
  ${set("pinned", [], "timeout")}
  ${set("unpinned", [], "timeout")}
  chain egress {
    ${egress(openPolicy)}
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname "eth0" oifname "tap0" accept
    iifname "tap0" oifname "eth0" ct direction reply accept
    iifname "tap0" oifname "eth0" ip saddr ${tapNet.ip} ip daddr ${hostIp} meta l4proto { tcp, udp } th dport 53 accept
    iifname "tap0" oifname "eth0" ip saddr ${tapNet.ip} jump egress
  }
  chain input {
    type filter hook input priority 0; policy drop;
    iifname "tap0" ip daddr ${tapNet.gateway} icmp type echo-request accept
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    iifname "eth0" ip daddr ${reachIp} dnat ip to ${tapNet.ip}
    iifname "tap0" ip daddr ${tapNet.gateway} meta l4proto { tcp, udp } th dport 53 dnat ip to ${hostIp}
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    oifname "eth0" ip saddr ${tapNet.ip} snat ip to ${peerIp}
  }
}
`;

/** Everything above the floor. */
export const openPolicy: NetPolicy = { internet: true, allow: [], deny: [] };

/** Puts a policy in force in a name space, in one transaction. */
export const policyRules = (policy: NetPolicy): string => `
flush chain inet wrenn egress
flush set inet wrenn allow
flush set inet wrenn deny
flush set inet wrenn pinned
flush set inet wrenn unpinned
table inet wrenn {
  ${set("allow", addresses(policy.allow))}
  ${set("deny", addresses(policy.deny))}
  chain egress {
    ${egress(policy)}
  }
}
`;

/** The address that a name was answered with is reachable, or not, for as long as the answer holds. */
export const pinRule = (which: "pinned" | "unpinned", ips: readonly string[], seconds: number): string =>
  `add element inet wrenn ${which} { ${ips.map((ip) => `${ip} timeout ${seconds}s`).join(", ")} }\n`;

function egress(policy: NetPolicy): string {
  return [
    "ip daddr @floor reject",
    "ip daddr @allow accept",
    "ip daddr @pinned accept",
    "ip daddr @deny reject",
    "ip daddr @unpinned reject",
    policy.internet ? "accept" : "reject",
  ].join("\n    ");
}
