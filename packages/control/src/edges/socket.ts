import { rest, WrennError } from "@wrenn/contract";
import type { ServerWebSocket } from "bun";
import { check } from "./endpoint.ts";

/** What Bun keeps with a connection. */
export type SocketData = { socket?: Socket; begin(socket: Socket): Promise<void> };

/** One WebSocket as frames of the contract, with back pressure: `send` waits while the client does not read. */
export class Socket {
  readonly #ws: ServerWebSocket<SocketData>;
  readonly #closed = new AbortController();
  readonly #waiting: string[] = [];
  #wake: (() => void) | undefined;
  #drained: (() => void) | undefined;

  constructor(ws: ServerWebSocket<SocketData>) {
    this.#ws = ws;
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
  async send(frame: rest.StreamServerFrame): Promise<void> {
    if (this.closed.aborted || this.#ws.send(JSON.stringify(frame)) !== backPressure) return;
    await new Promise<void>((wake) => {
      this.#drained = wake;
    });
  }

  /** Says what went wrong, and closes when nothing can follow. */
  async fail(error: WrennError, fatal: boolean): Promise<void> {
    const text = error.remedy ? `${error.message} ${error.remedy}` : error.message;
    await this.send({ type: "error", data: text, ...(fatal && { fatal }) });
    if (fatal) this.close();
  }

  /** Ends the connection in order. */
  close(): void {
    this.#ws.close(normalClosure);
    this.ended();
  }

  /** Takes a message from the wire. */
  received(message: string | Buffer): void {
    this.#waiting.push(String(message));
    this.#wake?.();
  }

  /** The client reads again. */
  drained(): void {
    this.#drained?.();
  }

  /** The connection is over. */
  ended(): void {
    this.#closed.abort();
    this.#wake?.();
    this.#drained?.();
  }
}

/** What `ServerWebSocket.send` answers when the message waits for the client. */
const backPressure = -1;
const normalClosure = 1000;

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
export const socketHandlers: Bun.WebSocketHandler<SocketData> = {
  /** A pasted text in base64 fits; a client that sends more at once is broken. */
  maxPayloadLength: 4 * 1024 * 1024,
  idleTimeout: 120,
  open(ws) {
    const socket = new Socket(ws);
    ws.data.socket = socket;
    ws.data.begin(socket).catch(() => socket.close());
  },
  message(ws, message) {
    ws.data.socket?.received(message);
  },
  drain(ws) {
    ws.data.socket?.drained();
  },
  close(ws) {
    ws.data.socket?.ended();
  },
};
