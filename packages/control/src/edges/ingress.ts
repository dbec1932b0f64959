import { agentPort, headers, parseSandboxId, type SandboxId, WrennError } from "@wrenn/contract";
import type { Server } from "bun";
import { hostError } from "../hosts/host.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Admission, Credentials, Ports } from "../services/ports.ts";
import { movingStates } from "../store/phase.ts";
import { Bridge } from "./bridge.ts";
import { relay, sentHeaders } from "./relay.ts";
import { requestIdOf } from "./request-id.ts";
import type { Connection } from "./socket.ts";

/** Names of a signed link's query parameters. */
export const linkParameters = { signature: "wrenn_signature", expires: "wrenn_expires" } as const;
const cookieName = "wrenn_port";

/** `{port}-{sandbox}.{any domain}` (Wrenn REST API 14); the id with or without its prefix. */
const hostPattern = /^(\d+)-(cl-[0-9a-z]+|[0-9a-z]{25})\./i;
/** Methods that `fetch` cannot send; no guest needs them through a proxy. */
const unsendable: readonly string[] = ["CONNECT", "TRACE", "TRACK"];
/** An answer of the host itself is a short JSON envelope. */
const maxRefusalBytes = 4_096;

/** What a request is for. `name` is the sandbox as the client spelled it. */
type Target = { name: string; id: SandboxId; port: number };
/** A request on its way to a guest. */
type Passage = { target: Target; request: Request; requestId: string; admission: Admission; path: string };

/** The port that decimal digits name, 1 to 65535. */
export function readPort(digits: string): number | undefined {
  const port = Number(digits);
  return /^\d{1,9}$/.test(digits) && port >= 1 && port <= 65_535 ? port : undefined;
}

/** Sends requests for `{port}-{sandbox}.*` to that port of the guest, both ways as they come (E2B protocol 8). */
export class Ingress {
  readonly #open = new Set<Bridge>();

  constructor(
    readonly ports: Ports,
    readonly log: Log,
    readonly metrics: Metrics,
  ) {}

  /** Whether a request is for a port, by the host it names. */
  matches(request: Request): boolean {
    return hostPattern.test(request.headers.get("host") ?? "");
  }

