import { describe, expect, test } from "bun:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { EnvelopeReader, encodeEnvelope, maxMessageBytes } from "../src/connect/envelope.ts";
import { sh, until, useAgent } from "./support/agent.ts";
import { callStream, callUnary, envelope, envelopesOf } from "./support/raw.ts";

const agent = useAgent();
const start = (body: Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  callStream(`${agent.url}/process.Process/Start`, body, headers);
const list = (body: object | string, headers: Record<string, string> = {}) =>
  callUnary(`${agent.url}/process.Process/List`, body, headers);
const errorOf = async (response: Response) => (await envelopesOf(response)).at(-1)?.json.error;
const running = async () => ((await (await list({})).json()) as { processes?: unknown[] }).processes?.length ?? 0;

describe("property: the envelope reader gives back what was sent, however it was cut", () => {
  test("whole envelopes", () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 });
    fc.assert(
      fc.property(messages, fc.array(fc.nat(40), { minLength: 1 }), (sent, cuts) => {
        const bytes = Buffer.concat(sent.map((message) => encodeEnvelope(0, message)));
        const reader = new EnvelopeReader();
        const got: Uint8Array[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = Math.max(1, cuts[turn % cuts.length]!);
          reader.push(bytes.subarray(at, at + size));
          at += size;
          for (let found = reader.next(); found; found = reader.next()) got.push(found.message);
        }
        reader.finish();
        expect(got.map((message) => [...message])).toEqual(sent.map((message) => [...message]));
      }),
    );
  });

  test("any bytes either make envelopes or throw, and never more than was sent", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const reader = new EnvelopeReader();
        reader.push(bytes);
        let size = 0;
        try {
          for (let found = reader.next(); found; found = reader.next()) size += 5 + found.message.length;
          reader.finish();
          expect(size).toBe(bytes.length);
        } catch (thrown) {
          expect(["invalid_request", "too_large"]).toContain((thrown as { code: string }).code);
        }
      }),
    );
  });
});

describe("malformed streams end with an error and start nothing", () => {
  const huge = Buffer.alloc(5);
  huge.writeUInt32BE(maxMessageBytes + 1, 1);
  test.each([
    ["no bytes", Buffer.alloc(0), "invalid_argument"],
    ["half a header", Buffer.from([0, 0]), "invalid_argument"],
    ["half a message", envelope(sh("true")).subarray(0, 20), "invalid_argument"],
    ["a length over the limit", huge, "invalid_argument"],
    ["unknown flags", envelope(sh("true"), 0x40), "invalid_argument"],
    ["only an end", envelope("{}", 2), "invalid_argument"],
    ["no JSON", envelope("{oops"), "invalid_argument"],
    ["a wrong type", envelope({ process: { cmd: 5 } }), "invalid_argument"],
    ["no process", envelope({}), "invalid_argument"],
    ["an empty command", envelope({ process: { cmd: "" } }), "invalid_argument"],
    ["a compressed flag without a compression", envelope(sh("true"), 1), "invalid_argument"],
    ["UTF-8 that is none", envelope(Buffer.from([0x22, 0xff, 0x22]).toString("latin1")), "invalid_argument"],
  ])("%s", async (_title, body, code) => {
    const response = await start(Buffer.from(body));
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/connect+json");
    expect((await errorOf(response)).code).toBe(code);
    expect(await running()).toBe(0);
  });
});

test("gzip and identity are understood, in both kinds of call; other encodings are unimplemented", async () => {
  const packed = encodeEnvelope(1, gzipSync(JSON.stringify(sh("echo packed"))));
  const events = await envelopesOf(await start(packed, { "Connect-Content-Encoding": "gzip" }));
  expect(events.at(-2)?.json.event.end.status).toBe("exit status 0");
  const identity = await start(envelope(sh("true")), { "Connect-Content-Encoding": "identity" });
  expect((await envelopesOf(identity)).at(-1)?.json).toEqual({});
  expect((await errorOf(await start(envelope(sh("true")), { "Connect-Content-Encoding": "br" }))).code).toBe(
    "unimplemented",
  );
  expect((await list({}, { "Content-Encoding": "identity" })).status).toBe(200);
  const body = gzipSync("{}");
  const gzip = { "Content-Type": "application/json", "Content-Encoding": "gzip" };
  const answer = await fetch(`${agent.url}/process.Process/List`, { method: "POST", body, headers: gzip });
  expect(answer.status).toBe(200);
});

