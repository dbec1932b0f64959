import { connect, createServer, type Server, type Socket } from "node:net";

/** A balancer without stickiness: each connection goes to the next of `addresses` that takes it. */
export class Balancer implements AsyncDisposable {
  readonly #sockets = new Set<Socket>();
  #turn = 0;

  private constructor(
    readonly server: Server,
    readonly addresses: readonly string[],
  ) {
    server.on("connection", (client) => this.#pass(client, addresses.length));
  }

  static async start(addresses: readonly string[]): Promise<Balancer> {
    const server = createServer();
    const balancer = new Balancer(server, addresses);
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    return balancer;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.server.address() as { port: number }).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #pass(client: Socket, triesLeft: number): void {
    const { hostname, port } = new URL(this.addresses[this.#turn++ % this.addresses.length]!);
    const server = connect(Number(port), hostname);
    let isOpen = false;
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    }
    client.on("error", () => server.destroy());
    client.on("close", () => server.destroy());
    server.on("connect", () => {
      isOpen = true;
      client.pipe(server).pipe(client);
    });
    server.on("error", () => {
      if (!isOpen && triesLeft > 1) this.#pass(client, triesLeft - 1);
      else client.destroy();
    });
    server.on("close", () => isOpen && client.destroy());
  }
}
