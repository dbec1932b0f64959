import { headers, WrennError } from "@wrenn/contract";
import { Agent } from "./agent.ts";
import { type Endpoint, resolveEndpoint, type WrennOptions } from "./config.ts";
import { errorOf, isAbort, timedOut, unreachable } from "./errors.ts";

/** What every call may carry. */
export type CallOptions = {
  /** Cancels the call; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds this call may take; 0 means no limit. */
  requestTimeoutMs?: number | undefined;
};

type Request = CallOptions & { body?: unknown; anonymous?: boolean };

const defaultRequestTimeoutMs = 60_000;

/** Methods that can be sent twice without a second effect. */
const idempotent = new Set(["GET", "HEAD", "PUT", "DELETE"]);

const isRepeatable = (init: RequestInit): boolean =>
  idempotent.has(init.method ?? "GET") && !(init.body instanceof ReadableStream);

/** Pauses before each further attempt: long enough for a restarted server to listen again, short enough to wait for. */
const retryDelaysMs = [50, 250];

/** A server's API as requests: signed, limited in time, sent again where that is safe, their failures as errors. */
export class Api {
  readonly options: WrennOptions;
  #endpoint: Promise<Endpoint> | undefined;

  constructor(options: WrennOptions = {}) {
    this.options = options;
  }

  /** Address and key in use, read once from options, environment and profile. */
  endpoint(): Promise<Endpoint> {
    this.#endpoint ??= resolveEndpoint(this.options);
    return this.#endpoint;
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
