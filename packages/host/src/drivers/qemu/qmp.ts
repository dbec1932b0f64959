import { WrennError } from "@wrenn/contract";
import { withSocketPath } from "../../socket-path.ts";

/** How long QEMU may take to answer one command: each is in-memory work, so more means it is stuck. */
const answerTimeoutMs = 15_000;

type Waiting = { resolve: (value: unknown) => void; reject: (error: Error) => void };
type Reply = {
  return?: unknown;
  error?: { class: string; desc: string };
  event?: string;
  data?: { reason?: string };
  id?: number;
};

/** A client of QEMU's machine protocol on a unix socket (QEMU documentation, "QMP specification"). */
export class Qmp implements AsyncDisposable {
  readonly #waiting = new Map<number, Waiting>();
  readonly #greeted = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  /** Why QEMU is about to end, in its own word (`ShutdownCause` of its documentation), once it said so. */
  shutdownReason: string | undefined;
  #socket: import("bun").Socket | undefined;
  #buffer = "";
  #next = 1;
  #unsent = "";

  private constructor() {
    this.#greeted.promise.catch(() => {}); // a connection that ends after its greeting rejects nothing that is awaited
  }

  /** Connects to `path`, which may not exist yet: tries until `alive` says that the process has ended. */
  static async connect(path: string, alive: () => boolean): Promise<Qmp> {
    const qmp = new Qmp();
    while (!qmp.#socket) {
      qmp.#socket = await withSocketPath(path, (short) => qmp.#open(short)).catch(() => undefined);
      if (qmp.#socket) break;
      if (!alive()) throw new WrennError("agent_error", "QEMU ended before it could be controlled");
      await Bun.sleep(1);
    }
    await withTimeout(qmp.#greeted.promise, "the greeting");
    await qmp.call("qmp_capabilities");
    return qmp;
  }

  /** Runs a command and gives its answer. Throws `agent_error` with QEMU's description. */
  async call<T = unknown>(execute: string, args: Record<string, unknown> = {}): Promise<T> {
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    this.#send(`${JSON.stringify({ execute, arguments: args, id })}\n`);
    try {
      return (await withTimeout(promise, execute)) as T;
    } finally {
      this.#waiting.delete(id);
    }
  }

  /** Runs a command of the human monitor, for what the machine protocol has no word for. */
  human(line: string): Promise<string> {
    return this.call<string>("human-monitor-command", { "command-line": line });
  }

  /** Settles when the connection has ended and all that came over it was read. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.end();
  }

  #open(path: string): Promise<import("bun").Socket> {
    return Bun.connect({
      unix: path,
      socket: {
        data: (_, bytes) => this.#receive(bytes.toString("utf8")),
        drain: () => this.#send(""),
        close: () => this.#end(),
        error: () => this.#end(),
      },
    });
  }

  #send(text: string): void {
    this.#unsent += text;
    if (!this.#socket || !this.#unsent) return;
    const written = this.#socket.write(this.#unsent); // commands are ASCII, so bytes and characters agree
    this.#unsent = written < 0 ? "" : this.#unsent.slice(written);
  }

  #receive(text: string): void {
    this.#buffer += text;
    for (let end = this.#buffer.indexOf("\n"); end >= 0; end = this.#buffer.indexOf("\n")) {
      const line = this.#buffer.slice(0, end).trim();
      this.#buffer = this.#buffer.slice(end + 1);
      if (line) this.#dispatch(JSON.parse(line) as Reply & { QMP?: unknown });
    }
  }

  #dispatch(reply: Reply & { QMP?: unknown }): void {
    if (reply.QMP) this.#greeted.resolve();
    if (reply.event === "SHUTDOWN") this.shutdownReason = reply.data?.reason;
    const waiting = reply.id === undefined ? undefined : this.#waiting.get(reply.id);
    if (reply.error) waiting?.reject(new WrennError("agent_error", `QEMU refused: ${reply.error.desc}`));
    else if (!reply.event) waiting?.resolve(reply.return);
  }

  #end(): void {
    const gone = new WrennError("agent_error", "QEMU closed its control socket");
    this.#greeted.reject(gone);
    this.#closed.resolve();
    for (const waiting of this.#waiting.values()) waiting.reject(gone);
    this.#waiting.clear();
  }
}

async function withTimeout<T>(promise: Promise<T>, what: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new WrennError("agent_error", `QEMU did not answer ${what} within ${answerTimeoutMs / 1000} s`)),
    answerTimeoutMs,
  );
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
