import { afterAll, expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { closePorts, openPort } from "../src/ports.ts";

afterAll(closePorts);
const own = Object.values(networkInterfaces())
  .flat()
  .find((one) => one?.family === "IPv4" && !one.internal)?.address;
const outside = own ? test : test.skip;
const why = own ? "" : " — skipped: this machine has no address but loopback";

test("a port on which nothing listens is not open", () => {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const { port } = server;
  server.stop(true);
  expect(openPort(port!)).toBe(false);
});

test("what listens on every address needs no relay", async () => {
  using server = Bun.serve({ port: 0, hostname: "0.0.0.0", fetch: () => new Response("direct") });
  expect(openPort(server.port!)).toBe(true);
  expect(await (await fetch(`http://127.0.0.1:${server.port}/`)).text()).toBe("direct");
});

outside(`what listens on the loopback only is reached from outside, both ways and whole${why}`, async () => {
  const big = new Uint8Array(24 << 20).map((_, i) => i * 7);
  using server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    maxRequestBodySize: 1 << 30,
    fetch: async (request) => new Response(await request.bytes()),
  });
  expect(openPort(server.port!)).toBe(true);
  expect(openPort(server.port!)).toBe(true);
  const answer = await fetch(`http://${own}:${server.port}/`, { method: "POST", body: big });
  expect(Bun.SHA256.hash(await answer.bytes(), "hex")).toBe(Bun.SHA256.hash(big, "hex"));
});
