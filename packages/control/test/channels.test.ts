import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { rest } from "@wrenn/contract";
import { SQL } from "bun";
import { Courier } from "../src/services/channels/courier.ts";
import { checkDestination, isPublicAddress, send } from "../src/services/channels/destination.ts";
import { compose } from "../src/services/channels/messages.ts";
import { Box } from "../src/services/people/secrets.ts";
import { ChannelStore } from "../src/store/fleet/channels.ts";
import { Plane } from "./support/plane.ts";

let plane: Plane;
let sql: SQL;
let person: Record<string, string>;
let received: { path: string; headers: Headers; body: string }[] = [];
let status = 200;
const sink = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    received.push({ path: new URL(request.url).pathname, headers: request.headers, body: await request.text() });
    return new Response("ok", { status });
  },
});
const url = `http://127.0.0.1:${sink.port}/hook`;

beforeAll(async () => {
  plane = await Plane.start();
  sql = new SQL(plane.options.databaseUrl, { max: 2 });
  const account = { email: "ann@example.com", password: "correct horse battery", name: "Ann" };
  await plane.fetch("POST", "/v1/auth/signup", account);
  await sql`update users set status = 'active'`;
  const { token } = await plane.json<{ token: string }>(200, "POST", "/v1/auth/login", account);
  person = { authorization: `Bearer ${token}`, "x-api-key": "" };
});
afterAll(async () => {
  await sql.close();
  await plane[Symbol.asyncDispose]();
  await sink.stop(true);
});
beforeEach(() => {
  received = [];
  status = 200;
});