  /** Serves a request; `undefined` when its connection has become a WebSocket. */
  async serve(request: Request, server: Server<Connection>): Promise<Response | undefined> {
    const started = performance.now();
    const requestId = requestIdOf(request);
    const [, digits = "", name = ""] = hostPattern.exec(request.headers.get("host") ?? "") ?? [];
    const seen = { name: name.toLowerCase(), port: readPort(digits) };
    let status = 101;
    try {
      const answer = await this.#serve(request, server, requestId, readTarget(seen)).catch((thrown) =>
        this.#refuse(seen, thrown, requestId),
      );
      answer?.headers.set(headers.requestId, requestId);
      status = answer?.status ?? status;
      return answer;
    } finally {
      const ms = Math.round((performance.now() - started) * 100) / 100;
      this.metrics.answered({ method: request.method, route: "port", status, ms });
      this.log.info({ requestId, method: request.method, sandbox: seen.name, port: seen.port, status, ms }, "port");
    }
  }

  /** Ends every WebSocket. */
  close(): void {
    for (const bridge of this.#open) bridge.close();
  }

  async #serve(
    request: Request,
    server: Server<Connection>,
    requestId: string,
    target: Target | undefined,
  ): Promise<Response | undefined> {
    if (!target) throw new WrennError("invalid_request", "The host name has no valid port and sandbox id.");
    if (target.port === agentPort) throw new WrennError("not_found", "There is nothing here.");
    if (unsendable.includes(request.method))
      throw new WrennError("invalid_request", "This method cannot be passed on.");
    const { pathname, search } = new URL(request.url);
    const admission = await this.ports.admit(target.id, target.port, credentials(request, search));
    const path = pathname + withoutLink(search);
    const passage = { target, request, requestId, admission, path };
    if (request.headers.get("upgrade")?.toLowerCase() === "websocket") return await this.#bridge(passage, server);
    const cookie = admission.grant && cookieOf(request, admission.grant);
    if (cookie && isNavigation(request)) return redirect(path, cookie);
    const answer = await this.#forward(passage);
    if (cookie) answer.headers.append("set-cookie", cookie);
    return answer;
  }

  async #forward({ target, request, requestId, admission, path }: Passage): Promise<Response> {
    const upstream = await admission.host.guest({ sandbox: target.id, port: target.port }, path, {
      method: request.method,
      headers: guestHeaders(request, requestId),
      body: request.body,
      signal: request.signal,
      decompress: false,
      duplex: "half",
    });
    const refused = await refusalOf(upstream, target);
    if (refused) throw refused;
    const answer = await relay(upstream, request.method);
    const location = answer.headers.get("location")?.replace(/^http:\/\/127\.0\.0\.1:\d+(?=\/|$)/, "");
    // The Host that a guest sees is its machine's end of the way; no visitor means that.
    if (location !== undefined) answer.headers.set("location", location || "/");
    return answer;
  }

  async #bridge(passage: Passage, server: Server<Connection>): Promise<undefined> {
    const { target, request, requestId, admission, path } = passage;
    const protocols = request.headers.get("sec-websocket-protocol")?.split(/\s*,\s*/) ?? [];
    const sent = guestHeaders(request, requestId);
    for (const name of [...sent.keys()]) if (name.startsWith("sec-websocket-")) sent.delete(name);
    const upstream = admission.host.socket({ sandbox: target.id, port: target.port }, path, {
      headers: sent,
      protocols,
    });
    const bridge = new Bridge(upstream, () => this.#open.delete(bridge));
    await bridge.ready;
    const chosen = upstream.protocol ? { "sec-websocket-protocol": upstream.protocol } : {};
    this.#open.add(bridge);
    if (server.upgrade(request, { data: bridge, headers: { [headers.requestId]: requestId, ...chosen } })) return;
    bridge.close();
    throw new WrennError("invalid_request", "The upgrade to a WebSocket is malformed.");
  }

  /** The answers that E2B clients know: they look for these words. */
  #refuse(seen: { name: string; port: number | undefined }, thrown: unknown, requestId: string): Response {
    const error = hostError(thrown);
    if (error.code === "internal_error") this.log.error({ requestId, err: error }, "port request failed");
    const state = error.details?.state;
    const say = (status: number, message: string, more: object = {}) =>
      Response.json({ sandboxId: seen.name, message, ...more, code: status }, { status });
    if (
      isAgents(seen) ||
      error.code === "invalid_request" ||
      error.code === "unauthorized" ||
      error.code === "forbidden"
    )
      return say(error.status, error.message);
    if (error.code === "invalid_state" && (movingStates as readonly unknown[]).includes(state))
      return say(409, `The sandbox is ${state}`);
    if (error.code === "not_found" || error.code === "invalid_state") return say(502, "The sandbox was not found");
    if (error.code === "agent_error")
      return say(502, "The sandbox is running but port is not open", { port: seen.port });
    return say(error.status, error.message);
  }
}

const isAgents = ({ port }: { port: number | undefined }) => port === agentPort;

function readTarget({ name, port }: { name: string; port: number | undefined }): Target | undefined {
  const id = parseSandboxId(name);
  return id && port !== undefined ? { name, id, port } : undefined;
}

function credentials({ headers: given, method }: Request, search: string): Credentials {
  const query = new URLSearchParams(search);
  const signature = query.get(linkParameters.signature);
  return {
    token: given.get(headers.trafficToken) ?? given.get(headers.e2bTrafficToken),
    apiKey: given.get(headers.apiKey),
    cookies: isOwnPage(given, method) ? cookiesOf(given).ours.map((pair) => pair.slice(cookieName.length + 1)) : [],
    link: signature === null ? undefined : { signature, expires: query.get(linkParameters.expires) ?? "" },
  };
}

