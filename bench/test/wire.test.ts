import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Encoding, OutputCounter, startBody } from "../lib/connect.ts";
import { AnswerReader, Connection, request } from "../lib/http.ts";

/** The bytes in pieces, cut where fast-check likes. */
const cutting = (bytes: Uint8Array) =>
  fc.array(fc.nat(bytes.length), { maxLength: 12 }).map((cuts) => {
    const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
    return at.slice(1).map((end, i) => bytes.slice(at[i], end));
  });

const envelope = (flags: number, message: Uint8Array): Uint8Array => {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
};
const json = (value: unknown, flags = 0) => envelope(flags, Buffer.from(JSON.stringify(value)));
const data = (bytes: number) => json({ event: { data: { stdout: Buffer.alloc(bytes, 7).toString("base64") } } });

describe("OutputCounter", () => {
  const end = json({ event: { end: { exited: true, status: "exit status 0" } } });
  const whole = Buffer.concat([json({ event: { start: { pid: 7 } } }), data(1), data(2), data(300), end, json({}, 2)]);

  test("counts output exactly however the stream is cut", () => {
    fc.assert(
      fc.property(cutting(whole), (pieces) => {
        const counter = new OutputCounter("json");
        for (const piece of pieces) counter.take(piece);
        counter.expect(303);
      }),
    );
  });

  test("counts output of protobuf", () => {
    const counter = new OutputCounter("proto");
    const output = Buffer.alloc(200, 1);
    // StartResponse{event{data{stdout}}}: field 1, field 2, field 1, each with a two-byte length.
    const inner = Buffer.concat([Buffer.of(0x0a, 0xc8, 0x01), output]);
    const middle = Buffer.concat([Buffer.of(0x12, 0xcb, 0x01), inner]);
    counter.take(envelope(0, Buffer.concat([Buffer.of(0x0a, 0xce, 0x01), middle])));
    counter.take(envelope(0, Buffer.of(0x0a, 0x04, 0x1a, 0x02, 0x10, 0x01))); // end, exited, exit code 0
    counter.take(json({}, 2));
    counter.expect(200);
  });

  test("refuses lost output, a failed process, a stream without end, and an error", () => {
    const after = (...messages: Uint8Array[]) => {
      const counter = new OutputCounter("json");
      for (const message of messages) counter.take(message);
      return counter;
    };
    expect(() => after(data(5), end, json({}, 2)).expect(6)).toThrow("5 bytes");
    expect(() => after(json({ event: { end: { exitCode: 1 } } }), json({}, 2)).expect(0)).toThrow("exit code 0");
    expect(() => after(end).expect(0)).toThrow("end event");
    expect(() => after(json({ error: { code: "unknown" } }, 2))).toThrow("error");
  });
});

describe("AnswerReader", () => {
  const chunked = Buffer.from(
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
  );
  const sized = Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
  const empty = Buffer.from("HTTP/1.1 204 No Content\r\n\r\n");

  for (const [name, bytes, text] of [
    ["chunked", chunked, "hello0123456789"],
    ["sized", sized, "hello"],
    ["empty", empty, ""],
  ] as const)
    test(`reads a ${name} body however it is cut, and knows its end`, () => {
      fc.assert(
        fc.property(cutting(bytes), (pieces) => {
          const reader = new AnswerReader();
          let body = "";
          let isDone = false;
          for (const piece of pieces) {
            if (piece.length === 0) continue;
            expect(isDone).toBe(false);
            isDone = reader.read(piece, (part) => {
              body += Buffer.from(part).toString();
            });
          }
          expect({ isDone, body, bytes: reader.bytes }).toEqual({ isDone: true, body: text, bytes: text.length });
        }),
      );
    });
});

describe("Connection", () => {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    routes: {
      "/size": async (incoming) => new Response(`${(await incoming.arrayBuffer()).byteLength}`),
      "/start": async (incoming) => new Response(Buffer.from(await incoming.arrayBuffer()).toString("hex")),
    },
    fetch: () => new Response("no", { status: 404 }),
  });
  afterAll(() => server.stop(true));

  test("sends a large body in pieces, and many requests on one connection", async () => {
    using to = await Connection.open(server.port!);
    const piece = new Uint8Array(1 << 20);
    const body = { length: 8 << 20, pieces: () => Array.from({ length: 8 }, () => piece) };
    for (let i = 0; i < 3; i++) {
      let text = "";
      const take = (bytes: Uint8Array) => {
        text += Buffer.from(bytes).toString();
      };
      await to.send(request("POST /size", {}, body.length), take, body);
      expect(text).toBe(`${8 << 20}`);
    }
  });

  test("throws for an answer that is no success", async () => {
    using to = await Connection.open(server.port!);
    await expect(to.send(request("GET /absent"))).rejects.toThrow("status 404");
  });

  test.each(["json", "proto"] as Encoding[])("a start as %s arrives whole", async (encoding) => {
    using to = await Connection.open(server.port!);
    const body = startBody(encoding, "/bin/true", ["x"]);
    const { bytes } = await to.send(request("POST /start", {}, body));
    expect(bytes).toBe(body.length * 2);
  });
});
