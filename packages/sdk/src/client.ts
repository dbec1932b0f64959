import type { rest } from "@wrenn/contract";
import { Api, type CallOptions } from "./api.ts";
import { Builds } from "./builds.ts";
import { type EventOptions, follow, type WrennEvent } from "./events.ts";
import { Hosts } from "./hosts.ts";
import { type ListOptions, listPage, type SandboxPage } from "./list.ts";
import { followLoads, type Load } from "./metrics.ts";
import { Snapshots } from "./snapshots.ts";
import { Volumes } from "./volumes.ts";

/** A template a sandbox can start from. */
export type TemplateInfo = {
  name: string;
  kind: "base" | "snapshot";
  vcpus?: number;
  memoryMiB?: number;
  sizeBytes: number;
  createdAt: Date;
};

/**
 * A server and the key to it. Most programs need none: `Sandbox.create()` makes one from the environment.
 *
 * @example
 * ```ts
 * const client = new Wrenn({ baseUrl: "https://wrenn.example.com", apiKey: "wrn_..." });
 * const sandbox = await Sandbox.create({ client, template: "base" });
 * ```
 */
export class Wrenn extends Api {
  /** The team's snapshots. */
  readonly snapshots: Snapshots = new Snapshots(this);
  /** Templates that are built, and their builds. */
  readonly builds: Builds = new Builds(this);
  /** The team's volumes. */
  readonly volumes: Volumes = new Volumes(this);
  /** The machines of the installation. */
  readonly hosts: Hosts = new Hosts(this);

  /** Templates this key may start sandboxes from. */
  async templates(options: CallOptions = {}): Promise<TemplateInfo[]> {
    const found = await this.request<rest.Template[]>("GET", "/v1/snapshots", options);
    return found.map((template) => ({
      name: template.name,
      kind: template.type,
      ...(template.vcpus === undefined ? {} : { vcpus: template.vcpus }),
      ...(template.memory_mb === undefined ? {} : { memoryMiB: template.memory_mb }),
      sizeBytes: template.size_bytes,
      createdAt: new Date(template.created_at),
    }));
  }

  /** Version of the server; throws `host_unavailable` when none answers. Needs no key. */
  async health(options: CallOptions = {}): Promise<{ version: string }> {
    return this.request<{ version: string }>("GET", "/health", { ...options, anonymous: true });
  }

  /**
   * What happens in the team, until the signal ends it; a lost connection is opened again.
   *
   * @example
   * ```ts
   * for await (const event of client.events()) console.log(event.kind, event.resource.id);
   * ```
   */
  events(options: EventOptions = {}): AsyncGenerator<WrennEvent> {
    return follow(this, options);
  }

  /** Loads of up to 100 sandboxes by id: the last five minutes, then what comes, until `signal` aborts. */
  loads(ids: readonly string[], signal: AbortSignal): AsyncGenerator<Map<string, Load[]>, void> {
    return followLoads(this, ids, signal);
  }

  /** A page of the team's sandboxes, newest first; `next` leads to the one after. */
  list(options: ListOptions = {}): Promise<SandboxPage> {
    return listPage(this, options);
  }
}
