import { run } from "../drivers/netns/commands.ts";
import type { Flow } from "../drivers/ports.ts";

/** Of a guest, so many destinations are kept, for so long. */
const mostFlows = 512;
const keptSeconds = 3_600;

/** What a set of nftables is declared as that notes down where packets went: the kernel keeps it, and forgets by itself. */
export const seenSet = `{ type inet_proto . ipv4_addr . inet_service; flags dynamic,timeout; size ${mostFlows}; timeout ${keptSeconds}s; counter; }`;

/** The statement of a rule that notes a packet's destination down in such a set. */
export const noteIn = (set: string): string =>
  `meta l4proto { tcp, udp } update @${set} { meta l4proto . ip daddr . th dport }`;

/** The flows in such a set, the newest first. `nft` is the program with what stands before it; a set that is not there is empty. */
export async function flowsIn(nft: readonly string[], table: string, set: string): Promise<Flow[]> {
  const said = await run([...nft, "-j", "list", "set", "inet", table, set]).catch(() => "{}");
  return flowsOf(said);
}

/** The flows of what `nft -j list set` says. */
export function flowsOf(said: string): Flow[] {
  const parts = (JSON.parse(said) as { nftables?: { set?: { elem?: Element[] } }[] }).nftables ?? [];
  const elements = parts.flatMap((part) => part.set?.elem ?? []);
  const now = Date.now();
  const flows = elements.map(({ elem: { val, expires, counter } }): Flow => {
    const [protocol, ip, port] = val.concat;
    const lastAtMs = now - (keptSeconds - expires) * 1_000;
    return { host: "", ip, port, protocol: named[protocol] ?? "tcp", count: counter?.packets ?? 1, lastAtMs };
  });
  return flows.sort((a, b) => b.lastAtMs - a.lastAtMs);
}

/** Where there is no /etc/protocols, nft gives their numbers. */
const named: Readonly<Record<string | number, Flow["protocol"]>> = { tcp: "tcp", udp: "udp", 6: "tcp", 17: "udp" };

type Element = {
  elem: {
    val: { concat: [protocol: string | number, ip: string, port: number] };
    expires: number;
    counter?: { packets: number };
  };
};
