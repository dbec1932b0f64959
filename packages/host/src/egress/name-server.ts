import { isIPv4 } from "node:net";
import type { Logger } from "pino";
import { isBelowFloor } from "../drivers/floor.ts";
import { addressesIn, questionOf, refusal } from "../drivers/netns/names.ts";

/** What a query's answer may be, by who asks. */
export type NameRules = {
  /** Whether the guest behind this address may ask for this name. */
  allows(peerIp: string, name: string): boolean;
};

/** Resolvers answer within a second or not at all; guests ask again by themselves after five. */
const timeoutMs = 4_000;

/** More queries under way than this are a flood: the oldest are forgotten. */
const mostPending = 1_024;

type Pending = { readonly query: Uint8Array; readonly answer: (message: Uint8Array) => void };

/** A port must be free for datagrams and for streams. */
const portTries = 20;

/**
 * The guests' name service: hands queries on to this machine's resolvers, by UDP and TCP, and refuses answers that point
 * below the floor.
 */
export class NameServer implements AsyncDisposable {
  readonly #pending = new Map<number, Pending>();

  private constructor(
    readonly resolvers: readonly string[],
    readonly rules: NameRules,
    readonly log: Logger,
    readonly where: { readonly hostname: string; readonly resolverPort: number },
  ) {}

  #udp!: Bun.udp.Socket<"buffer">;
  #upstream!: Bun.udp.Socket<"buffer">;
  #tcp!: Bun.TCPSocketListener<{ rest: Uint8Array }>;

  /** Serves on one port, which the system picks, of all addresses or one; firewall rules keep it to the guests. */
  static async start(
    resolvers: readonly string[],
    rules: NameRules,
    log: Logger,
    { resolverPort = 53, hostname = "0.0.0.0" }: { resolverPort?: number | undefined; hostname?: string } = {},
  ): Promise<NameServer> {
    const server = new NameServer(resolvers.filter(isIPv4), rules, log, { hostname, resolverPort });
    server.#upstream = await Bun.udpSocket({
      socket: { data: (_, message) => server.#fromResolver(message) },
    });
    for (let left = portTries; !server.#udp; left--)
      await server.#listen().catch((thrown) => {
        server.#tcp.stop(true);
        if (left === 0 || (thrown as NodeJS.ErrnoException).code !== "EADDRINUSE") throw thrown;
      });
    return server;
  }

  /** Throws with `EADDRINUSE` when somebody has the port for datagrams that the system gave for streams. */
  async #listen(): Promise<void> {
    this.#tcp = Bun.listen<{ rest: Uint8Array }>({
      hostname: this.where.hostname,
      port: 0,
      socket: {
        open: (socket) => {
          socket.data = { rest: new Uint8Array() };
          socket.timeout(10);
        },
        data: (socket, bytes) => void this.#fromStream(socket, bytes),
      },
    });
    this.#udp = await Bun.udpSocket({
      hostname: this.where.hostname,
      port: this.#tcp.port,
      socket: {
        data: (socket, message, port, address) =>
          void this.#ask(plain(message), address).then((answer) => answer && socket.send(answer, port, address)),
      },
    });
  }

  get port(): number {
    return this.#udp.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#udp.close();
    this.#upstream.close();
    this.#tcp.stop(true);
  }

  async #fromStream(socket: Bun.Socket<{ rest: Uint8Array }>, bytes: Uint8Array): Promise<void> {
    const all = Buffer.concat([socket.data.rest, bytes]);
    const length = all.length >= 2 ? all.readUInt16BE(0) : Number.POSITIVE_INFINITY;
    socket.data.rest = all.length >= 2 + length ? all.subarray(2 + length) : all;
    if (all.length < 2 + length) return void (all.length > 4_096 && socket.end());
    const answer = await this.#ask(plain(all.subarray(2, 2 + length)), socket.remoteAddress);
    if (!answer) return void socket.end();
    const head = Buffer.alloc(2);
    head.writeUInt16BE(answer.length);
    socket.write(Buffer.concat([head, answer]));
  }

  /** The answer for one guest; `undefined` when there is none. */
  async #ask(query: Uint8Array, peerIp: string): Promise<Uint8Array | undefined> {
    const name = questionOf(query);
    if (name === undefined) return undefined;
    const resolver = this.resolvers[0];
    if (!resolver || !this.rules.allows(peerIp, name)) return refusal(query);
    const answer = await this.#forward(query.slice(), resolver);
    if (!answer) return undefined;
    try {
      if (addressesIn(answer).some(({ ip }) => isBelowFloor(ip))) return refusal(query);
    } catch (error) {
      this.log.debug({ error, name }, "an answer that cannot be read");
      return refusal(query);
    }
    return answer;
  }

  async #forward(query: Uint8Array, resolver: string): Promise<Uint8Array | undefined> {
    const id = this.#freeId();
    const theirs = query.slice(0, 2);
    new DataView(query.buffer).setUint16(0, id);
    const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
    this.#pending.set(id, { query, answer: resolve });
    if (this.#pending.size > mostPending) this.#pending.delete(this.#pending.keys().next().value!);
    const timer = setTimeout(() => resolve(undefined), timeoutMs);
    this.#upstream.send(query, this.where.resolverPort, resolver);
    const answer = await promise;
    clearTimeout(timer);
    this.#pending.delete(id);
    if (answer) answer.set(theirs, 0);
    return answer;
  }

  /** Ids of our own that nobody can guess: two guests may choose the same, and an answer must not be forged. */
  #freeId(): number {
    for (;;) {
      const [id] = crypto.getRandomValues(new Uint16Array(1));
      if (!this.#pending.has(id!)) return id!;
    }
  }

  #fromResolver(message: Uint8Array): void {
    const pending = this.#pending.get((message[0]! << 8) | message[1]!);
    if (pending && questionOf(message) === questionOf(pending.query)) pending.answer(plain(message));
  }
}

/** A copy: `slice` of what the runtime gives, a Buffer, would be a view of its memory. */
const plain = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes);
