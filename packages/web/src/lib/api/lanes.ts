/** What the server says of a lane: the answer's status, then its text as it comes, then that it is over. */
type Word = { lane: number; status?: number; type?: string; text?: string; end?: "whole" | "broken" };

/** A request that is under way: its answer, once its status is known, and where the answer's text goes. */
type Lane = {
  socket: WebSocket;
  answered: (response: Response) => void;
  failed: (why: Error) => void;
  body?: ReadableStreamDefaultController<Uint8Array>;
};

const lost = () => new TypeError("the connection to the server was lost");

/**
 * Everything that this window follows, over one WebSocket: a browser has six connections to a server for all its
 * windows together, and streams would hold them. Each lane is to its caller what `fetch` would have answered.
 */
class Lanes {
  #socket: WebSocket | undefined;
  #next = 0;
  readonly #lanes = new Map<number, Lane>();

  /** The answer to `GET path`, as it comes, until the signal aborts. Fails as `fetch` does. */
  follow(path: string, signal?: AbortSignal | null): Promise<Response> {
    const lane = this.#next++;
    const socket = this.#connect();
    const say = (wish: object) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(wish));
    return new Promise((answered, failed) => {
      if (signal?.aborted) return failed(signal.reason);
      this.#lanes.set(lane, { socket, answered, failed });
      const open = () => say({ open: lane, path });
      if (socket.readyState === WebSocket.OPEN) open();
      else socket.addEventListener("open", open, { once: true });
      signal?.addEventListener(
        "abort",
        () => {
          say({ close: lane });
          this.#fail(lane, signal.reason);
          this.#rest();
        },
        { once: true },
      );
    });
  }

  /** Whoever signs in or out speaks for somebody else from then on: what follows is asked for anew. */
  reset(): void {
    this.#socket?.close();
    this.#socket = undefined;
  }

  #connect(): WebSocket {
    if (this.#socket) return this.#socket;
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/v1/lanes`);
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => this.#hear(JSON.parse(String(data)) as Word));
    socket.addEventListener("close", () => {
      if (this.#socket === socket) this.#socket = undefined;
      for (const [lane, { socket: its }] of [...this.#lanes]) if (its === socket) this.#fail(lane, lost());
    });
    return socket;
  }

  #hear({ lane, status, type, text, end }: Word): void {
    const found = this.#lanes.get(lane);
    if (!found) return;
    if (status !== undefined) {
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => {
          found.body = controller;
        },
        cancel: () => {
          if (found.socket.readyState === WebSocket.OPEN) found.socket.send(JSON.stringify({ close: lane }));
          this.#lanes.delete(lane);
          this.#rest();
        },
      });
      found.answered(new Response(body, { status, headers: { "content-type": type ?? "" } }));
    }
    if (text) found.body?.enqueue(new TextEncoder().encode(text));
    if (end === "broken") this.#fail(lane, lost());
    else if (end) {
      this.#lanes.delete(lane);
      found.body?.close();
    }
    if (end) this.#rest();
  }

  #fail(lane: number, why: Error): void {
    const found = this.#lanes.get(lane);
    this.#lanes.delete(lane);
    found?.failed(why);
    found?.body?.error(why);
  }

  /** A connection that carries nothing is closed: the next one asks as whoever is signed in then. */
  #rest(): void {
    if (this.#lanes.size > 0) return;
    this.#socket?.close();
    this.#socket = undefined;
  }
}

/** Of this window. */
export const lanes = new Lanes();
