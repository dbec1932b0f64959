import { connect as dial, type Socket } from "node:net";
import type { Tally } from "./ledger.ts";

/** Servers that take longer are as good as away. */
export const connectTimeoutMs = 30_000;

/** A connection to a server. Throws when it does not come about in time. */
export function connectTo(ip: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const server = dial({ host: ip, port, allowHalfOpen: true, noDelay: true });
    const timer = setTimeout(() => server.destroy(new Error("timed out")), connectTimeoutMs);
    const settle = () => clearTimeout(timer);
    server.once("connect", () => {
      settle();
      resolve(server);
    });
    server.on("error", (error) => {
      settle();
      reject(error);
    });
  });
}

/** Carries bytes both ways, each as fast as the other side takes them; one side's end is told to the other. */
export function splice(client: Socket, server: Socket, flow?: Tally): void {
  if (flow) {
    client.on("data", (chunk: Buffer) => {
      flow.sentBytes! += chunk.length;
    });
    server.on("data", (chunk: Buffer) => {
      flow.receivedBytes! += chunk.length;
    });
  }
  client.pipe(server);
  server.pipe(client);
  for (const [one, other] of [
    [client, server],
    [server, client],
  ] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}
