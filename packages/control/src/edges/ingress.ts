import {
  agentPort,
  type Code,
  headers,
  isRefusedAgentPath,
  parseSandboxId,
  prefixes,
  type SandboxId,
  WrennError,
} from "@wrenn/contract";
import type { Server } from "bun";
import { hostError } from "../hosts/host.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Bearers } from "../services/e2b/bearers.ts";
import type { Audit } from "../services/people/audit.ts";
import type { Admission, Credentials, Ports } from "../services/ports.ts";
import { isOnItsWay } from "../store/phase.ts";
import { Bridge } from "./bridge.ts";
import { insideOf } from "./people/deeds.ts";
import { relay, sentHeaders } from "./relay.ts";
import { requestIdOf } from "./request-id.ts";
import type { Connection } from "./socket.ts";

/** Names of a signed link's query parameters. */
export const linkParameters = { signature: "wrenn_signature", expires: "wrenn_expires" } as const;
const cookieName = "wrenn_port";

/** `{port}-{sandbox}.{any domain}` (Wrenn REST API 14); the id with or without its prefix. */
const hostPattern = /^(\d+)-(cl-[0-9a-z]+|[0-9a-z]+)\./i;
/** An answer that says no more than that all is well. */
function withoutBody({ headers: given }: Response): Response {
  const kept = new Headers(given);
  for (const name of ["content-type", "content-length"]) kept.delete(name);
  return new Response(null, { status: 204, headers: kept });
}

/** Methods that `fetch` cannot send; no guest needs them through a proxy. */
const unsendable: readonly string[] = ["CONNECT", "TRACE", "TRACK"];
/** An answer of the host itself is a short JSON envelope. */
const maxRefusalBytes = 4_096;

/** What a request says it is for. `name` is the sandbox as the client spelled it. */
type Seen = { name: string; port: number | undefined };
/** What a request is for. */
type Target = { name: string; id: SandboxId; port: number };
/** A request on its way to a guest. */
type Passage = { target: Target; request: Request; requestId: string; admission: Admission; path: string };
/** The same with the headers that the guest is to see. */
type Onward = Omit<Passage, "requestId"> & { sent: Headers };

/** The port that decimal digits name, 1 to 65535. */
export function readPort(digits: string): number | undefined {
  const port = Number(digits);
  return /^\d{1,9}$/.test(digits) && port >= 1 && port <= 65_535 ? port : undefined;
}

/** Sends requests for `{port}-{sandbox}.*` to that port of the guest, both ways as they come (E2B protocol 8). */
export class Ingress {
  readonly #open = new Set<Bridge>();

  readonly ports: Ports;
  readonly bearers: Bearers;
  readonly audit: Pick<Audit, "by">;

  constructor(
    services: { ports: Ports; bearers: Bearers; audit: Pick<Audit, "by"> },
    readonly log: Log,
    readonly metrics: Metrics,
  ) {
    ({ ports: this.ports, bearers: this.bearers, audit: this.audit } = services);
  }

  /** Whether a request is for a port, by the host it names, its headers, or what only its sandbox's agent takes. */
  matches(request: Request): boolean {
    const { headers: given } = request;
    return hostPattern.test(given.get("host") ?? "") || given.has(headers.e2bSandboxId) || isNameless(request);
  }

  /** Serves a request; `undefined` when its connection has become a WebSocket. */
  async serve(request: Request, server: Server<Connection>): Promise<Response | undefined> {
    const started = performance.now();
    const requestId = requestIdOf(request);
    const seen = await this.#seen(request);
    let status = 101;
    try {
      const answer = await this.#serve(request, server, requestId, seen).catch((thrown) =>
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

  /** A host name of a port says more than headers, which a page can send to any host (E2B protocol, section 1). */
  async #seen({ headers: given, url, method }: Request): Promise<Seen> {
    const named = hostPattern.exec(given.get("host") ?? "");
    if (named) return { name: named[2]!.toLowerCase(), port: readPort(named[1]!) };
    const name = given.get(headers.e2bSandboxId);
    if (name !== null) return { name, port: readPort(given.get(headers.e2bSandboxPort) ?? String(agentPort)) };
    const token = given.get(headers.accessToken);
    const id =
      token === null
        ? await this.bearers.bySignature(new URL(url).searchParams, method === "POST" ? "write" : "read")
        : await this.bearers.byToken(token);
    return { name: id ?? "", port: agentPort };
  }

  async #serve(
    request: Request,
    server: Server<Connection>,
    requestId: string,
    seen: Seen,
  ): Promise<Response | undefined> {
    const target = readTarget(seen);
    if (isForAgent(target)) return await this.#toAgent(request, requestId, target);
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

  /** The agent judges what the client shows; what only its host may ask of it is not there. */
  async #toAgent(request: Request, requestId: string, target: Target): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    if (isRefusedAgentPath(pathname)) throw new Hidden();
    const admission = await this.ports.admitToAgent(target.id);
    const sent = sentHeaders(request.headers, requestId, []);
    sent.set(headers.asClient, "1");
    const answer = await this.#answer({ target, request, admission, path: pathname + search, sent });
    this.#note(request.method, new URL(request.url), { id: target.id, team: admission.team, status: answer.status });
    // What our own host reads there, clients of this dialect do not expect (E2B protocol, section 7).
    return pathname === "/health" && answer.ok ? withoutBody(answer) : answer;
  }

