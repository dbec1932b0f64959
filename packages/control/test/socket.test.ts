import { expect, test } from "bun:test";
import { connect } from "node:net";
import { Outlet } from "../src/edges/socket.ts";

test("whoever sends to a client that does not read waits, each of several, until it reads again", async () => {
  const opened = Promise.withResolvers<Outlet>();
  const server = Bun.serve<never>({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request, self) => (self.upgrade(request, { data: undefined as never }) ? undefined : new Response()),
    websocket: {
      backpressureLimit: 64 * 2 ** 20,
      open: (socket) => opened.resolve(new Outlet(socket)),
      message: () => {},
      drain: async () => (await opened.promise).drained(),
    },
  });
  const client = connect(server.port!, "127.0.0.1");
  const key = Buffer.alloc(16).toString("base64");
  client.write(
    `GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n\r\n`,
  );
  await new Promise((resolve) => client.once("data", resolve));
  client.pause();

  const outlet = await opened.promise;
  const text = "a".repeat(4 * 2 ** 20); // more than the kernel keeps of a connection
  let waiting = 0;
  const sent = [1, 2, 3].map(async () => {
    waiting++;
    await outlet.send(text);
    waiting--;
  });
  expect(waiting).toBeGreaterThan(1);
  client.on("data", () => {});
  client.resume();
  await Promise.all(sent);
  client.destroy();
  await server.stop(true);
});
