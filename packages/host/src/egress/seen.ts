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
  const parts = (JSON.parse(said) as { nftables?: { set?: { elem?: Element[] } }[] }).nftables ?? [];
  const elements = parts.flatMap((part) => part.set?.elem ?? []);
  const now = Date.now();
  const flows = elements.map(({ elem: { val, expires, counter } }): Flow => {
    const [protocol, ip, port] = val.concat;
    const lastAtMs = now - (keptSeconds - expires) * 1_000;
    return { host: "", ip, port, protocol, count: counter?.packets ?? 1, lastAtMs };
  });
  return flows.sort((a, b) => b.lastAtMs - a.lastAtMs);
}

type Element = {
  elem: {
    val: { concat: ["tcp" | "udp", string, number] };
    expires: number;
    counter?: { packets: number };
  };
};
