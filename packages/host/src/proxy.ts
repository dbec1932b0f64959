import { agentPort, headers, isRefusedAgentPath, parseSandboxId, WrennError } from "@wrenn/contract";
import { agentOf } from "./guest-agent.ts";
import type { Sandbox } from "./sandbox.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { type Bridge, connectUpstream } from "./websocket.ts";

/** `/proxy/{sandbox}/{port}/...` */
const route = /^\/proxy\/([^/]+)\/(\d{1,5})(\/.*)?$/;

/** Headers of one connection only (RFC 9110, 7.6.1), and those that are this agent's own. */
const notForwarded = [
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "upgrade",
  "host",
  headers.hostToken,
  headers.asClient,
  headers.guestTls,
];

/** Each look at a port that is not open yet costs an emulated guest some milliseconds. */
const slowestLookMs = 250;

/** Where a request goes, and what it needs on the way. */
type Target = { readonly sandbox: Sandbox; readonly port: number; readonly address: string };

/** The way to the guest is this machine's own; a certificate would prove nothing about it. */
const unverified = { tls: { rejectUnauthorized: false } };
const isTls = (request: Request): boolean => request.headers.has(headers.guestTls);

/** Forwards a request to a sandbox's guest byte for byte, both ways as they come. */
export async function forward(request: Request, sandboxes: Sandboxes): Promise<Response> {
  const { sandbox, port, address } = await target(request, sandboxes);
  const out = new Headers(request.headers);
  for (const name of notForwarded) out.delete(name);
  if (port === agentPort && !request.headers.has(headers.asClient)) out.set(headers.accessToken, sandbox.record.token);
  // A server in the guest makes its absolute links from the name it was called by.
  const calledBy = request.headers.get("x-forwarded-host");
  if (port !== agentPort && calledBy) out.set("host", calledBy);
  const done = activity(sandbox);
  try {
    const answer = await fetch(`${isTls(request) ? "https" : "http"}://${address}`, {
      ...(isTls(request) && unverified),
      method: request.method,
      headers: out,
      body: request.body,
      redirect: "manual",
      decompress: false,
      signal: request.signal,
    });
    if (!answer.body) done();
    const { phase } = sandbox;
    const isCut = () => isUnframed(answer) && sandbox.phase !== phase;
    const body = answer.body && counted(answer.body, done, isCut);
    return new Response(body, { status: answer.status, headers: answer.headers });
  } catch (thrown) {
    done();
    throw unreachable(thrown, port);
  }
}

/** Bridges a WebSocket to a sandbox's guest. `undefined`: the connection is no request any more. */
export async function upgrade(
  request: Request,
  server: Bun.Server<Bridge>,
  sandboxes: Sandboxes,
): Promise<Response | undefined> {
  const { sandbox, port, address } = await target(request, sandboxes);
  const { upstream, early } = await connectUpstream(
    `${isTls(request) ? "wss" : "ws"}://${address}`,
    request,
    isTls(request) ? unverified : {},
  ).catch((thrown) => {
    throw unreachable(thrown, port);
  });
  let end = () => {};
  const begin = () => {
    end = activity(sandbox);
  };
  const protocol = upstream.protocol ? { "sec-websocket-protocol": upstream.protocol } : undefined;
  const data: Bridge = { upstream, early, begin, end: () => end() };
  if (server.upgrade(request, protocol ? { data, headers: protocol } : { data })) return undefined;
  upstream.close();
  throw new WrennError("invalid_request", "the request is not a WebSocket handshake");
}

async function target(request: Request, sandboxes: Sandboxes): Promise<Target> {
  const url = new URL(request.url);
  const [, rawId, rawPort, path = "/"] = route.exec(url.pathname) ?? [];
  const id = parseSandboxId(rawId ?? "");
  const port = Number(rawPort);
  if (!id || port < 1 || port > 65_535)
    throw new WrennError("invalid_request", "the path is not /proxy/{sandbox}/{port}/...");
  if (port === agentPort && isRefusedAgentPath(path)) throw new WrennError("not_found", `no such path: ${path}`);
  const sandbox = sandboxes.find(id);
  return { sandbox, port, address: `${await reach(sandbox, port)}${path}${url.search}` };
}

/** Waits until something listens on a port of the guest. Throws `timeout`, and `invalid_state` when the sandbox stops. */
export async function waitForPort(sandbox: Sandbox, port: number, timeoutMs: number): Promise<void> {
  if (port < 1 || port > 65_535) throw new WrennError("invalid_request", `${port} is no port`);
  const deadline = performance.now() + timeoutMs;
  const done = activity(sandbox);
  try {
    for (let pauseMs = 20; ; pauseMs = Math.min(pauseMs * 2, slowestLookMs)) {
      const { machine, record } = sandbox;
      if (await agentOf(machine).openPort(port, record.token)) return;
      if (performance.now() + pauseMs > deadline)
        throw new WrennError("timeout", `nothing listened on port ${port} within ${timeoutMs / 1000} s`, {
          remedy: "Look at what the server in the sandbox printed, or wait longer.",
          details: { port: String(port) },
        });
      await Bun.sleep(pauseMs);
    }
  } finally {
    done();
  }
}

/** Marks a request under way; what it gives ends that, once. */
function activity(sandbox: Sandbox): () => void {
  sandbox.touch();
  sandbox.activeRequests++;
  return once(() => {
    sandbox.activeRequests--;
    sandbox.touch();
  });
}

/** `host:port` of a port of the guest, opened on first use. Throws `agent_error` when nothing listens there. */
async function reach({ machine, record }: Sandbox, port: number): Promise<string> {
  const { nic, vm } = machine;
  const known = nic.reach(port);
  if (known) return known;
  if (!(await agentOf(machine).openPort(port, record.token))) throw unreachable(undefined, port);
  await vm.forward(port);
  return nic.reach(port)!;
}

function unreachable(thrown: unknown, port: number): WrennError {
  return new WrennError("agent_error", port === agentPort ? "the guest agent did not answer" : "the port is not open", {
    remedy: "The guest may be starting or overloaded; try again.",
    details: { port: String(port) },
    cause: thrown,
  });
}

/** Whether only the end of the connection tells where a body ends (RFC 9112, 6.3): a machine that ended looks the same. */
const isUnframed = ({ headers: given }: Response): boolean =>
  !given.has("content-length") && !given.has("transfer-encoding");

/**
 * The same bytes; calls `done` when they have ended, failed, or nobody wants them any more. What ends when `isCut` says so
 * fails instead.
 */
function counted(body: ReadableStream<Uint8Array>, done: () => void, isCut: () => boolean): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done: ended } = await reader.read();
        if (value) controller.enqueue(value);
        if (ended && isCut()) throw new Error("the sandbox ended before its answer did");
        if (ended) {
          done();
          controller.close();
        }
      } catch (thrown) {
        done();
        controller.error(thrown); // the connection breaks off: a cut answer must not look whole
      }
    },
    async cancel(reason) {
      done();
      await reader.cancel(reason);
    },
  });
}

function once(act: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) act();
    isDone = true;
  };
}
