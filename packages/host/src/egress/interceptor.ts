import { rm } from "node:fs/promises";
import { connect as dial, type Socket } from "node:net";
import { createServer, connect as dialTls, type Server, type TLSSocket } from "node:tls";
import { randomId } from "@wrenn/contract";
import type { Logger } from "pino";
import { issue, type KeyPair } from "./authority.ts";
import { readHead, withHeaders } from "./head.ts";
import type { Ledger } from "./ledger.ts";
import type { Judge } from "./policy.ts";
import type { Resolver } from "./resolver.ts";
import { connectTimeoutMs, splice } from "./splice.ts";

/** Names that certificates are made for at once: a rule for every name below one lets a guest make up as many as it likes. */
const mostNames = 256;

/** Whom a connection is for. */
type Target = { readonly name: string; readonly port: number; readonly secure: boolean };

/**
 * Ends the TLS of connections to hosts that a rule names, with certificates of the sandbox's own authority, and sets
 * headers on their requests. Each connection carries one request, so that every request is looked at and no body needs
 * to be read; what follows the head passes as it comes, WebSockets too.
 */
export class Interceptor implements AsyncDisposable {
  readonly #servers = new Map<string, Promise<{ server: Server; path: string }>>();
  readonly #open = new Map<Socket, Target>();

  constructor(
    /** `dir` is a folder that only this agent may look into. */
    readonly ground: { readonly resolver: Resolver; readonly dir: string; readonly log: Logger },
    private judge: Judge,
    readonly authority: KeyPair,
    readonly ledger: Ledger,
  ) {}

  /** Decides by another policy from now on; connections that it no longer rewrites or allows end. */
  use(judge: Judge): void {
    this.judge = judge;
    for (const [socket, { name }] of this.#open) if (!judge.rewrites(name)) socket.destroy();
  }

  /** Takes over a connection whose first bytes wait to be read. */
  async take(client: Socket, target: Target): Promise<void> {
    this.#open.set(client, target);
    client.once("close", () => this.#open.delete(client));
    if (!target.secure) return await this.#exchange(client, target);
    const { path } = await this.#serverFor(target);
    const inner = dial({ path, allowHalfOpen: true });
    inner.on("error", () => client.destroy());
    splice(client, inner);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#open.keys()) socket.destroy();
    for (const serving of this.#servers.values()) await serving.then(close, () => {});
  }

  /** The server with this name's certificate. A socket file of its own tells which name a connection to it is for. */
  #serverFor(target: Target): Promise<{ server: Server; path: string }> {
    const key = `${target.name}:${target.port}`;
    const known = this.#servers.get(key);
    if (known) return known;
    if (this.#servers.size >= mostNames) {
      const [oldest, serving] = this.#servers.entries().next().value!;
      this.#servers.delete(oldest);
      void serving.then(close, () => {});
    }
    const serving = this.#listen(target);
    this.#servers.set(key, serving);
    serving.catch(() => this.#servers.delete(key));
    return serving;
  }

  async #listen(target: Target): Promise<{ server: Server; path: string }> {
    const pair = await issue(this.authority, target.name);
    const server = createServer({ ...pair, ALPNProtocols: ["http/1.1"] }, (socket) => {
      this.#exchange(socket, target).catch((error) => {
        this.ground.log.debug({ error, host: target.name }, "a guest's request failed");
        socket.destroy();
      });
    });
    server.on("tlsClientError", () => {}); // the guest does not trust the authority, or speaks no TLS that we do
    const path = `${this.ground.dir}/${randomId()}.sock`;
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(path, resolve));
    return { server, path };
  }

  /** Sends one request on, with its headers set, and everything after it as it comes. */
  async #exchange(client: Socket | TLSSocket, target: Target): Promise<void> {
    client.on("error", () => client.destroy());
    const { name, port, secure } = target;
    const head = await readHead(client);
    if (typeof head === "string") return answer(client, "400 Bad Request", head);
    if (head.host !== name) return answer(client, "421 Misdirected Request", `The request is not for ${name}.`);
    const ip = await this.#addressOf(name);
    if (ip === undefined) {
      this.ledger.denied({ host: name, ip: "", port });
      return answer(client, "403 Forbidden", `The network policy of this sandbox does not allow ${name}.`);
    }
    const server = await open({ name, port, secure }, ip).catch((error: Error) => error);
    if (server instanceof Error) return answer(client, "502 Bad Gateway", `${name}: ${server.message}`);
    if (client.destroyed) return void server.destroy();
    server.write(withHeaders(head, this.judge.headersFor(name)));
    splice(client, server, this.ledger.allowed({ host: name, ip, port }));
  }

  async #addressOf(name: string): Promise<string | undefined> {
    return (await this.ground.resolver.addresses(name)).find((ip) => this.judge.mayEndAt({ ip, name }));
  }
}

/** A connection to the real server: with TLS, to one that proves its name. */
function open({ name, port, secure }: Target, ip: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const how = { host: ip, port, noDelay: true };
    const server: Socket = secure ? dialTls({ ...how, servername: name, ALPNProtocols: ["http/1.1"] }) : dial(how);
    const timer = setTimeout(() => server.destroy(new Error("timed out")), connectTimeoutMs);
    server.once(secure ? "secureConnect" : "connect", () => {
      clearTimeout(timer);
      resolve(server);
    });
    server.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}

function answer(client: Socket, status: string, text: string): void {
  const body = `${text}\n`;
  const lines = [`HTTP/1.1 ${status}`, "content-type: text/plain", `content-length: ${Buffer.byteLength(body)}`];
  client.end(`${lines.join("\r\n")}\r\nconnection: close\r\n\r\n${body}`);
}

async function close({ server, path }: { server: Server; path: string }): Promise<void> {
  server.close();
  await rm(path, { force: true });
}
