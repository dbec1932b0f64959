import { WrennError } from "@wrenn/contract";
import type { ServerWebSocket } from "bun";
import type { Connection } from "./socket.ts";

/** What one side may be behind, bytes; a reader slower than that is cut off, since frames cannot be held back singly. */
const maxBehindBytes = 16 * 1024 * 1024;
/** A guest that does not finish a handshake in this time serves no WebSocket. */
const handshakeMs = 30_000;

/** Close codes that an application may send (RFC 6455, 7.4); others mean that the peer just went. */
const sendable = (code: number): boolean => code === 1000 || (code >= 3000 && code <= 4999);

/** What `ServerWebSocket.send` answers for a message that it did not take. */
const dropped = 0;

type Frame = string | ArrayBuffer;

/** Carries frames between a client and a guest until one closes; then the other is closed the same way. */
export class Bridge implements Connection {
  /** Resolves when the guest has taken the WebSocket. Throws `host_unavailable` when it does not. */
  readonly ready: Promise<void>;
  readonly #upstream: WebSocket;
  readonly #onEnd: () => void;
  #client: ServerWebSocket<Connection> | undefined;
  /** Frames that came before the client's end was made: a guest may speak in the same packet that ends its handshake. */
  #early: Frame[] = [];
  #closed: { code: number; reason: string } | undefined;

  /** `onEnd` is called once, when either end is gone. */
  constructor(upstream: WebSocket, onEnd: () => void) {
    this.#upstream = upstream;
    this.#onEnd = onEnd;
    upstream.binaryType = "arraybuffer";
    upstream.onmessage = ({ data }) => this.#deliver(data as Frame);
    upstream.onclose = ({ code, reason }) => this.#upstreamClosed(code, reason);
    this.ready = new Promise((resolve, reject) => {
      const timer = setTimeout(() => upstream.close(), handshakeMs);
      upstream.onopen = () => {
        clearTimeout(timer);
        resolve();
      };
      upstream.addEventListener("close", () => {
        clearTimeout(timer);
        reject(new WrennError("host_unavailable", "The sandbox did not accept the WebSocket"));
      });
    });
    this.ready.catch(() => {}); // its user may be gone already
  }

  /** The client's end is there. */
  opened(client: ServerWebSocket<Connection>): void {
    this.#client = client;
    const early = this.#early;
    this.#early = [];
    for (const frame of early) this.#deliver(frame);
    if (this.#closed) this.#upstreamClosed(this.#closed.code, this.#closed.reason);
  }

  /** The client sent a frame. */
  received(frame: string | Buffer): void {
    if (this.#upstream.bufferedAmount > maxBehindBytes) this.close();
    else this.#upstream.send(frame as string | Buffer<ArrayBuffer>);
  }

  /** The client reads again; nothing waits for that. */
  drained(): void {}

  /** The client's end is gone. */
  ended(code: number, reason: string): void {
    this.#onEnd();
    if (sendable(code)) this.#upstream.close(code, reason);
    else this.#upstream.close();
  }

  /** Ends both sides. */
  close(): void {
    this.#onEnd();
    this.#upstream.close();
    this.#client?.terminate();
  }

  #deliver(frame: Frame): void {
    if (!this.#client) this.#early.push(frame);
    else if (this.#client.send(frame) === dropped) this.close();
  }

  #upstreamClosed(code: number, reason: string): void {
    this.#closed = { code, reason };
    if (!this.#client) return;
    if (sendable(code)) this.#client.close(code, reason);
    else this.#client.terminate();
  }
}
