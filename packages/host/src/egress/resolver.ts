import { promises as dns } from "node:dns";
import { isIPv4 } from "node:net";

/** Resolvers answer within a second or not at all. */
const timeoutMs = 4_000;
/** An answer is taken again for this long: connections of one page come together, and addresses do change. */
const keptMs = 10_000;
const most = 10_000;

/** Asks this machine's name servers for the addresses of hosts that guests name. */
export class Resolver {
  readonly #resolver = new dns.Resolver({ timeout: timeoutMs, tries: 2 });
  readonly #known = new Map<string, { addresses: Promise<string[]>; until: number }>();

  constructor(readonly nameservers: readonly string[]) {
    const usable = nameservers.filter(isIPv4);
    if (usable.length > 0) this.#resolver.setServers(usable);
  }

  /** The IPv4 addresses of a name; none when it has none, or nobody answers. */
  addresses(name: string): Promise<string[]> {
    const known = this.#known.get(name);
    if (known && known.until > Date.now()) return known.addresses;
    if (this.#known.size >= most) this.#known.clear();
    const addresses = this.#resolver.resolve4(name).catch(() => []);
    this.#known.set(name, { addresses, until: Date.now() + keptMs });
    return addresses;
  }
}
