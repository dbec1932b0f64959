import { headers } from "@wrenn/contract";
import { type Lane, Mux, type Replicas, tunnelBeatMs, tunnelTaken } from "@wrenn/contract/tunnel";
import type { Logger } from "pino";
import type { Kept } from "./identity.ts";

/** A line on which nothing was heard for so long is dead. */
const silenceMs = 3 * tunnelBeatMs;
/** Between two tries; a control plane that is away, or always the same behind a balancer, is asked less and less often. */
const wait = { leastMs: 500, mostMs: 5_000 } as const;
const normalClosure = 1000;

/** A line to a replica of the control plane. */
type Line = { replica: string; end(): void };

/**
 * Keeps a line to every replica of the control plane, over which they connect to this agent: for a host behind NAT or a
 * firewall, which needs no open port. A replica tells which others there are; the host dials until it has met each, as a
 * balancer gives it now one, now another.
 */
export class Dialer implements AsyncDisposable {
  readonly #lines = new Map<string, Line>();
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;
  #replicas: readonly string[] = [];
  #wake = () => {};

  constructor(
    /** Who this host is, as of now. */
    readonly kept: () => Kept,
    /** Where this agent listens, on the loopback. */
    readonly port: number,
    readonly log: Logger,
  ) {
    this.#done = this.#dial();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake();
    for (const line of this.#lines.values()) line.end();
    await this.#done;
  }

  async #dial(): Promise<void> {
    let waitMs: number = wait.leastMs;
    while (!this.#stop.signal.aborted) {
      if (!this.#isComplete()) {
        const isNew = await this.#open().catch((error) => {
          this.log.warn({ error }, "the control plane could not be dialled");
          return false;
        });
        waitMs = isNew ? wait.leastMs : Math.min(waitMs * 2, wait.mostMs);
        if (isNew && this.#isComplete()) continue;
      }
      await this.#pause(this.#isComplete() ? wait.mostMs : waitMs * (0.5 + Math.random() / 2));
    }
  }

  #isComplete(): boolean {
    return this.#lines.size > 0 && this.#replicas.every((replica) => this.#lines.has(replica));
  }

  /** Sleeps until the time is over, a line broke or this stops. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#stop.signal.aborted) this.#wake();
    });
  }

  /** Dials once. Answers whether the replica that answered had no line yet; a second line to one is given up. */
  #open(): Promise<boolean> {
    const { url, id, token } = this.kept();
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    // Bun takes options where browsers, whose types are in force here, take protocols.
    const options = { headers: { [headers.registeredHost]: token } } as unknown as string[];
    const socket = new WebSocket(`${url.replace(/^http/, "ws")}/v1/hosts/${id}/tunnel`, options);
    socket.binaryType = "arraybuffer";
    const mux = new Mux(
      (frame) => socket.send(frame),
      (lane) => connect(lane, this.port),
    );
    let line: Line | undefined;
    let silence = setTimeout(() => hangUp(socket), silenceMs);
    socket.onmessage = ({ data }) => {
      clearTimeout(silence);
      silence = setTimeout(() => hangUp(socket), silenceMs);
      if (typeof data !== "string") return mux.received(new Uint8Array(data as ArrayBuffer));
      const told = JSON.parse(data) as Replicas;
      const isNews = told.replicas.some((replica) => !this.#replicas.includes(replica));
      this.#replicas = told.replicas;
      if (line) return isNews ? this.#wake() : undefined;
      if (this.#lines.has(told.replica)) {
        socket.close(normalClosure);
        return resolve(false);
      }
      line = { replica: told.replica, end: () => socket.close(normalClosure) };
      this.#lines.set(told.replica, line);
      socket.send(tunnelTaken);
      this.log.info({ replica: told.replica }, "the control plane connects over this host's own line");
      resolve(true);
    };
    socket.onerror = () => reject(new Error(`${url} refused the line`));
    socket.onclose = ({ code, reason }) => {
      clearTimeout(silence);
      mux.close();
      reject(new Error(`${url} closed the line (${code} ${reason})`));
      if (!line) return;
      this.#lines.delete(line.replica);
      this.log.info({ replica: line.replica, code }, "the line to the control plane ended");
      this.#wake();
    };
    return promise;
  }
}

/** Ends a line whose other end does not answer any more; browsers, whose types are in force here, have no such method. */
const hangUp = (socket: WebSocket): void => (socket as unknown as { terminate(): void }).terminate();

/** Connects a lane to this agent's own listener. */
function connect(lane: Lane, port: number): void {
  Bun.connect({
    ...{ hostname: "127.0.0.1", port },
    socket: {
      open: (socket) => lane.opened(socket),
      data: (_, bytes) => lane.received(bytes),
      drain: () => lane.drained(),
      close: () => lane.closed(),
      error: () => lane.closed(),
      connectError: () => lane.closed(),
    },
  }).catch(() => lane.closed());
}
