import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { filesystem, processes, WrennError } from "@wrenn/contract";
import { errorOf, unreachable } from "./errors.ts";
import { processEvents } from "./event-stream.ts";

type Fetch = (url: string, init?: RequestInit, repeatable?: boolean) => Promise<Response>;

type AgentOptions = { url: string; authorize: () => Record<string, string>; fetch: Fetch };

/** The guest's streams send a sign of life this often, so that no proxy or runtime takes a quiet command for a dead one. */
const keepAliveSeconds = 50;

const streamType = "application/connect+proto";

/** Calls that only read: sent again after a connection error. */
const readOnly = /\/process\.Process\/List$|\/filesystem\.Filesystem\/(Stat|ListDir)$/;

/** The guest agent of one sandbox: Connect for processes and files, plain HTTP for file contents. */
export class Agent {
  readonly processes: Client<typeof processes.Process>;
  readonly filesystem: Client<typeof filesystem.Filesystem>;
  readonly #options: AgentOptions;

  constructor(options: AgentOptions) {
    this.#options = options;
    const transport = createConnectTransport({
      baseUrl: options.url,
      useBinaryFormat: true,
      fetch: ((input: RequestInfo | URL, init?: RequestInit) => this.#send(String(input), init)) as typeof fetch,
    });
    this.processes = createClient(processes.Process, transport);
    this.filesystem = createClient(filesystem.Filesystem, transport);
  }

  /** Headers that make the guest act as `user`; none for the sandbox's default user. */
  as(user: string | undefined): Record<string, string> {
    return user === undefined ? {} : { Authorization: `Basic ${base64(`${user}:`)}` };
  }

  /** Headers of a stream that may be quiet for long. */
  stream(user: string | undefined): Record<string, string> {
    return { ...this.as(user), "Keepalive-Ping-Interval": String(keepAliveSeconds) };
  }

  /** The events of a process, from its start or from now on; `framed` is the request as a Connect envelope. */
  async events(method: "Start" | "Connect", framed: Uint8Array<ArrayBuffer>, init: RequestInit) {
    const sent = new Headers(init.headers);
    sent.set("Content-Type", streamType);
    sent.set("Connect-Protocol-Version", "1");
    const url = `${this.#options.url}/process.Process/${method}`;
    const response = await this.#send(url, { ...init, method: "POST", headers: sent, body: framed });
    if (response.ok && response.body && response.headers.get("Content-Type") === streamType)
      return processEvents(response.body);
    throw response.ok
      ? new WrennError("agent_error", "the guest agent's answer is no stream")
      : await errorOf(response);
  }

  /** One request for the contents of a file; throws WrennError for every answer that is not a success. */
  async file(path: string, user: string | undefined, init: RequestInit): Promise<Response> {
    const query = new URLSearchParams({ path, ...(user === undefined ? {} : { username: user }) });
    const plain = new Headers(init.headers);
    plain.set("Accept-Encoding", "identity"); // compressing costs a guest more time than a fast network saves
    return this.#send(`${this.#options.url}/files?${query}`, { ...init, headers: plain });
  }

  /** An error envelope of a server between us and the guest becomes a WrennError; the guest's Connect errors pass. */
  async #send(url: string, init: RequestInit = {}): Promise<Response> {
    const withKey = new Headers(init.headers);
    for (const [name, value] of Object.entries(this.#options.authorize())) withKey.set(name, value);
    let response: Response;
    try {
      response = await this.#options.fetch(url, { ...init, headers: withKey }, readOnly.test(url) || undefined);
    } catch (thrown) {
      if (init.signal?.aborted) throw thrown;
      throw unreachable(new URL(url).origin, thrown);
    }
    if (response.ok) return response;
    if (withKey.has("Connect-Protocol-Version") && !(await isEnvelope(response.clone()))) return response;
    throw await errorOf(response);
  }
}

const base64 = (text: string): string => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

async function isEnvelope(response: Response): Promise<boolean> {
  const body = (await response.json().catch(() => undefined)) as { error?: unknown } | undefined;
  return typeof body?.error === "object";
}
