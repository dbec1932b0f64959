import { headers, WrennError } from "@wrenn/contract";
import type { Server, ServerWebSocket } from "bun";
import { z } from "zod";
import type { Access } from "../../services/access.ts";
import { type App, check } from "../endpoint.ts";
import { notUpgraded, requestIdOf } from "../request-id.ts";
import { type Connection, Outlet } from "../socket.ts";

/** Where a window of the dashboard opens its one connection for everything that it follows. */
const path = "/v1/lanes";

/** A page follows three things at most; a client that asks for more than this is broken. */
const mostLanes = 32;

/** Headers of the WebSocket's request that say who asks, for each lane as for the window. */
const whose = ["cookie", "origin", "host", "user-agent", "x-forwarded-for", "x-forwarded-proto"];

/** What a window says: follow this path from now on under a number of its own, or no longer. */
const Wish = z.union([
  z.object({ open: z.int().min(0), path: z.string().startsWith("/v1/").max(8_192) }),
  z.object({ close: z.int().min(0) }),
]);

/** What it is told of a lane: the answer's status, then its text as it comes, then that it is over. */
type Word = { status: number; type: string } | { text: string } | { end: "whole" | "broken" };

/**
 * Event streams of one window over one WebSocket. A browser has six connections to a server for all its windows
 * together, and each stream over HTTP/1.1 holds one; WebSockets are not among the six. Every lane is a request of its
 * own with the window's cookie, so it is opened, refused and cut off as the same request over HTTP is.
 */
export class Lanes {
  readonly #open = new Set<ServerWebSocket<Connection>>();

  constructor(
    readonly app: App,
    readonly access: Access,
  ) {}

  /** Upgrades a window's request; answers `undefined` when it is something else, `true` when it was upgraded. */
  async upgrade(request: Request, server: Server<Connection>): Promise<Response | true | undefined> {
    if (new URL(request.url).pathname !== path) return undefined;
    const requestId = requestIdOf(request);
    try {
      if (!(await this.access.known(request, requestId)))
        throw new WrennError("unauthorized", "Nobody is signed in here.", { remedy: "Sign in to the dashboard." });
      const peer = server.requestIP(request)?.address;
      const ask = async (path: string, signal: AbortSignal) =>
        this.app.fetch(new Request(new URL(path, request.url), { headers: asking(request), signal }), {
          peer: () => peer,
        });
      const data = new Window(ask, this.#open);
      return server.upgrade(request, { data, headers: { [headers.requestId]: requestId } }) ? true : undefined;
    } catch (thrown) {
      return notUpgraded(thrown, requestId);
    }
  }

  /** Ends every window's connection. */
  close(): void {
    for (const socket of this.#open) socket.close();
  }
}

/** One window's connection, and what it follows. */
class Window implements Connection {
  readonly #lanes = new Map<number, AbortController>();
  #socket: ServerWebSocket<Connection> | undefined;
  #outlet: Outlet | undefined;

  constructor(
    /** The answer to a path, for whoever opened the window. */
    readonly ask: (path: string, signal: AbortSignal) => Promise<Response>,
    readonly open: Set<ServerWebSocket<Connection>>,
  ) {}

  opened(socket: ServerWebSocket<Connection>): void {
    this.#socket = socket;
    this.#outlet = new Outlet(socket);
    this.open.add(socket);
  }

  received(message: string | Buffer): void {
    const wish = readWish(message);
    if (wish && "close" in wish) this.#lanes.get(wish.close)?.abort();
    else if (!wish || this.#lanes.size >= mostLanes) this.#socket?.close();
    else void this.#follow(wish.open, wish.path);
  }

  drained(): void {
    this.#outlet?.drained();
  }

  ended(): void {
    if (this.#socket) this.open.delete(this.#socket);
    for (const lane of this.#lanes.values()) lane.abort();
    this.#outlet?.drained();
  }

  async #follow(lane: number, path: string): Promise<void> {
    const stop = new AbortController();
    this.#lanes.get(lane)?.abort();
    this.#lanes.set(lane, stop);
    const answer = this.ask(path, stop.signal);
    await relay(answer, stop.signal, (word) => this.#outlet!.send(JSON.stringify({ lane, ...word })));
    if (this.#lanes.get(lane) === stop) this.#lanes.delete(lane);
  }
}

/** Tells of one answer until it is over or nobody listens any more. */
async function relay(asked: Promise<Response>, signal: AbortSignal, say: (word: Word) => Promise<void>): Promise<void> {
  try {
    const answer = await asked;
    await say({ status: answer.status, type: answer.headers.get("content-type") ?? "" });
    const decoder = new TextDecoder();
    const reader = answer.body?.getReader();
    signal.addEventListener("abort", () => void reader?.cancel().catch(() => {}), { once: true });
    for (let next = await reader?.read(); next && !next.done && !signal.aborted; next = await reader?.read())
      await say({ text: decoder.decode(next.value, { stream: true }) });
    if (!signal.aborted) await say({ end: "whole" });
  } catch {
    if (!signal.aborted) await say({ end: "broken" });
  }
}

function readWish(message: string | Buffer): z.output<typeof Wish> | undefined {
  try {
    return check(Wish, JSON.parse(String(message)), "frame");
  } catch {
    return undefined;
  }
}

function asking({ headers: given }: Request): Headers {
  const own = new Headers({ accept: "text/event-stream" });
  for (const name of whose) {
    const value = given.get(name);
    if (value !== null) own.set(name, value);
  }
  return own;
}
