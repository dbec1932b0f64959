import { agentPort, headers, parseSandboxId, WrennError } from "@wrenn/contract";
import { agentOf } from "./machine.ts";
import type { Sandbox } from "./sandbox.ts";
import type { Sandboxes } from "./sandboxes.ts";

/** `/proxy/{sandbox}/{port}/...` */
const route = /^\/proxy\/([^/]+)\/(\d{1,5})(\/.*)?$/;

/** Paths of the guest agent that only the host itself may call: they change a sandbox's identity or stop its files. */
const hostOnly = /^\/(init|freeze|unfreeze|fsfreeze|fsthaw|collapse|snapshot(\/.*)?)\/?$/;

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
];

/** Forwards a request to a sandbox's guest byte for byte, both ways as they come. */
export async function forward(request: Request, sandboxes: Sandboxes): Promise<Response> {
  const url = new URL(request.url);
  const [, rawId, rawPort, path = "/"] = route.exec(url.pathname) ?? [];
  const id = parseSandboxId(rawId ?? "");
  const port = Number(rawPort);
  if (!id || port < 1 || port > 65_535)
    throw new WrennError("invalid_request", "the path is not /proxy/{sandbox}/{port}/...");
  if (port === agentPort && hostOnly.test(plain(path))) throw new WrennError("not_found", `no such path: ${path}`);
  const sandbox = sandboxes.find(id);
  const target = `http://${await reach(sandbox, port)}${path}${url.search}`;

  const out = new Headers(request.headers);
  for (const name of notForwarded) out.delete(name);
  if (port === agentPort) out.set(headers.accessToken, sandbox.record.token);
  sandbox.touch();
  sandbox.activeRequests++;
  const done = once(() => {
    sandbox.activeRequests--;
    sandbox.touch();
  });
  try {
    const answer = await fetch(target, {
      method: request.method,
      headers: out,
      body: request.body,
      redirect: "manual",
      decompress: false,
      signal: request.signal,
    });
    if (!answer.body) done();
    return new Response(answer.body && counted(answer.body, done), { status: answer.status, headers: answer.headers });
  } catch (thrown) {
    done();
    throw unreachable(thrown, port);
  }
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

/** The path as the most lenient reader would take it: escapes resolved, slashes in a row counted once. */
function plain(path: string): string {
  try {
    return decodeURIComponent(path).replace(/\/+/g, "/");
  } catch {
    throw new WrennError("invalid_request", "the path has a broken escape");
  }
}

function unreachable(thrown: unknown, port: number): WrennError {
  return new WrennError("agent_error", port === agentPort ? "the guest agent did not answer" : "the port is not open", {
    remedy: "The guest may be starting or overloaded; try again.",
    details: { port: String(port) },
    cause: thrown,
  });
}

/** The same bytes; calls `done` when they have ended, failed, or nobody wants them any more. */
function counted(body: ReadableStream<Uint8Array>, done: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done: ended } = await reader.read();
        if (value) controller.enqueue(value);
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
