import { type ErrorBody, headers, type rest, WrennError } from "@wrenn/contract";
import { type Guest, startGuest } from "./guest.ts";

/** The API key the server in memory accepts. */
export const testKey = "wrn_0123456789abcdef0123456789abcdef";

/** A Wrenn server in memory: REST as the contract has it, and every sandbox's agent is one guest on this machine. */
export type TestServer = AsyncDisposable & {
  url: string;
  guest: Guest;
  capsules: Map<string, rest.Capsule>;
  /** Requests seen, as `METHOD /path`. */
  seen: string[];
  /** The next answers, before anything else is looked at. */
  script: Response[];
};

const now = () => new Date().toISOString();

const denied = (error: WrennError) => Response.json(error.toJSON() satisfies ErrorBody, { status: error.status });

function capsuleOf(number: number, body: rest.CreateCapsuleInput): rest.Capsule {
  return {
    id: `cl-${String(number).padStart(25, "0")}`,
    ...(body.name !== undefined && { name: body.name }),
    status: "starting",
    template: body.template ?? "minimal",
    vcpus: body.vcpus ?? 1,
    memory_mb: body.memory_mb ?? 512,
    disk_size_mb: body.disk_size_mb ?? 5120,
    timeout_sec: body.timeout_sec ?? 0,
    created_at: now(),
    last_updated: now(),
    metadata: body.metadata ?? {},
  };
}

/** A state the server passes through is answered once and has ended by the next question. */
const next: Partial<Record<rest.Capsule["status"], rest.Capsule["status"]>> = {
  starting: "running",
  pausing: "paused",
  resuming: "running",
};

function renamed(capsule: rest.Capsule, { name }: rest.UpdateCapsule): Response {
  if (name === null) delete capsule.name;
  else if (name !== undefined) capsule.name = name;
  return Response.json(capsule);
}

function listed(server: Pick<TestServer, "capsules">, query: URLSearchParams): Response {
  const asked = query.get("status")?.split(",");
  const isShown = ({ status }: rest.Capsule) => asked?.includes(status) ?? !["stopped", "error"].includes(status);
  return Response.json([...server.capsules.values()].filter(isShown));
}

async function life(
  server: Pick<TestServer, "capsules">,
  request: Request,
  { id, action }: { id: string; action: string },
): Promise<Response> {
  const { method } = request;
  const capsule = server.capsules.get(id);
  if (!capsule) return denied(new WrennError("not_found", `no sandbox ${id}`, { remedy: "List them." }));
  const move = (from: rest.Capsule["status"], to: rest.Capsule["status"]) => {
    if (capsule.status !== from) return denied(new WrennError("invalid_state", `sandbox is ${capsule.status}`));
    capsule.status = to;
    return Response.json(capsule, { status: 202 });
  };
  if (method === "DELETE") {
    server.capsules.delete(id);
    return new Response(null, { status: 204 });
  }
  if (method === "PATCH") return renamed(capsule, await request.json());
  if (action === "pause") return move("running", "pausing");
  if (action === "resume") return move("paused", "resuming");
  if (action === "ping" || action === "timeout") return new Response(null, { status: 204 });
  const answer = Response.json(capsule);
  capsule.status = next[capsule.status] ?? capsule.status;
  return answer;
}

async function route(server: Omit<TestServer, "url">, request: Request): Promise<Response> {
  const url = new URL(request.url);
  if (url.pathname === "/health") return Response.json({ status: "ok", version: "0.1.0" });
  if (request.headers.get(headers.apiKey) !== testKey) return denied(new WrennError("unauthorized", "unknown API key"));
  const [, , collection, id, action, ...rest] = url.pathname.split("/");
  if (collection === "snapshots")
    return Response.json([{ name: "base", type: "base", size_bytes: 1, created_at: now(), platform: true }]);
  if (id === undefined && request.method === "GET") return listed(server, url.searchParams);
  if (id === undefined) {
    const capsule = capsuleOf(server.capsules.size + 1, (await request.json()) as rest.CreateCapsuleInput);
    server.capsules.set(capsule.id, capsule);
    return Response.json(capsule, { status: 201 });
  }
  if (action !== "agent") return await life(server, request, { id, action: action ?? "" });
  if (server.capsules.get(id)?.status !== "running")
    return denied(new WrennError("invalid_state", "sandbox is not running", { remedy: "Resume it." }));
  return server.guest.fetch(new Request(`http://guest/${rest.join("/")}${url.search}`, request));
}

/** Starts the server on a free port. */
export async function startServer(): Promise<TestServer> {
  const guest = await startGuest();
  const inner = {
    guest,
    capsules: new Map<string, rest.Capsule>(),
    seen: [] as string[],
    script: [] as TestServer["script"],
  };
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      inner.seen.push(`${request.method} ${new URL(request.url).pathname}`);
      const scripted = inner.script.shift();
      if (scripted) return scripted;
      return route({ ...inner, [Symbol.asyncDispose]: async () => {} }, request);
    },
  });
  return {
    ...inner,
    url: `http://127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: async () => {
      await server.stop(true);
      await guest[Symbol.asyncDispose]();
    },
  };
}