const ask = async <T>(method: string, path: string, body?: unknown): Promise<[number, T]> => {
  const response = await fetch(plane.address + path, {
    method,
    headers: { authorization: person.authorization!, "content-type": "application/json" },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return [response.status, (text ? JSON.parse(text) : undefined) as T];
};
const until = async (done: () => boolean | Promise<boolean>) => {
  while (!(await done())) await Bun.sleep(5);
};
const everything = [...rest.channelEvents];
const make = async (name: string) => {
  const wanted = { name, provider: "webhook", config: { url }, events: everything };
  const [code, channel] = await ask<rest.Channel>("POST", "/v1/channels", wanted);
  expect(code).toBe(201);
  return channel;
};
const life = async () => {
  const [code, made] = await ask<rest.Capsule>("POST", "/v1/capsules", {});
  expect(code).toBe(201);
  await ask("DELETE", `/v1/capsules/${made.id}`);
  return made.id;
};

describe("channels", () => {
  test("a webhook hears what happened, signed both ways, once each and in the log", async () => {
    const channel = await make("  My Hook ");
    expect(rest.Channel.parse(channel)).toEqual(channel);
    expect([channel.name, channel.provider]).toEqual(["my-hook", "webhook"]);
    expect(channel.secret).toMatch(/^[0-9a-f]{64}$/);
    const id = await life();
    await until(() => received.length >= 2);
    const bodies = received.map(({ body }) => JSON.parse(body) as { event: string; resource: object });
    expect(bodies.map(({ event }) => event).sort()).toEqual(["capsule.created", "capsule.destroyed"]);
    expect(bodies[0]).toMatchObject({ resource: { id, type: "sandbox" }, actor: { type: "user", name: "Ann" } });
    const { headers, body } = received[0]!;
    const timestamp = headers.get("x-wrenn-timestamp")!;
    const hex = createHmac("sha256", channel.secret!).update(`${timestamp}.${body}`).digest("hex");
    expect(headers.get("x-wrenn-signature")).toBe(`sha256=${hex}`);
    const signed = `${headers.get("webhook-id")}.${headers.get("webhook-timestamp")}.${body}`;
    const standard = createHmac("sha256", Buffer.from(channel.secret!, "hex")).update(signed).digest("base64");
    expect(headers.get("webhook-signature")).toBe(`v1,${standard}`);
    expect(headers.get("x-wrenn-delivery")).toBe(headers.get("webhook-id"));
    const log = `/v1/channels/${channel.id}/deliveries`;
    await until(async () => (await ask<rest.Delivery[]>("GET", `${log}?state=delivered`))[1].length === 2);
    const [, [last]] = await ask<rest.Delivery[]>("GET", log);
    expect(rest.Delivery.parse(last)).toMatchObject({ state: "delivered", attempts: 1, status: 200 });

    expect((await ask("POST", `${log}/${last!.id}/replay`))[0]).toBe(202);
    await until(() => received.length === 3);
    expect(received[2]!.headers.get("webhook-id")).toBe(last!.id);
    await ask("DELETE", `/v1/channels/${channel.id}`);
  });

  test("a destination that fails is tried again, and given up after the last try; a replay goes through", async () => {
    status = 500;
    const channel = await make("fails");
    await life();
    const log = `/v1/channels/${channel.id}/deliveries`;
    const failed = async (wanted: string) =>
      (await ask<rest.Delivery[]>("GET", log))[1].filter(({ state, status: seen }) => state === wanted && seen === 500);
    await until(async () => (await failed("due")).length === 2);
    expect((await failed("due"))[0]).toMatchObject({ status: 500, error: expect.stringContaining("500") });
    await sql`update deliveries set attempts = 7, due_at = now() where channel_id = ${channel.id}`;
    await sql`notify wrenn_deliveries`;
    await until(async () => (await failed("dead")).length === 2);
    status = 200;
    received = [];
    await ask("POST", `${log}/${(await failed("dead"))[0]!.id}/replay`);
    await until(() => received.length === 1);
    await ask("DELETE", `/v1/channels/${channel.id}`);
  });

  test("what a replica held when it died is delivered by another", async () => {
    const channel = await make("died");
    await life();
    await until(() => received.length === 2);
    await until(
      async () => (await sql`select from deliveries where channel_id = ${channel.id} and state = 'due'`).length === 0,
    );
    // As the row of a replica that was killed between the holding and the sending.
    await sql`update deliveries set state = 'due', held_until = now() + interval '300 milliseconds' where channel_id = ${channel.id}`;
    await sql`notify wrenn_deliveries`;
    await until(() => received.length === 4);
    await ask("DELETE", `/v1/channels/${channel.id}`);
  });

  test("two couriers deliver nothing twice", async () => {
    const channel = await make("twice");
    const [row] = await sql`select config from channels where id = ${channel.id}`;
    expect(row.config).not.toContain("127.0.0.1"); // encrypted
    const store = new ChannelStore(sql);
    const [secret] = await sql`select value from settings where name = 'encryption_key'`;
    const box = new Box(Buffer.from(secret.value, "base64"));
    await using _other = await Courier.start({
      store,
      box,
      allowsPrivate: true,
      log: { warn() {}, debug() {} } as never,
    });
    for (let count = 0; count < 5; count++) await life();
    await until(() => received.length >= 10);
    await Bun.sleep(100);
    expect(new Set(received.map(({ headers }) => headers.get("webhook-id"))).size).toBe(10);
    expect(received.length).toBe(10);
    await ask("DELETE", `/v1/channels/${channel.id}`);
  });

  test("only what a channel asked for is told, and a new configuration has a new secret", async () => {
    const wanted = { name: "few", provider: "webhook", config: { url }, events: ["capsule.destroyed"] };
    const [, channel] = await ask<rest.Channel>("POST", "/v1/channels", wanted);
    await life();
    await until(() => received.length === 1);
    expect(JSON.parse(received[0]!.body).event).toBe("capsule.destroyed");
    const path = `/v1/channels/${channel.id}`;
    const [, changed] = await ask<rest.Channel>("PUT", `${path}/config`, { config: { url: `${url}/new` } });
    expect(changed.secret).not.toBe(channel.secret!);
    const [, patched] = await ask<rest.Channel>("PATCH", path, { name: "other", events: ["host.up"] });
    expect(patched).toMatchObject({ name: "other", events: ["host.up"] });
    expect(patched.secret).toBeUndefined();
    expect((await ask("POST", "/v1/channels", { ...wanted, name: "other" }))[0]).toBe(409);
    await ask("DELETE", path);
    expect((await ask("GET", path))[0]).toBe(404);
  });

  test("a test message arrives or says why not; bad configurations are refused", async () => {
    expect(await ask("POST", "/v1/channels/test", { provider: "webhook", config: { url } })).toEqual([
      200,
      { status: "ok" },
    ]);
    status = 403;
    expect((await ask("POST", "/v1/channels/test", { provider: "slack", config: { webhook_url: url } }))[0]).toBe(400);
    for (const config of [{}, { url: "ftp://h/" }, { url: "no" }, { url, more: "x" }])
      expect((await ask("POST", "/v1/channels/test", { provider: "webhook", config }))[0]).toBe(400);
    expect(await plane.refusal("GET", "/v1/channels")).toEqual({ status: 401, code: "unauthorized" }); // keys are for programs
  });
});

describe("destinations", () => {
  test("inner addresses are told from public ones, in every notation", () => {
    const inner = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "100.64.0.1", "0.0.0.0"];
    inner.push("::1", "::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "nonsense");
    expect(inner.filter(isPublicAddress)).toEqual([]);
    for (const address of ["1.1.1.1", "2606:4700::1111"]) expect(isPublicAddress(address)).toBe(true);
  });

  test("an inner address is refused by number, by odd notation, and by the name that leads there", async () => {
    for (const text of ["http://127.0.0.1/", "http://[::1]/", "http://2130706433/", "http://0x7f.1/", "http://user@x/"])
      expect(() => checkDestination(text, false)).toThrow();
    const before = received.length;
    const message = { url: `http://localhost:${sink.port}/`, headers: {}, body: "x" };
    await expect(send(message, false)).rejects.toMatchObject({ code: "invalid_request" });
    expect(received.length).toBe(before);
    expect(await send(message, true)).toBe(200);
  });

  test("a redirect is not followed", async () => {
    const turn = Bun.serve({ port: 0, fetch: () => Response.redirect(url, 302) });
    expect(await send({ url: `http://127.0.0.1:${turn.port}/`, headers: {}, body: "x" }, true)).toBe(302);
    await turn.stop(true);
    expect(received).toEqual([]);
  });

  const telling = {
    ...{ id: "d", event: "capsule.paused", at: new Date(0), team: "team-1" },
    resource: { id: "cl-1", type: "sandbox" as const },
    actor: { type: "user", id: "u", name: "Ann" },
  };
  for (const provider of ["discord", "slack", "teams", "googlechat"] as const)
    test(`${provider} gets a text that says what happened`, () => {
      const { url: to, body } = compose(provider, { webhook_url: "https://h.example/x" }, telling);
      expect([to, body]).toEqual(["https://h.example/x", expect.stringContaining("Sandbox paused")]);
    });

  test("Telegram and Matrix are told through their own interfaces", () => {
    const telegram = compose("telegram", { bot_token: "1:a", chat_id: "7" }, telling);
    expect(telegram.url).toBe("https://api.telegram.org/bot1:a/sendMessage");
    expect(JSON.parse(telegram.body)).toMatchObject({ chat_id: "7", text: expect.stringContaining("cl-1") });
    const config = { homeserver_url: "https://m.example", access_token: "t", room_id: "!r:m" };
    const matrix = compose("matrix", config, telling);
    expect([matrix.method, matrix.url]).toEqual([
      "PUT",
      "https://m.example/_matrix/client/v3/rooms/!r%3Am/send/m.room.message/d",
    ]);
    expect(matrix.headers.authorization).toBe("Bearer t");
  });
});