  /** The audit log tells what was done through the agent's port too, by whoever holds the sandbox's token. */
  #note(method: string, { pathname, searchParams }: URL, seen: { id: SandboxId; team: string; status: number }): void {
    const deed = insideOf(seen.id, method, `/agent${pathname}`);
    if (!deed || isRefusal(seen.status)) return;
    const path = searchParams.get("path");
    const failed = seen.status >= 400;
    const metadata = { ...(path !== null && { path }), ...(failed && { status: `${seen.status}` }) };
    this.audit.by(tokenHolder, seen.team, { ...deed, ...(failed && { status: "error" }), metadata });
  }

  async #forward(passage: Passage): Promise<Response> {
    const sent = guestHeaders(passage.request, passage.requestId);
    const mask = passage.admission.terms?.network?.maskRequestHost;
    if (speaksTls(passage)) sent.set(headers.guestTls, "1");
    // The host gives the guest this name as its own.
    if (mask) sent.set("x-forwarded-host", mask.replace(/\$\{PORT\}/g, String(passage.target.port)));
    const answer = await this.#answer({ ...passage, sent });
    const location = answer.headers.get("location")?.replace(/^http:\/\/127\.0\.0\.1:\d+(?=\/|$)/, "");
    // The Host that a guest sees is its machine's end of the way; no visitor means that.
    if (location !== undefined) answer.headers.set("location", location || "/");
    return answer;
  }

  async #answer({ target, request, admission, path, sent }: Onward): Promise<Response> {
    const upstream = await admission.host.guest({ sandbox: target.id, port: target.port }, path, {
      method: request.method,
      headers: sent,
      body: request.body,
      signal: request.signal,
      decompress: false,
      duplex: "half",
    });
    const refused = await refusalOf(upstream, target);
    if (refused) throw refused;
    return await relay(upstream, request.method);
  }

  async #bridge(passage: Passage, server: Server<Connection>): Promise<undefined> {
    const { target, request, requestId, admission, path } = passage;
    const protocols = request.headers.get("sec-websocket-protocol")?.split(/\s*,\s*/) ?? [];
    const sent = guestHeaders(request, requestId);
    for (const name of [...sent.keys()]) if (name.startsWith("sec-websocket-")) sent.delete(name);
    if (speaksTls(passage)) sent.set(headers.guestTls, "1");
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
  #refuse(seen: Seen, thrown: unknown, requestId: string): Response {
    const error = hostError(thrown);
    if (error.code === "internal_error") this.log.error({ requestId, err: error }, "port request failed");
    const state = error.details?.state;
    const say = (status: number, message: string, more: object = {}) =>
      Response.json({ sandboxId: seen.name, message, ...more, code: status }, { status });
    if (thrown instanceof Hidden || spokenOf.includes(error.code)) return say(error.status, error.message);
    if (error.code === "invalid_state" && isOnItsWay(state)) return say(409, `The sandbox is ${state}`);
    if (error.code === "not_found" || error.code === "invalid_state") return say(502, "The sandbox was not found");
    if (error.code === "agent_error")
      return say(502, "The sandbox is running but port is not open", { port: seen.port });
    return say(error.status, error.message);
  }
}

/** Whether the sandbox's owner said that its server at this port speaks TLS. */
const speaksTls = ({ admission, target }: Passage): boolean =>
  admission.terms?.network?.httpsPorts?.includes(target.port) ?? false;

/** Clients of the E2B dialect show the guest agent its own token: which key it was handed out to, nobody knows then. */
const tokenHolder = { type: "api_key", id: "", name: "holder of the sandbox's token" } as const;

/** The agent let nobody in: a stranger must not fill a team's log. */
const isRefusal = (status: number): boolean => status === 401 || status === 403;

/** Refusals that a visitor is told of in their own words. */
const spokenOf: readonly Code[] = ["invalid_request", "unauthorized", "forbidden"];

/** A path that does not exist for visitors, whatever the sandbox. */
class Hidden extends WrennError {
  constructor() {
    super("not_found", "There is nothing here.");
  }
}

/** Whether a request is for the agent of a sandbox that it does not name: signed, or with that sandbox's token. */
const isNameless = ({ url, headers: given }: Request): boolean => {
  if (given.has(headers.apiKey)) return false;
  const { pathname, searchParams } = new URL(url);
  if (given.has(headers.accessToken)) return pathname === "/files" || pathname === "/health";
  return pathname === "/files" && searchParams.has("signature");
};

/** The agent, by an id of the E2B dialect; the Wrenn dialect has a path of its own for it. */
const isForAgent = ({ name, port }: Target): boolean => port === agentPort && !name.startsWith(prefixes.capsule);

/** Throws `invalid_request` for a port that is none, `not_found` for an id that no sandbox can have. */
function readTarget({ name, port }: Seen): Target {
  if (port === undefined) throw new WrennError("invalid_request", "The port is not one of 1 to 65535.");
  const id = parseSandboxId(name);
  if (!id && name.startsWith(prefixes.capsule)) throw new WrennError("invalid_request", "The sandbox id is none.");
  if (!id) throw new WrennError("not_found", "There is no such sandbox.");
  if (port === agentPort && name.startsWith(prefixes.capsule)) throw new Hidden();
  return { name, id, port };
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
