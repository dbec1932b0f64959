import type { Flow } from "../drivers/ports.ts";

/** A flow that is still counted. */
export type Tally = { -readonly [K in keyof Flow]: Flow[K] };

/** Of each kind, the newest so many are kept: a guest that tries every address must not fill memory. */
const most = 256;

/** What a sandbox reached and what it was refused, as its gate saw it. */
export class Ledger {
  readonly #allowed = new Map<string, Tally>();
  readonly #denied = new Map<string, Tally>();

  /** Counts a connection that was let through; its bytes are added to what this gives. */
  allowed(to: Pick<Flow, "host" | "ip" | "port">): Tally {
    const flow = count(this.#allowed, to);
    flow.sentBytes ??= 0;
    flow.receivedBytes ??= 0;
    return flow;
  }

  /** Counts one that was not. */
  denied(to: Pick<Flow, "host" | "ip" | "port">, protocol: Flow["protocol"] = "tcp"): void {
    count(this.#denied, to).protocol = protocol;
  }

  /** Both, the newest first. */
  get flows(): { allowed: Flow[]; denied: Flow[] } {
    const newest = (map: Map<string, Tally>) => [...map.values()].reverse();
    return { allowed: newest(this.#allowed), denied: newest(this.#denied) };
  }
}

function count(map: Map<string, Tally>, { host, ip, port }: Pick<Flow, "host" | "ip" | "port">): Tally {
  const key = host ? `${host}:${port}` : `${ip}:${port}`; // a name's addresses change, and are one host to its user
  const known = map.get(key) ?? { host, ip, port, protocol: "tcp" as const, count: 0, lastAtMs: 0 };
  map.delete(key); // the newest stand last
  if (map.size >= most) map.delete(map.keys().next().value!);
  map.set(key, known);
  return Object.assign(known, { ip, count: known.count + 1, lastAtMs: Date.now() });
}
