import { rest } from "@wrenn/contract";
import { hasRewrites, namesIn } from "../../egress/policy.ts";
import { noteIn, seenSet } from "../../egress/seen.ts";
import { denied4 } from "../floor.ts";
import type { NetPolicy } from "../ports.ts";
import { hostDevicePrefix, linkRange, type Slot, tapNet } from "./addresses.ts";

/** The table of a name space, and its sets of what the guest reached and was refused. */
export const netnsTable = "wrenn";
export const noted = { allowed: "seen", denied: "denied" } as const;

/** What notes are kept in. Declared with every policy: a name space that an older agent made has none yet. */
const notes = `set ${noted.allowed} ${seenSet}
  set ${noted.denied} ${seenSet}`;

/** Guests have no IPv6. */
const addresses = (rules: readonly string[]): string[] =>
  rules.filter((rule) => rest.isAddress(rule) && !rule.includes(":"));

const set = (name: string, elements: readonly string[]): string =>
  `set ${name} { type ipv4_addr; flags interval; auto-merge; ${elements.length > 0 ? `elements = { ${elements.join(", ")} }` : ""} }`;

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
  ${notes}
  chain refused {
    ${refused}
  }
  chain egress {
    ${egress(openPolicy)}
  }
  chain lead {
  }
  chain led {
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
    iifname "tap0" ct status dnat jump led
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    iifname "eth0" ip daddr ${reachIp} dnat ip to ${tapNet.ip}
    iifname "tap0" ip daddr ${tapNet.gateway} meta l4proto { tcp, udp } th dport 53 dnat ip to ${hostIp}
    iifname "tap0" ip saddr ${tapNet.ip} ip daddr != ${tapNet.gateway} meta l4proto tcp jump lead
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    oifname "eth0" ip saddr ${tapNet.ip} snat ip to ${peerIp}
  }
}
`;

/** Everything above the floor. */
export const openPolicy: NetPolicy = { internet: true, allow: [], deny: [] };

/**
 * Puts a policy in force in a name space, in one transaction. With a gate, which listens on a port of the name space, what
 * has to be looked into is led there; while nobody listens there, it leads nowhere.
 */
export const policyRules = (policy: NetPolicy, gatePort?: number): string => `
table inet wrenn {
  ${notes}
  chain refused {
  }
}
flush chain inet wrenn refused
flush chain inet wrenn egress
flush chain inet wrenn lead
flush chain inet wrenn led
flush set inet wrenn allow
flush set inet wrenn deny
table inet wrenn {
  ${set("allow", addresses(policy.allow))}
  ${set("deny", addresses(policy.deny))}
  chain refused {
    ${refused}
  }
  chain egress {
    ${egress(policy)}
  }
  chain lead {
    ${gatePort === undefined ? "" : lead(policy, gatePort)}
  }
  chain led {
    ${gatePort === undefined ? "" : `tcp dport ${gatePort} accept`}
  }
}
`;

const refused = [noteIn(noted.denied), "reject"].join("\n    ");

function egress(policy: NetPolicy): string {
  const see = `ct state new ${noteIn(noted.allowed)}`;
  return [
    "ip daddr @floor goto refused",
    `ip daddr @allow ${see}`,
    "ip daddr @allow accept",
    "ip daddr @deny goto refused",
    ...(policy.internet ? [see, "accept"] : ["goto refused"]),
  ].join("\n    ");
}

/** What a rewrite is for is looked into on the ports of the web; names are the gate's business on any. */
function lead(policy: NetPolicy, gatePort: number): string {
  return [
    ...(hasRewrites(policy) ? [`tcp dport { 80, 443 } redirect to :${gatePort}`] : []),
    ...(namesIn(policy).length > 0 ? ["ip daddr @allow return", `meta l4proto tcp redirect to :${gatePort}`] : []),
  ].join("\n    ");
}