/**
 * Whether a browser sends this for a page of this very host, or for its user. Pages of other sandboxes are the same
 * site where the domain is shared, so the cookie's SameSite does not keep them out.
 */
function isOwnPage(given: Headers, method: string): boolean {
  const origin = given.get("origin");
  if (origin !== null) return URL.canParse(origin) && new URL(origin).host === given.get("host")?.toLowerCase();
  const from = given.get("sec-fetch-site");
  if (from === null || from === "same-origin" || from === "none") return true;
  return given.get("sec-fetch-mode") === "navigate" && method === "GET";
}

function cookiesOf(given: Headers): { ours: string[]; others: string[] } {
  const pairs = (given.get("cookie") ?? "").split(";").map((pair) => pair.trim());
  const isOurs = (pair: string) => pair.startsWith(`${cookieName}=`);
  return { ours: pairs.filter(isOurs), others: pairs.filter((pair) => pair !== "" && !isOurs(pair)) };
}

/** A request's headers without what opened the port: the guest could use it against its visitors. */
function guestHeaders(request: Request, requestId: string): Headers {
  const sent = sentHeaders(request.headers, requestId, [headers.trafficToken, headers.e2bTrafficToken, "cookie"]);
  const { others } = cookiesOf(request.headers);
  if (others.length > 0) sent.set("cookie", others.join("; "));
  if (!sent.has("x-forwarded-host")) sent.set("x-forwarded-host", request.headers.get("host") ?? "");
  if (!sent.has("x-forwarded-proto")) sent.set("x-forwarded-proto", new URL(request.url).protocol.slice(0, -1));
  return sent;
}

/** The query without a link's parameters; every other byte stays. */
function withoutLink(search: string): string {
  const names = Object.values(linkParameters);
  const kept = search
    .slice(1)
    .split("&")
    .filter((pair) => !names.some((name) => pair === name || pair.startsWith(`${name}=`)));
  return kept.join("&") === "" ? "" : `?${kept.join("&")}`;
}

function cookieOf(request: Request, { cookie, maxAgeSec }: NonNullable<Admission["grant"]>): string {
  const proto = request.headers.get("x-forwarded-proto")?.split(",")[0]?.trim() ?? new URL(request.url).protocol;
  const secure = proto.startsWith("https") ? "; Secure" : "";
  return `${cookieName}=${cookie}; Path=/; Max-Age=${maxAgeSec}; HttpOnly; SameSite=Lax${secure}`;
}

const isNavigation = ({ method, headers: given }: Request): boolean =>
  (method === "GET" || method === "HEAD") && (given.get("accept") ?? "").includes("text/html");

/** To the same page without the link, which then stands in no history and no Referer. */
function redirect(path: string, cookie: string): Response {
  const location = path.replace(/^[/\\]+/, "/"); // `//x` would be another host
  const kept = { "cache-control": "no-store", "referrer-policy": "no-referrer" };
  return new Response(null, { status: 302, headers: { location, "set-cookie": cookie, ...kept } });
}

/** What the host says itself, as against its guest: it names the sandbox or the port as only the two of us know them. */
async function refusalOf(upstream: Response, { id, port }: Target): Promise<WrennError | undefined> {
  const length = Number(upstream.headers.get("content-length") ?? Number.POSITIVE_INFINITY);
  if (upstream.status < 400 || length > maxRefusalBytes) return undefined;
  if (!upstream.headers.get("content-type")?.startsWith("application/json")) return undefined;
  const body = await upstream
    .clone()
    .json()
    .catch(() => undefined);
  const error = WrennError.fromBody(body);
  const isPort = error?.code === "agent_error" && error.details?.port === String(port);
  return error && (isPort || error.details?.id === id) ? error : undefined;
}
