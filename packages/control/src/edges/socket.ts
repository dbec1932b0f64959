import { rest, WrennError } from "@wrenn/contract";
import type { ServerWebSocket } from "bun";
import { check } from "./endpoint.ts";

/** What Bun keeps with a WebSocket, and tells of it. */
export type Connection = {
  opened(ws: ServerWebSocket<Connection>): void;
  received(message: string | Buffer): void;
  drained(): void;
  ended(code: number, reason: string): void;
};

/** A connection of the contract's frames; `begin` has it to itself. */
export function framed(begin: (socket: Socket) => Promise<void>): Connection {
  let socket: Socket | undefined;
  return {
    opened(ws) {
      const made = new Socket(ws);
      socket = made;
      begin(made).catch(() => made.close());
    },
    received: (message) => socket?.received(message),
    drained: () => socket?.drained(),
    ended: () => socket?.ended(),
  };
}

/** What goes out on one WebSocket, with back pressure: whoever sends while the client does not read waits until it does. */
export class Outlet {
  #full: PromiseWithResolvers<void> | undefined;

  constructor(readonly ws: Pick<ServerWebSocket<Connection>, "send" | "readyState">) {}

  /** Sends a message; one for a client that has gone is dropped. */
  async send(message: string | Uint8Array): Promise<void> {
    if (this.ws.readyState !== WebSocket.OPEN || this.ws.send(message) !== backPressure) return;
    this.#full ??= Promise.withResolvers();
    await this.#full.promise;
  }

  /** The client reads again, or has gone. */
  drained(): void {
    this.#full?.resolve();
    this.#full = undefined;
  }
}

/** One WebSocket as frames of the contract; `send` waits while the client does not read. */
export class Socket {
  readonly #ws: ServerWebSocket<Connection>;
  readonly #outlet: Outlet;
  readonly #closed = new AbortController();
  readonly #waiting: string[] = [];
  #wake: (() => void) | undefined;
  /** Whether a terminal's bytes go as they are, in binary messages, instead of as base64 in frames. */
  isBinary = false;

  constructor(ws: ServerWebSocket<Connection>) {
    this.#ws = ws;
    this.#outlet = new Outlet(ws);
  }

  /** Aborts when the client has gone, or the connection was closed here. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** The next frame, `undefined` after the close. Throws `invalid_request` for a malformed one, which is then skipped. */
  async next(): Promise<rest.StreamClientFrame | undefined> {
    while (this.#waiting.length === 0) {
      if (this.closed.aborted) return undefined;
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
    return check(rest.StreamClientFrame, parse(this.#waiting.shift()!), "frame");
  }

  /** Sends a frame. */
  async send(frame: rest.StreamServerFrame | rest.BuildFrame): Promise<void> {
    if (!this.closed.aborted) await this.#outlet.send(JSON.stringify(frame));
  }

  /** Sends bytes of a terminal. */
  async sendBytes(bytes: Uint8Array): Promise<void> {
    if (!this.isBinary) return await this.send({ type: "output", data: Buffer.from(bytes).toString("base64") });
    if (!this.closed.aborted) await this.#outlet.send(bytes);
  }

  /** Says what went wrong, and closes when nothing can follow. */
  async fail(error: WrennError, fatal: boolean): Promise<void> {
    const text = error.remedy ? `${error.message} ${error.remedy}` : error.message;
    await this.send({ type: "error", data: text, code: error.code, ...(fatal && { fatal }) });
    if (fatal) this.close();
  }

  /** Ends the connection in order. */
  close(): void {
    this.#ws.close(normalClosure);
    this.ended();
  }

  /** Takes a message from the wire. */
  received(message: string | Buffer): void {
    if (message.length > maxFrameLength) {
      this.#ws.close(tooBig);
      return;
    }
    if (this.isBinary && isPong(message)) return;
    const isInput = this.isBinary && typeof message !== "string";
    this.#waiting.push(isInput ? JSON.stringify({ type: "input", data: message.toString("base64") }) : String(message));
    this.#wake?.();
  }

  /** The client reads again. */
  drained(): void {
    this.#outlet.drained();
  }

  /** The connection is over. */
  ended(): void {
    this.#closed.abort();
    this.#wake?.();
    this.#outlet.drained();
  }
}

/** The answer of some clients to our ping, which needs none. */
const isPong = (message: string | Buffer): boolean =>
  typeof message === "string" && /^\{"type": ?"pong"\}$/.test(message);

/** What `ServerWebSocket.send` answers when the message waits for the client. */
const backPressure = -1;
const normalClosure = 1000;
const tooBig = 1009;
/** A pasted text in base64 fits; a client that sends more at once is broken. */
const maxFrameLength = 4 * 1024 * 1024;
/** Largest frame to or from a port of a guest, and what may wait for a client, bytes. */
const maxWaitingBytes = 16 * 1024 * 1024;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new WrennError("invalid_request", "The frame is not valid JSON.", {
      remedy: "Send one JSON object a frame.",
      cause,
    });
  }
}

/** Handlers for `Bun.serve`. */
export const socketHandlers: Bun.WebSocketHandler<Connection> = {
  maxPayloadLength: maxWaitingBytes,
  backpressureLimit: maxWaitingBytes,
  idleTimeout: 120,
  open: (ws) => ws.data.opened(ws),
  message: (ws, message) => ws.data.received(message),
  drain: (ws) => ws.data.drained(),
  close: (ws, code, reason) => ws.data.ended(code, reason),
};
