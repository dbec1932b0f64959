import { headers, type hostagent, WrennError } from "@wrenn/contract";
import { type Host, hostError } from "./host.ts";

/** Templates change when an operator builds one; a create must not cost a second call for them each time. */
const templatesMs = 5_000;
const quickMs = 10_000;

/** Options of a host call. */
export type CallOptions = { timeoutMs: number; headers: Record<string, string> };

/** The hosts this control plane knows, and which of them takes a new sandbox. */
export class Fleet {
  readonly #hosts: Map<string, Host>;
  readonly #templates = new Map<string, { list: hostagent.Template[]; until: number }>();

  constructor(hosts: readonly Host[]) {
    this.#hosts = new Map(hosts.map((host) => [host.id, host]));
  }

  /** The host with this id. Throws `host_unavailable` when it is none of ours. */
  host(id: string): Host {
    const host = this.#hosts.get(id);
    if (host) return host;
    throw new WrennError("host_unavailable", "The sandbox is on a host that this control plane does not know.", {
      remedy: "Set CP_HOST_AGENT_ADDR to the address that host had.",
      details: { host: id },
    });
  }

  /** The host for a new sandbox. */
  place(): Host {
    for (const host of this.#hosts.values()) return host;
    throw new WrennError("no_hosts_available", "There is no host.", { remedy: "Start wrenn-agent on a machine." });
  }

  /** Deadline and request id of a call made for `caller`. */
  options(caller: { readonly requestId: string }, timeoutMs: number): CallOptions {
    return { timeoutMs, headers: { [headers.requestId]: caller.requestId } };
  }

  /** The templates of a host, at most a few seconds old. */
  async templates(host: Host, fresh = false): Promise<hostagent.Template[]> {
    const known = this.#templates.get(host.id);
    if (!fresh && known && known.until > Date.now()) return known.list;
    try {
      const { templates } = await host.rpc.getHost({}, { timeoutMs: quickMs });
      this.#templates.set(host.id, { list: templates, until: Date.now() + templatesMs });
      return templates;
    } catch (thrown) {
      throw hostError(thrown);
    }
  }

  /** Throws `not_found` when the host has no such template. */
  async needTemplate(host: Host, name: string): Promise<void> {
    const has = (list: readonly hostagent.Template[]) => list.some((template) => template.name === name);
    if (has(await this.templates(host))) return;
    const list = await this.templates(host, true);
    if (has(list)) return;
    const names = list.map((template) => template.name).join(", ");
    throw new WrennError("not_found", `There is no template "${name}".`, {
      remedy: names ? `Use one of: ${names}.` : "Build the usual ones with `make images`.",
      details: { template: name },
    });
  }
}
