import { rest } from "@wrenn/contract";
import { denied4 } from "../drivers/floor.ts";
import { run } from "../drivers/netns/commands.ts";
import { vmmUids } from "../drivers/owner.ts";
import type { Flows, NetPolicy } from "../drivers/ports.ts";
import { hasRewrites, namesIn } from "./policy.ts";
import { flowsIn, noteIn, seenSet } from "./seen.ts";

/** Before the floor, which would see the address that a connection was led to, and after connection tracking. */
const priority = -151;

/** Where a guest's connections and questions for names are led. */
export type GatePorts = { readonly tcp: number; readonly names: number };

/**
 * The policies of guests whose connections this machine opens for their VMMs, as nftables rules: each VMM has a user id
 * of its own. The rules are in the kernel, so they hold while this agent is away; what leads to a gate leads nowhere then.
 */
export class PolicyTable {
  readonly #held = new Set<number>();
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly name: string,
    readonly nameservers: readonly string[],
  ) {}

  /** The table of the agent with this data folder. What a former one put into force stays until it is replaced or swept. */
  static async open(dir: string, nameservers: readonly string[]): Promise<PolicyTable> {
    const digest = new Bun.CryptoHasher("sha256").update(dir).digest("hex").slice(0, 8);
    const table = new PolicyTable(`wrenn_policy_${digest}`, nameservers);
    await table.#nft(table.#base());
    for (const uid of await table.#former()) table.#held.add(uid);
    return table;
  }

  /** Puts a guest's policy in force, in one step. With a gate, what has to be looked into is led there. */
  async put(uid: number, policy: NetPolicy, gate?: GatePorts): Promise<void> {
    await this.#nft(this.#rules(uid, policy, gate));
    this.#held.add(uid);
  }

  /** Whether a policy of this guest is in force. */
  has(uid: number): boolean {
    return this.#held.has(uid);
  }

  /** Forgets a guest. */
  async drop(uid: number): Promise<void> {
    if (!this.#held.delete(uid)) return;
    await this.#nft(this.#removal(uid));
  }

  /** Forgets every guest but those with these ids. */
  async sweep(kept: ReadonlySet<number>): Promise<void> {
    for (const uid of [...this.#held]) if (!kept.has(uid)) await this.drop(uid);
  }

  /** Takes the table away when it holds nothing: no VM is left for which it could count. */
  async close(): Promise<void> {
    if (this.#held.size === 0) await this.#nft(`delete table inet ${this.name}\n`).catch(() => {});
  }

  /** What a guest reached and was refused, without what went through its gate. */
  async flows(uid: number): Promise<Flows> {
    const inSet = (set: string) => flowsIn(["nft"], this.name, `${set}_${uid}`);
    const [allowed, denied] = await Promise.all([inSet("seen"), inSet("denied")]);
    return { allowed, denied };
  }

  /** One change of the table at a time: two at once were seen to be refused by the kernel now and then. */
  #nft(text: string): Promise<unknown> {
    const result = this.#turn.then(() => run(["nft", "-f", "-"], text));
    this.#turn = result.catch(() => {});
    return result;
  }

  /** The ids whose policies stand in the table. */
  async #former(): Promise<number[]> {
    const said = await run(["nft", "list", "map", "inet", this.name, "policies"]);
    return [...said.matchAll(/jump p_(\d+)/g)].map(([, uid]) => Number(uid));
  }

  #base(): string {
    const { first, last } = vmmUids;
    return `
table inet ${this.name} {
  map policies { type uid : verdict; }
  map gates { type uid : verdict; }
  chain output { type filter hook output priority ${priority}; policy accept; }
  chain lead { type nat hook output priority -100; policy accept; }
}
flush chain inet ${this.name} output
flush chain inet ${this.name} lead
table inet ${this.name} {
  chain output {
    meta skuid < ${first} accept
    meta skuid > ${last} accept
    ct direction reply accept
    meta skuid vmap @policies
  }
  chain lead {
    meta skuid vmap @gates
  }
}
`;
  }

  #rules(uid: number, policy: NetPolicy, gate: GatePorts | undefined): string {
    const chains = [`x_${uid}`, `p_${uid}`, `g_${uid}`];
    const table = `inet ${this.name}`;
    return `
table ${table} {
  set seen_${uid} ${seenSet}
  set denied_${uid} ${seenSet}
  ${addressSet(`a_${uid}`, [])}
  ${addressSet(`d_${uid}`, [])}
  ${chains.map((chain) => `chain ${chain} {\n  }`).join("\n  ")}
}
${chains.map((chain) => `flush chain ${table} ${chain}`).join("\n")}
flush set ${table} a_${uid}
flush set ${table} d_${uid}
table ${table} {
  ${addressSet(`a_${uid}`, policy.allow)}
  ${addressSet(`d_${uid}`, policy.deny)}
  chain x_${uid} {
    ${noteIn(`denied_${uid}`)}
    meta l4proto tcp reject with tcp reset
    reject
  }
  chain p_${uid} {
    ${this.#policyRules(uid, policy, gate).join("\n    ")}
  }
  chain g_${uid} {
    ${gate ? gateRules(uid, policy, gate).join("\n    ") : ""}
  }
}
add element ${table} policies { ${uid} : jump p_${uid} }
add element ${table} gates { ${uid} : jump g_${uid} }
`;
  }

  #policyRules(uid: number, policy: NetPolicy, gate: GatePorts | undefined): string[] {
    const see = `ct state new ${noteIn(`seen_${uid}`)}`;
    const servers = this.nameservers.map((ip) => `${ip.includes(":") ? "ip6" : "ip"} daddr ${ip} ${names} accept`);
    return [
      "meta nfproto ipv6 reject", // guests have none; what a VMM that is not itself any more might try
      ...(gate ? [`${names} accept`] : policy.internet ? servers : []),
      `ip daddr { ${denied4} } goto x_${uid}`,
      `fib daddr type local goto x_${uid}`,
      ...(gate && hasRewrites(policy) ? ["tcp dport { 80, 443 } accept"] : []),
      `ip daddr @a_${uid} ${see}`,
      `ip daddr @a_${uid} accept`,
      ...(gate && namesIn(policy).length > 0 ? ["meta l4proto tcp accept"] : []),
      `ip daddr @d_${uid} goto x_${uid}`,
      ...(policy.internet ? [see, "accept"] : [`goto x_${uid}`]),
    ];
  }

  #removal(uid: number): string {
    const table = `inet ${this.name}`;
    const chains = [`p_${uid}`, `g_${uid}`, `x_${uid}`];
    return [
      `delete element ${table} policies { ${uid} }`,
      `delete element ${table} gates { ${uid} }`,
      ...chains.map((chain) => `flush chain ${table} ${chain}`),
      ...chains.map((chain) => `delete chain ${table} ${chain}`),
      ...["seen", "denied", "a", "d"].map((set) => `delete set ${table} ${set}_${uid}`),
      "",
    ].join("\n");
  }
}

const names = "meta l4proto { tcp, udp } th dport 53";

/** Names are the gate's business; what a rewrite is for is looked into on the ports of the web. */
function gateRules(uid: number, policy: NetPolicy, { tcp, names: namePort }: GatePorts): string[] {
  return [
    `${names} redirect to :${namePort}`,
    ...(hasRewrites(policy) ? [`tcp dport { 80, 443 } redirect to :${tcp}`] : []),
    ...(namesIn(policy).length > 0 ? [`ip daddr @a_${uid} return`, `meta l4proto tcp redirect to :${tcp}`] : []),
  ];
}

function addressSet(name: string, rules: readonly string[]): string {
  const addresses = rules.filter((rule) => rest.isAddress(rule) && !rule.includes(":"));
  const elements = addresses.length > 0 ? `elements = { ${addresses.join(", ")} }` : "";
  return `set ${name} { type ipv4_addr; flags interval; auto-merge; ${elements} }`;
}
