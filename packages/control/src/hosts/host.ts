import { type Client, Code as ConnectCode, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { fromConnectError, headers, hostagent, proxyPath, type SandboxId, WrennError } from "@wrenn/contract";
import type { TemplateFacts } from "@wrenn/contract/template-file";
import { called, inTrace } from "@wrenn/contract/tracing";

/** What Bun's `fetch` takes beyond the standard. */
export type FetchInit = RequestInit & { decompress?: boolean; timeout?: boolean; duplex?: "half" };

/** What both sides of a connection to a registered host show each other; read anew for every connection. */
export type Trust = () => {
  cert: string;
  key: string;
  ca: string;
  /** Answers an error for a certificate that is not the host's own. */
  checkServerIdentity(name: string, certificate: { fingerprint256: string }): Error | undefined;
};

/**
 * How a host is reached: its address, the secret its agent asks for, the mutual TLS of one that registered, and whether
 * one that dials in has a line to this replica.
 */
export type Way = { address: string; token: string; trust?: Trust; isHere?: () => boolean };

/** A port of a guest; `agentPort` is its agent. */
export type GuestPort = { readonly sandbox: SandboxId; readonly port: number };

/** One machine that runs sandboxes, over its agent's listener. Connections are kept alive by `fetch`'s own pool. */
export type Host = {
  readonly id: string;
  readonly address: string;
  /** Whether it can be connected to from here; only a host that dials in knows that it cannot. */
  isHere(): boolean;
  readonly rpc: Client<typeof hostagent.HostAgentService>;
  /** A request to a port of a guest; `path` begins with `/`. Throws `host_unavailable`. */
  guest(target: GuestPort, path: string, init: FetchInit): Promise<Response>;
  /** Sends the archive of an image, which `importImage` then names by its SHA-256. */
  archive(sha256: string, body: ReadableStream<Uint8Array>): Promise<Response>;
  /** The disk of a snapshot as an OCI artifact that says `facts` of itself. Throws what the host throws. */
  export(snapshot: string, facts: TemplateFacts, signal: AbortSignal): Promise<ReadableStream<Uint8Array>>;
  /** A request about a volume of this host; `path` is its id, or one of its parts. */
  volume(path: string, init: FetchInit): Promise<Response>;
  /** A WebSocket to a port of a guest, not yet open. */
  socket(target: GuestPort, path: string, init: { headers: Headers; protocols: string[] }): WebSocket;
};

/** Opens a host; nothing is sent before the first call. */
export function connectHost(id: string, { address, token, trust, isHere = () => true }: Way): Host {
  const tls = () => (trust ? { tls: trust() } : {});
  const auth: Interceptor = (next) => (request) => {
    request.header.set(headers.hostToken, token);
    if (request.stream) return next(request); // a stream lasts as long as the host does
    const facts = { "rpc.system": "connect_rpc", "rpc.method": request.method.name, "wrenn.host": id };
    return called(request.header, `host ${request.method.name}`, facts, () => next(request));
  };
  const reach = (url: string, init?: FetchInit) => reachable(address, url, { ...init, ...tls() });
  const transport = createConnectTransport({
    baseUrl: address,
    useBinaryFormat: true,
    interceptors: [auth],
    fetch: ((input: string, init?: RequestInit) => reach(String(input), init)) as typeof fetch,
  });
  return {
    id,
    address,
    isHere,
    rpc: createClient(hostagent.HostAgentService, transport),
    guest({ sandbox, port }, path, init) {
      const sent = new Headers(init.headers);
      sent.set(headers.hostToken, token);
      inTrace(sent);
      return reach(address + proxyPath(sandbox, port) + path, { ...init, headers: sent });
    },
    archive: (sha256, body) =>
      reach(`${address}/images/archives/${sha256}`, {
        ...{ method: "PUT", headers: { [headers.hostToken]: token }, body, duplex: "half" },
      }),
    async export(snapshot, facts, signal) {
      const sent = { [headers.hostToken]: token, "content-type": "application/json" };
      const init = { method: "POST", headers: sent, body: JSON.stringify(facts), signal };
      const response = await reach(`${address}/images/exports/${snapshot}`, init);
      if (response.ok) return response.body!;
      throw (
        WrennError.fromBody(await response.json().catch(() => null)) ?? new WrennError("agent_error", exportRefused)
      );
    },
    volume(path, init) {
      const sent = new Headers(init.headers);
      sent.set(headers.hostToken, token);
      return reach(`${address}/volumes/${path}`, { ...init, headers: sent });
    },
    socket({ sandbox, port }, path, init) {
      init.headers.set(headers.hostToken, token);
      // Bun takes options where browsers, whose types are in force here, take protocols.
      const sent = { protocols: init.protocols, headers: Object.fromEntries(init.headers), ...tls() };
      const options = sent as unknown as string[];
      return new WebSocket(address.replace(/^http/, "ws") + proxyPath(sandbox, port) + path, options);
    },
  };
}

const exportRefused = "the host did not give the template away";

/** `fetch` without a time limit of its own, whose connection failures are a Connect `unavailable`. */
async function reachable(address: string, url: string, init?: FetchInit): Promise<Response> {
  try {
    return await fetch(url, { ...init, redirect: "manual", timeout: false } as RequestInit);
  } catch (thrown) {
    if (init?.signal?.aborted) throw thrown;
    throw new ConnectError(
      `The host agent at ${address} cannot be reached.`,
      ConnectCode.Unavailable,
      undefined,
      undefined,
      thrown,
    );
  }
}

const remedies = {
  host_unavailable:
    "Check that wrenn-agent runs there and that its address is right (`GET /v1/hosts`), then try again.",
  timeout: "Try again; if it repeats, look at the host's load and at the host agent's log.",
  agent_error: "Look at the host agent's log for this request's id.",
} as const;

/** A failed call to a host as the error a client is given; connections that broke on the way are `host_unavailable`. */
export function hostError(thrown: unknown): WrennError {
  const broken = thrown instanceof WrennError ? undefined : ConnectError.from(thrown).cause;
  const error =
    fromConnectError(thrown).code === "agent_error" && isSystemError(broken)
      ? new WrennError("host_unavailable", "The connection to the host broke.", { cause: thrown })
      : fromConnectError(thrown);
  const remedy = error.remedy ?? (remedies as Partial<Record<string, string>>)[error.code];
  return new WrennError(error.code, error.message, { remedy, details: error.details, cause: thrown });
}

/** Bun's network failures carry the system's name of the error as a text `code`. */
const isSystemError = (thrown: unknown): boolean => typeof (thrown as { code?: unknown } | null)?.code === "string";
