import { headers, type rest, WrennError } from "@wrenn/contract";
import { Agent } from "./agent.ts";
import { Builds } from "./builds.ts";
import { type Endpoint, resolveEndpoint, type WrennOptions } from "./config.ts";
import { errorOf, isAbort, timedOut, unreachable } from "./errors.ts";
import { type EventOptions, follow, type WrennEvent } from "./events.ts";
import { Hosts } from "./hosts.ts";
import { type ListOptions, listPage, type SandboxPage } from "./list.ts";
import { followLoads, type Load } from "./metrics.ts";
import { Snapshots } from "./snapshots.ts";
import { Volumes } from "./volumes.ts";

/** What every call may carry. */
export type CallOptions = {
  /** Cancels the call; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds this call may take; 0 means no limit. */
  requestTimeoutMs?: number | undefined;
};

/** A template a sandbox can start from. */
export type TemplateInfo = {
  name: string;
  kind: "base" | "snapshot";
  vcpus?: number;
  memoryMiB?: number;
  sizeBytes: number;
  createdAt: Date;
};

type Request = CallOptions & { body?: unknown; anonymous?: boolean };

const defaultRequestTimeoutMs = 60_000;

/** Methods that can be sent twice without a second effect. */
const idempotent = new Set(["GET", "HEAD", "PUT", "DELETE"]);

const isRepeatable = (init: RequestInit): boolean =>
  idempotent.has(init.method ?? "GET") && !(init.body instanceof ReadableStream);

/** Pauses before each further attempt: long enough for a restarted server to listen again, short enough to wait for. */
const retryDelaysMs = [50, 250];

/**
 * A server and the key to it. Most programs need none: `Sandbox.create()` makes one from the environment.
 *
 * @example
 * ```ts
 * const client = new Wrenn({ baseUrl: "https://wrenn.example.com", apiKey: "wrn_..." });
 * const sandbox = await Sandbox.create({ client, template: "base" });
 * ```
 */
export class Wrenn {
  readonly options: WrennOptions;
  /** The team's snapshots. */
  readonly snapshots: Snapshots = new Snapshots(this);
  /** Templates that are built, and their builds. */
  readonly builds: Builds = new Builds(this);
  /** The team's volumes. */
  readonly volumes: Volumes = new Volumes(this);
  /** The machines of the installation. */
  readonly hosts: Hosts = new Hosts(this);
  #endpoint: Promise<Endpoint> | undefined;

  constructor(options: WrennOptions = {}) {
    this.options = options;
  }

  /** Address and key in use, read once from options, environment and profile. */
  endpoint(): Promise<Endpoint> {
    this.#endpoint ??= resolveEndpoint(this.options);
    return this.#endpoint;
  }

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

  /** The guest agent of one sandbox, behind the server. */
  async agent(sandboxId: string): Promise<Agent> {
    const endpoint = await this.endpoint();
    return new Agent({
      url: `${endpoint.baseUrl}/v1/capsules/${sandboxId}/agent`,
      authorize: () => this.#authorization(endpoint),
      fetch: this.fetch,
    });
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

  /** One request as it is, signed; any answer is given, whatever its status. For streams and downloads. */
  async send(path: string, init: RequestInit = {}): Promise<Response> {
    const endpoint = await this.endpoint();
    const signed = new Headers(init.headers);
    for (const [name, value] of Object.entries(this.#authorization(endpoint))) signed.set(name, value);
    return this.fetch(endpoint.baseUrl + path, { ...init, headers: signed });
  }

  #authorization(endpoint: Endpoint): Record<string, string> {
    return this.options.authorize?.() ?? { [headers.apiKey]: keyOf(endpoint) };
  }

  /** One REST request; the answer's JSON, or `undefined` when it has no body. Throws WrennError. */
  async request<T>(method: string, path: string, options: Request = {}): Promise<T> {
    return (await this.answer<T>(method, path, options)).value;
  }

  /** As {@link request}, with the answer's headers. */
  async answer<T>(method: string, path: string, options: Request = {}): Promise<{ value: T; headers: Headers }> {
    const { body, signal, requestTimeoutMs, anonymous } = options;
    const endpoint = await this.endpoint();
    const { baseUrl } = endpoint;
    const limit = requestTimeoutMs ?? this.options.requestTimeoutMs ?? defaultRequestTimeoutMs;
    const init: RequestInit = {
      method,
      headers: {
        ...(anonymous ? {} : this.#authorization(endpoint)),
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...withLimit(signal, limit),
    };
    try {
      const response = await this.fetch(baseUrl + path, init);
      if (!response.ok) throw await errorOf(response);
      const text = await response.text();
      return { value: (text === "" ? undefined : JSON.parse(text)) as T, headers: response.headers };
    } catch (thrown) {
      if (thrown instanceof WrennError) throw thrown;
      if (signal?.aborted) throw signal.reason;
      if (isAbort(thrown)) throw timedOut(`${method} ${path}`, limit, thrown);
      throw unreachable(baseUrl, thrown);
    }
  }

  /** The runtime's `fetch`, with new attempts after connection errors where a second request has no second effect. */
  readonly fetch = async (url: string, init: RequestInit = {}, repeatable = isRepeatable(init)): Promise<Response> => {
    const send = this.options.fetch ?? globalThis.fetch;
    for (const delay of repeatable ? retryDelaysMs : [])
      try {
        return await send(url, init);
      } catch (thrown) {
        if (init.signal?.aborted || isAbort(thrown)) throw thrown;
        await new Promise((resolve) => setTimeout(resolve, delay));
      }
    return send(url, init);
  };
}

/** The signal of a call that ends with the caller's signal or after `limitMs`, whichever is first; 0 means no limit. */
export function withLimit(signal: AbortSignal | undefined, limitMs: number): { signal?: AbortSignal } {
  if (limitMs === 0) return signal ? { signal } : {};
  const limit = AbortSignal.timeout(limitMs);
  return { signal: signal ? AbortSignal.any([signal, limit]) : limit };
}

function keyOf({ baseUrl, apiKey }: Endpoint): string {
  if (apiKey) return apiKey;
  throw new WrennError("unauthorized", `no API key for ${baseUrl}`, {
    remedy: "Set WRENN_API_KEY, pass `apiKey`, or start a server on this machine with `wrenn up`.",
  });
}