test("unary mistakes have a status and a body", async () => {
  const answer = await list("{oops");
  expect(answer.status).toBe(400);
  expect(((await answer.json()) as { code: string }).code).toBe("invalid_argument");
  expect((await list({}, { "Connect-Timeout-Ms": "soon" })).status).toBe(400);
  expect((await list({}, { "Content-Type": "text/plain" })).status).toBe(415);
  expect((await list({}, { "Content-Type": "application/connect+json" })).status).toBe(415);
  expect((await fetch(`${agent.url}/process.Process/List`)).status).toBe(405);
  expect((await list({ fromTheFuture: 1 })).status).toBe(200);
});

test("an unknown method is unimplemented, with a Connect body", async () => {
  const answer = await callUnary(`${agent.url}/process.Process/Nothing`, {});
  expect(answer.status).toBe(501);
  expect(await answer.json()).toMatchObject({ code: "unimplemented" });
});

test("a client stream writes its input in order and answers once", async () => {
  const started = await start(envelope({ process: { cmd: "cat" }, tag: "streamed" }));
  const input = (text: string) => envelope({ data: { input: { stdin: Buffer.from(text).toString("base64") } } });
  const body = Buffer.concat([
    envelope({ start: { process: { tag: "streamed" } } }),
    ...Array.from({ length: 100 }, (_, i) => input(`${i},`)),
    envelope({ keepalive: {} }),
  ]);
  const answer = await callStream(`${agent.url}/process.Process/StreamInput`, body);
  expect((await envelopesOf(answer)).map(({ json }) => json)).toEqual([{}, {}]);
  await callUnary(`${agent.url}/process.Process/CloseStdin`, { process: { tag: "streamed" } });
  const data = (await envelopesOf(started)).map(({ json }) => json.event?.data?.stdout ?? "");
  const text = data.map((part: string) => Buffer.from(part, "base64").toString()).join("");
  expect(text).toBe(Array.from({ length: 100 }, (_, i) => `${i},`).join(""));
});

test("a client stream without a start, or cut off, is refused", async () => {
  const call = (body: Uint8Array) => callStream(`${agent.url}/process.Process/StreamInput`, Buffer.from(body));
  const data = envelope({ data: { input: { stdin: "eA==" } } });
  expect((await errorOf(await call(data))).code).toBe("invalid_argument");
  expect((await errorOf(await call(data.subarray(0, 9)))).code).toBe("invalid_argument");
  expect((await errorOf(await call(envelope({ start: { process: { pid: 4_000_000 } } })))).code).toBe("not_found");
});

test("input for a process that does not read is refused once its queue is full, and ends with the caller's deadline", async () => {
  const started = await start(envelope({ process: { cmd: "sleep", args: ["300"] }, tag: "deaf" }));
  const send = (bytes: number) =>
    callUnary(
      `${agent.url}/process.Process/SendInput`,
      { process: { tag: "deaf" }, input: { stdin: Buffer.alloc(bytes).toString("base64") } },
      { "Connect-Timeout-Ms": "200" },
    );
  expect((await send(6_000_000)).status).toBe(504);
  expect((await send(6_000_000)).status).toBe(429);
  await callUnary(`${agent.url}/process.Process/SendSignal`, { process: { tag: "deaf" }, signal: "SIGNAL_SIGKILL" });
  await envelopesOf(started);
});

test("any origin may ask", async () => {
  const preflight = await fetch(`${agent.url}/process.Process/Start`, {
    method: "OPTIONS",
    headers: { Origin: "https://a.example", "Access-Control-Request-Headers": "x-access-token" },
  });
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get("access-control-allow-headers")).toBe("x-access-token");
  expect(preflight.headers.get("access-control-max-age")).toBe("7200");
  expect((await list({})).headers.get("access-control-allow-origin")).toBe("*");
});

test("clients that go away in the middle leave no process behind that waits for them", async () => {
  for (let i = 0; i < 20; i++) {
    const gone = new AbortController();
    const response = await fetch(`${agent.url}/process.Process/Start`, {
      method: "POST",
      body: envelope(sh("head -c 20000000 /dev/zero")),
      headers: { "Content-Type": "application/connect+json" },
      signal: gone.signal,
    });
    await response.body!.getReader().read();
    gone.abort();
  }
  await until(async () => (await running()) === 0);
});
