/** Runs in the world outside: answers HTTP on every address, with the key it is shown, and name queries for the names below. */
import { world } from "./wan.ts";

const names: Record<string, string> = {
  "good.test": world.internet,
  "elsewhere.test": world.elsewhere,
  "rebind.test": world.metadata,
};

Bun.serve({
  hostname: "0.0.0.0",
  port: 80,
  fetch: ({ headers }) => {
    const key = headers.get("x-key");
    return new Response(key ? `world with ${key}` : "world", { headers: { connection: "close" } });
  },
});

const socket = await Bun.udpSocket({
  hostname: "0.0.0.0",
  port: 53,
  socket: {
    data(_, query, port, address) {
      let at = 12;
      const labels: string[] = [];
      for (let length = query[at]!; length; length = query[at]!) {
        labels.push(query.subarray(at + 1, at + 1 + length).toString());
        at += 1 + length;
      }
      const ip = names[labels.join(".").toLowerCase()];
      const isA = query.readUInt16BE(at + 1) === 1;
      const head = Buffer.from(query.subarray(0, at + 5));
      head.writeUInt16BE(ip ? 0x8180 : 0x8183, 2);
      head.writeUInt16BE(ip && isA ? 1 : 0, 6);
      head.fill(0, 8, 12);
      const record = Buffer.from([
        0xc0,
        12,
        0,
        1,
        0,
        1,
        0,
        0,
        0,
        60,
        0,
        4,
        ...(ip ?? "0.0.0.0").split(".").map(Number),
      ]);
      socket.send(ip && isA ? Buffer.concat([head, record]) : head, port, address);
    },
  },
});
