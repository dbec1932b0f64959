/**
 * A bare HTTP/1.1 client on one kept-alive connection: a request is bytes that were made before, an answer is counted
 * rather than built. `fetch` costs a tenth of a millisecond, which is more than some of what is measured here.
 */

/** What arrived of an answer. */
export type Answer = { status: number; bytes: number };

/** Takes the body as it comes. The bytes are only good during the call. */
export type Sink = (bytes: Uint8Array) => void;

/** A body of `length` bytes that is sent piece by piece. */
export type Source = { length: number; pieces: () => Iterable<Uint8Array> };

type Pending = { sink: Sink | undefined; resolve: (answer: Answer) => void; reject: (error: Error) => void };

const lineEnd = Buffer.from("\r\n");
const headEnd = Buffer.from("\r\n\r\n");

/** One request as bytes; `body` may be sent afterwards, by {@link Connection.send}. */
export function request(
  line: string,
  headers: Readonly<Record<string, string>> = {},
  body: Uint8Array | number = 0,
): Uint8Array {
  const length = typeof body === "number" ? body : body.byteLength;
  const all = { Host: "bench", ...headers, ...(line.startsWith("GET") ? {} : { "Content-Length": String(length) }) };
  const head = `${line} HTTP/1.1\r\n${Object.entries(all)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join("")}\r\n`;
  return typeof body === "number" ? Buffer.from(head) : Buffer.concat([Buffer.from(head), body]);
}

/** A connection that has one request under way at a time. */
export class Connection implements Disposable {
  #socket!: import("bun").Socket;
  #pending: Pending | undefined;
  #reader = new AnswerReader();
  #unsent: Uint8Array | undefined;
  #pieces: Iterator<Uint8Array> | undefined;

  private constructor() {}

  /** Connects to `127.0.0.1:port`. */
  static async open(port: number): Promise<Connection> {
    const connection = new Connection();
    connection.#socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        data: (_, bytes) => connection.#receive(bytes),
        drain: () => connection.#push(),
        close: () => connection.#fail(new Error(`port ${port} closed the connection`)),
        error: (_, error) => connection.#fail(error),
      },
    });
    connection.#socket.setNoDelay(true);
    return connection;
  }

  /** Sends a request and waits for the end of its answer. Throws for every status but 200 and 204. */
  async send(head: Uint8Array, sink?: Sink, body?: Source): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#pending = { sink, resolve, reject };
    this.#reader = new AnswerReader();
    this.#unsent = head;
    this.#pieces = body?.pieces()[Symbol.iterator]();
    this.#push();
    const answer = await promise;
    if (answer.status === 200 || answer.status === 204) return answer;
    throw new Error(`the answer has status ${answer.status}: ${Buffer.from(head).toString().split("\r\n")[0]}`);
  }

  [Symbol.dispose](): void {
    this.#socket.terminate();
  }

  /** Writes until the socket takes no more; the rest follows when it drains. */
  #push(): void {
    for (;;) {
      if (!this.#unsent) {
        const next = this.#pieces?.next();
        if (!next || next.done) return;
        this.#unsent = next.value;
      }
      const written = this.#socket.write(this.#unsent);
      if (written < 0) return;
      if (written < this.#unsent.byteLength) {
        this.#unsent = this.#unsent.subarray(written);
        return;
      }
      this.#unsent = undefined;
    }
  }

  #receive(bytes: Uint8Array): void {
    const pending = this.#pending;
    if (!pending) return;
    try {
      if (!this.#reader.read(bytes, pending.sink)) return;
      this.#pending = undefined;
      pending.resolve({ status: this.#reader.status, bytes: this.#reader.bytes });
    } catch (thrown) {
      this.#fail(thrown as Error);
    }
  }

  #fail(error: Error): void {
    this.#pending?.reject(error);
    this.#pending = undefined;
  }
}

/** Reads one answer: head, then a body of known length or in chunks (RFC 9112, section 7.1). */
export class AnswerReader {
  status = 0;
  /** Body bytes so far. */
  bytes = 0;
  #rest: Buffer = Buffer.alloc(0);
  #left = 0;
  #isChunked = false;
  #state: "head" | "body" | "size" | "chunk" | "chunk end" | "trailer" = "head";

  /** Takes what arrived; true when the answer is complete. */
  read(bytes: Uint8Array, sink: Sink | undefined): boolean {
    let data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (this.#rest.length > 0) data = Buffer.concat([this.#rest, data]);
    this.#rest = Buffer.alloc(0);
    for (let at = 0; ; ) {
      if (this.#state === "body" || this.#state === "chunk") {
        const part = Math.min(this.#left, data.length - at);
        if (part > 0) sink?.(data.subarray(at, at + part));
        this.bytes += part;
        this.#left -= part;
        at += part;
        if (this.#left > 0) return false;
        if (this.#state === "body") return true;
        this.#state = "chunk end";
      }
      const end = data.indexOf(this.#state === "head" ? headEnd : lineEnd, at);
      if (end < 0) {
        this.#rest = Buffer.from(data.subarray(at)); // a copy: the socket uses its buffer again
        return false;
      }
      const line = data.toString("latin1", at, end);
      at = end + (this.#state === "head" ? headEnd.length : lineEnd.length);
      if (this.#step(line)) return true;
    }
  }

  /** Takes a head or a line between chunks; true when nothing follows. */
  #step(line: string): boolean {
    switch (this.#state) {
      case "head":
        return this.#takeHead(line);
      case "size":
        this.#left = Number.parseInt(line, 16);
        if (Number.isNaN(this.#left)) throw new Error(`"${line.slice(0, 20)}" is no chunk size`);
        this.#state = this.#left === 0 ? "trailer" : "chunk";
        return false;
      case "chunk end":
        this.#state = "size";
        return false;
      default:
        return line === "";
    }
  }

  #takeHead(head: string): boolean {
    this.status = Number(head.slice(9, 12));
    this.#isChunked = /^transfer-encoding: *chunked/im.test(head);
    this.#left = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
    this.#state = this.#isChunked ? "size" : "body";
    return !this.#isChunked && this.#left === 0;
  }
}
