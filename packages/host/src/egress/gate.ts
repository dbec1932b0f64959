import { createServer, type Server, type Socket } from "node:net";
import type { Logger } from "pino";
import type { NetPolicy } from "../drivers/ports.ts";
import { Interceptor } from "./interceptor.ts";
import { Ledger } from "./ledger.ts";
import { NameServer } from "./name-server.ts";
import { originalTarget } from "./original.ts";
import { Judge } from "./policy.ts";
import type { Resolver } from "./resolver.ts";
import { type Hello, readHello } from "./sniff.ts";
import { connectTo, splice } from "./splice.ts";

/** A client says whom it wants within a round trip; one that waits for the server to speak first is told apart by this. */
const helloTimeoutMs = 10_000;
/** Connections of one guest at once: enough for a crawler, not for filling this agent's table of descriptors. */
const maxConnections = 1_024;

/** What gates stand on. */
export type GateGround = {
  readonly resolver: Resolver;
  /** Addresses of this machine's name servers. */
  readonly nameservers: readonly string[];
  /** A folder that only this agent may look into. */
  readonly dir: string;
  readonly log: Logger;
};

/** Where a gate listens: on an address, that exists where `within` does what it is given. */
export type GatePlace = { readonly hostname: string; within<T>(act: () => T): T };

/** This machine's loopback, to which rules for each user lead. */
const loopback: GatePlace = { hostname: "127.0.0.1", within: (act) => act() };

/** Where a connection that was looked into goes. */
type Way = { readonly hello: Hello; readonly ip: string; readonly port: number };

/**
 * What a guest's connections go through when its policy names hosts. It reads whom a connection is for without ending
 * TLS, resolves that name itself, so that no answer of a guest's choosing counts, and carries bytes both ways.
 */
export class Gate implements AsyncDisposable {
  readonly ledger = new Ledger();
  readonly #open = new Map<Socket, { way: Way; name: string | undefined }>();
  #judge: Judge;
  #interceptor: Interceptor | undefined;
  #server!: Server;
  #names: NameServer | undefined;

  private constructor(
    readonly ground: GateGround,
    policy: NetPolicy,
  ) {
    this.#judge = new Judge(policy);
  }

  /** Opens a gate on ports of this machine's loopback, one of them for questions for names. */
  static async open(ground: GateGround, policy: NetPolicy): Promise<Gate> {
    const gate = await Gate.openAt(loopback, ground, policy);
    const rules = { allows: (_: string, name: string) => gate.mayAsk(name) };
    const { hostname } = loopback;
    gate.#names = await NameServer.start(ground.nameservers, rules, ground.log, { hostname });
    return gate;
  }

  /** Opens one on a port of some place; questions for names are somebody else's, who asks `mayAsk`. */
  static async openAt({ hostname, within }: GatePlace, ground: GateGround, policy: NetPolicy): Promise<Gate> {
    const gate = new Gate(ground, policy);
    await gate.use(policy);
    gate.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => void gate.#serve(socket));
    gate.#server.maxConnections = maxConnections;
    await new Promise<void>((resolve, reject) => {
      gate.#server.once("error", reject);
      within(() => gate.#server.listen(0, hostname, resolve));
    });
    return gate;
  }

  /** The port to which the guest's connections are led. */
  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** The ports to which the guest's connections and its questions for names are led. */
  get ports(): { tcp: number; names: number } {
    return { tcp: this.port, names: this.#names!.port };
  }

  /** Puts a policy in force. Connections that it forbids end. */
  async use(policy: NetPolicy): Promise<void> {
    const { authority } = policy;
    this.#judge = new Judge(policy);
    if (authority && this.#interceptor?.authority.cert === authority.cert) this.#interceptor.use(this.#judge);
    else {
      const former = this.#interceptor;
      this.#interceptor = authority && new Interceptor(this.ground, this.#judge, authority, this.ledger);
      await former?.[Symbol.asyncDispose]();
    }
    for (const [socket, { way, name }] of this.#open)
      if (this.#judge.decide({ ip: way.ip, name }) === "denied") socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#open.keys()) socket.destroy();
    this.#server.close();
    await this.#names?.[Symbol.asyncDispose]();
    await this.#interceptor?.[Symbol.asyncDispose]();
  }

  /** Whether the guest may ask for this name; that it may not is noted down. */
  mayAsk(name: string): boolean {
    if (this.#judge.mayAsk(name)) return true;
    this.ledger.denied({ host: name, ip: "", port: 53 }, "udp"); // names are asked for by either; this is the usual one
    return false;
  }

  async #serve(client: Socket): Promise<void> {
    client.on("error", () => client.destroy());
    const target = originalTarget(client);
    if (!target) return void client.destroy(); // nobody was led here
    const hello = await firstWords(client);
    if (client.destroyed) return;
    const way = { ...target, hello };
    const name = hello.kind === "other" ? undefined : hello.name;
    this.#open.set(client, { way, name });
    client.once("close", () => this.#open.delete(client));
    try {
      await this.#lead(client, way, name);
    } catch (error) {
      this.ground.log.debug({ error, host: name, ip: way.ip, port: way.port }, "a guest's connection failed");
      client.destroy();
    }
  }

  async #lead(client: Socket, way: Way, name: string | undefined): Promise<void> {
    const decision = this.#judge.decide({ ip: way.ip, name });
    if (decision === "denied") return this.#deny(client, way, name);
    if (decision === "name" && this.#interceptor && this.#judge.rewrites(name!))
      return await this.#interceptor.take(client, { name: name!, port: way.port, secure: way.hello.kind === "tls" });
    const ip = decision === "address" ? way.ip : await this.#addressOf(name!, way.ip);
    if (ip === undefined || client.destroyed) return this.#deny(client, way, name);
    const server = await connectTo(ip, way.port);
    splice(client, server, this.ledger.allowed({ host: name ?? "", ip, port: way.port }));
  }

  /** An address of this name that the guest may reach; the one it chose itself where that is one of them. */
  async #addressOf(name: string, chosen: string): Promise<string | undefined> {
    const found = (await this.ground.resolver.addresses(name)).filter((ip) => this.#judge.mayEndAt({ ip, name }));
    return found.includes(chosen) ? chosen : found[0];
  }

  #deny(client: Socket, { ip, port, hello }: Way, name: string | undefined): void {
    this.ledger.denied({ host: name ?? "", ip, port });
    client.end(hello.kind === "tls" ? accessDenied : hello.kind === "http" ? forbidden : "");
    client.once("finish", () => client.destroy());
  }
}

/** A fatal alert, `access_denied` (RFC 8446, section 6.2). */
const accessDenied = Buffer.from([21, 3, 1, 0, 2, 2, 49]);
const said = "The network policy of this sandbox does not allow this host.\n";
const forbidden = `HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\ncontent-length: ${said.length}\r\nconnection: close\r\n\r\n${said}`;

/** Reads until it is clear whom a connection is for; what was read is put back. */
function firstWords(client: Socket): Promise<Hello> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const settle = (hello: Hello) => {
      clearTimeout(timer);
      client.pause();
      client.off("data", look).off("end", ended).off("close", ended);
      if (chunks.length > 0 && !client.destroyed) client.unshift(Buffer.concat(chunks));
      resolve(hello);
    };
    const ended = () => settle({ kind: "other" });
    const look = (chunk: Buffer) => {
      chunks.push(chunk);
      const hello = readHello(Buffer.concat(chunks));
      if (hello) settle(hello);
    };
    const timer = setTimeout(ended, helloTimeoutMs);
    client.on("data", look).on("end", ended).on("close", ended);
  });
}
