import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { headers, parseSandboxId, type rest, WrennError } from "@wrenn/contract";
import { SQL } from "bun";
import { compile } from "../src/config.ts";
import { start } from "../src/index.ts";
import { apiKey, Plane } from "./support/plane.ts";

const port = 3000;
const bare = (id: string) => parseSandboxId(id)!;

let plane: Plane;
let app: Bun.Server<undefined>;
let id: string;
let last: { method: string; url: URL; headers: Headers; body: string };
beforeAll(async () => {
  plane = await Plane.start();
  app = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const { method, headers: sent } = request;
      last = { method, url: new URL(request.url), headers: sent, body: await request.text() };
      if (last.url.pathname === "/error")
        return Response.json({ error: { code: "not_found", message: "app" } }, { status: 404 });
      if (last.url.pathname === "/login") return Response.redirect(`http://${sent.get("host")}/in?a=1`);
      if (last.url.pathname === "/stream") return new Response(ticks());
      return new Response(`${method} ${last.url.pathname}${last.url.search}`, { headers: { "set-cookie": "app=1" } });
    },
  });
  plane.host.apps.set(port, `http://127.0.0.1:${app.port}`);
  ({ id } = await plane.create());
});
afterEach(() => plane.host.heal());
afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  await app.stop(true);
});

/** A body whose second half comes only when the first was read. */
let goOn: () => void;
const ticks = () =>
  new ReadableStream({
    async start(controller) {
      controller.enqueue("one");
      await new Promise<void>((resolve) => {
        goOn = resolve;
      });
      controller.enqueue("two");
      controller.close();
    },
  });

const hostOf = (sandbox = id, at: number | string = port) => `${at}-${sandbox}.sandboxes.example`;
type Init = RequestInit & { headers?: Record<string, string> };
const visit = (path: string, init: Init = {}, host = hostOf()) =>
  fetch(plane.address + path, { redirect: "manual", ...init, headers: { host, ...init.headers } });
const open = (body: object = {}, sandbox = id, at: number | string = port) =>
  plane.json<rest.PortInfo>(200, "POST", `/v1/capsules/${sandbox}/ports/${at}`, body);
const withToken = async () => ({ [headers.trafficToken]: (await open()).token! });
const cookieOf = (answer: Response) => answer.headers.getSetCookie().find((cookie) => cookie.startsWith("wrenn_port="));

describe("a private port", () => {
  test("without a credential is 401, with one that does not fit 403, and the guest hears nothing", async () => {
    const before = plane.host.proxied;
    const nothing = await visit("/");
    expect([nothing.status, await nothing.json()]).toEqual([
      401,
      { sandboxId: id, message: expect.any(String), code: 401 },
    ]);
    const { token: foreign } = await open({}, (await plane.create()).id);
    for (const sent of [
      { [headers.trafficToken]: "wrong" },
      { [headers.trafficToken]: foreign! },
      { [headers.apiKey]: `wrn_${"c".repeat(32)}` },
      { [headers.apiKey]: await plane.otherKey() },
      { cookie: "wrenn_port=99999999999.forged" },
    ] as Record<string, string>[])
      expect((await visit("/", { headers: sent })).status).toBe(403);
    expect(plane.host.proxied).toBe(before);
  });

  for (const [title, sent] of [
    ["the traffic token", withToken],
    ["the token as E2B clients send it", async () => ({ [headers.e2bTrafficToken]: (await open()).token! })],
    ["the team's API key", async () => ({ [headers.apiKey]: apiKey })],
  ] as const)
    test(`opens to ${title}, which the guest does not see`, async () => {
      const mine = await sent();
      const cookie = "wrenn_port=1.x; session=abc; wrenn_port=2.y";
      const answer = await visit("/a/b?c=%2F&d=", {
        method: "PUT",
        body: "data",
        headers: { ...mine, cookie, authorization: "Bearer app" },
      });
      expect(await answer.text()).toBe("PUT /a/b?c=%2F&d=");
      expect(last.body).toBe("data");
      expect([last.headers.get("cookie"), last.headers.get("authorization")]).toEqual(["session=abc", "Bearer app"]);
      expect(last.headers.get("x-forwarded-host")).toBe(hostOf());
      for (const name of [headers.apiKey, headers.trafficToken, headers.e2bTrafficToken])
        expect(last.headers.get(name)).toBeNull();
      expect(answer.headers.get("set-cookie")).toBe("app=1");
    });

  test("is found by the id without its prefix too, and in capital letters", async () => {
    const sent = await withToken();
    for (const host of [hostOf(bare(id)), hostOf().toUpperCase()])
      expect((await visit("/", { headers: sent }, host)).status).toBe(200);
  });
});

describe("a signed link", () => {
  const query = async () => new URL((await open()).signed_url!).search;

  test("gives a browser a cookie for that host alone, and takes itself out of the address", async () => {
    const answer = await visit(`//evil.example/x?a=1&${(await query()).slice(1)}&b`, {
      headers: { accept: "text/html" },
    });
    expect([answer.status, answer.headers.get("location")]).toEqual([302, "/evil.example/x?a=1&b"]);
    const cookie = cookieOf(answer)!;
    expect(cookie).toMatch(/; Path=\/; Max-Age=3\d{3}; HttpOnly; SameSite=Lax$/);
    const sent = { cookie: cookie.split(";")[0]! };
    expect((await visit("/page", { headers: sent })).status).toBe(200);
    expect(last.headers.get("cookie")).toBeNull();
    const { id: other } = await plane.create();
    plane.host.apps.set(3001, plane.host.apps.get(port)!);
    for (const host of [hostOf(id, 3001), hostOf(other)])
      expect((await visit("/", { headers: sent }, host)).status).toBe(403);
  });

  test("serves a program at once, and the guest does not see it", async () => {
    const answer = await visit(`/hook${await query()}`, { method: "POST", body: "x" });
    expect(await answer.text()).toBe("POST /hook");
    expect(cookieOf(answer)).toBeDefined();
    expect((await visit("/", { headers: { "x-forwarded-proto": "https" } })).status).toBe(401);
    const secure = await visit(`/${await query()}`, { headers: { "x-forwarded-proto": "https" } });
    expect(cookieOf(secure)).toEndWith("; Secure");
  });

  test("that was changed, is another port's, or has ended is 403", async () => {
    const link = new URLSearchParams(await query());
    const signature = link.get("wrenn_signature")!;
    const later = String(Number(link.get("wrenn_expires")) + 1);
    expect((await visit(`/?wrenn_signature=${signature}&wrenn_expires=${later}`)).status).toBe(403);
    expect((await visit(`/?${link}`, {}, hostOf(id, 3001))).status).toBe(403);
    const short = new URL((await open({ expires_sec: 1 })).signed_url!);
    while (Date.now() / 1000 < Number(short.searchParams.get("wrenn_expires"))) await Bun.sleep(50);
    expect((await visit(short.search)).status).toBe(403);
  });

  test("its cookie does not serve pages of other hosts, whose site may be the same", async () => {
    const cookie = cookieOf(await visit(`/${await query()}`))!.split(";")[0]!;
    for (const [sent, want] of [
      [{ origin: `http://${hostOf()}` }, 200],
      [{ origin: "http://8080-cl-evil.sandboxes.example" }, 403],
      [{ origin: "null" }, 401],
      [{ "sec-fetch-site": "same-origin" }, 200],
      [{ "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors" }, 403],
      [{ "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" }, 200],
    ] as [Record<string, string>, number][])
      expect((await visit("/", { headers: { ...sent, cookie } })).status === 200).toBe(want === 200);
  });
});

describe("POST /v1/capsules/{id}/ports/{port}", () => {
  test("names an address below the host that was asked, and below localhost for an address", async () => {
    const { url, signed_url, ...access } = await open();
    expect(url).toBe(`http://${port}-${id}.localhost:${new URL(plane.address).port}/`);
    expect(signed_url).toStartWith(`${url}?wrenn_signature=`);
    expect(access).toEqual({ public: false, token: expect.any(String) });
    const asked = { host: "wrenn.example", "x-forwarded-proto": "https" };
    const answer = await plane.fetch("POST", `/v1/capsules/${id}/ports/80`, {}, asked);
    expect(((await answer.json()) as rest.PortInfo).url).toBe(`https://80-${id}.wrenn.example/`);
  });

  test("makes a port public and private again, and leaves it when not asked; other ports stay private", async () => {
    expect(await open({ public: true })).toEqual({ public: true, url: expect.any(String) });
    expect((await visit("/")).status).toBe(200);
    expect((await visit("/", { headers: { [headers.trafficToken]: "wrong" } })).status).toBe(200);
    expect((await visit("/", {}, hostOf(id, 3001))).status).toBe(401);
    expect((await open()).public).toBe(true);
    expect((await open({ public: false })).public).toBe(false);
    expect((await visit("/")).status).toBe(401);
  });

  for (const at of ["0", "65536", "x", "49983", "-1", "8e1"])
    test(`port ${at} is refused`, async () =>
      expect(await plane.refusal("POST", `/v1/capsules/${id}/ports/${at}`, {})).toEqual({
        status: 400,
        code: "invalid_request",
      }));
});

describe("answers that E2B clients know", () => {
  const answerOf = async (host: string, sent?: Record<string, string>) => {
    const answer = await visit("/", { headers: sent ?? (await withToken()) }, host);
    return [answer.status, await answer.json()];
  };
  const gone = (name: string) => [502, { sandboxId: name, message: "The sandbox was not found", code: 502 }];

  test("an unknown, a killed and a paused sandbox are not found, whatever the request shows", async () => {
    const killed = await plane.create();
    await plane.json(204, "DELETE", `/v1/capsules/${killed.id}`);
    const paused = await plane.create();
    await plane.json(200, "POST", `/v1/capsules/${paused.id}/pause`);
    for (const name of [`cl-${"0".repeat(25)}`, "0".repeat(25), killed.id, paused.id])
      for (const sent of [undefined, {}]) expect(await answerOf(hostOf(name), sent)).toEqual(gone(name));
  });

  test("one that the host has lost is not found", async () => {
    const lost = await plane.create();
    const sent = { [headers.apiKey]: apiKey };
    expect((await visit("/", { headers: sent }, hostOf(lost.id))).status).toBe(200);
    plane.host.forget(bare(lost.id));
    expect(await answerOf(hostOf(lost.id), sent)).toEqual(gone(lost.id));
  });

  test("a closed port is said to be closed", async () => {
    const message = "The sandbox is running but port is not open";
    expect(await answerOf(hostOf(id, 4000))).toEqual([502, { sandboxId: id, message, port: 4000, code: 502 }]);
  });

  test("one that will run is 409", async () => {
    const moving = await plane.create();
    await plane.force(moving.id, "resuming");
    expect((await answerOf(hostOf(moving.id)))[0]).toBe(409);
  });

  test("one that is about to be paused or gone is gone, for clients that ask until it is", async () => {
    for (const state of ["pausing", "stopping"] as const) {
      const ending = await plane.create();
      await plane.force(ending.id, state);
      expect(await answerOf(hostOf(ending.id))).toEqual(gone(ending.id));
    }
  });

  test("a bad id or port is 400, and the agent's port 404 even with every credential", async () => {
    for (const host of [hostOf("cl-short"), hostOf(id, 0), hostOf(id, 65_536), hostOf(id, "9".repeat(400))])
      expect((await answerOf(host))[0]).toBe(400);
    const before = plane.host.proxied;
    expect((await answerOf(hostOf(id, 49_983), { ...(await withToken()), [headers.apiKey]: apiKey }))[0]).toBe(404);
    expect((await answerOf(hostOf(id, "049983")))[0]).toBe(404);
    expect(plane.host.proxied).toBe(before);
  });

  test("a host that cannot be reached is 503", async () => {
    plane.host.script("proxy", "1*error(host_unavailable)->off");
    const fresh = await plane.create();
    await plane.host.down();
    const answer = await visit("/", { headers: { [headers.apiKey]: apiKey } }, hostOf(fresh.id));
    plane.host.up();
    expect(answer.status).toBe(503);
  });

  test("the app's own errors pass through as they are", async () => {
    const answer = await visit("/error", { headers: await withToken() });
    expect([answer.status, WrennError.fromBody(await answer.json())?.message]).toEqual([404, "app"]);
  });
});

test("a redirect to where the guest believes to be leads to where its visitor is", async () => {
  const answer = await visit("/login", { headers: await withToken() });
  expect([answer.status, answer.headers.get("location")]).toEqual([302, "/in?a=1"]);
});

test("an answer is passed on while it is being made", async () => {
  const answer = await visit("/stream", { headers: await withToken() });
  const reader = answer.body!.getReader();
  expect(new TextDecoder().decode((await reader.read()).value)).toBe("one");
  goOn();
  expect(new TextDecoder().decode((await reader.read()).value)).toBe("two");
});

test("tokens are the same on every replica, whose addresses end in its own domain, and after a restart", async () => {
  const { token } = await open();
  const replica = await start({ ...plane.options, proxyDomain: "boxes.example:8443" });
  const sent = { method: "POST", body: "{}", headers: { [headers.apiKey]: apiKey } };
  const answer = await fetch(`${replica.address}/v1/capsules/${id}/ports/${port}`, sent);
  await replica.stop();
  expect(await answer.json()).toMatchObject({ token, url: `http://${port}-${id}.boxes.example:8443/` });
  await plane.restart();
  expect((await open()).token).toBe(token!);
  const wrong = compile.bind(undefined, { ...plane.options, proxyDomain: "*.boxes.example" });
  expect(wrong).toThrow("WRENN_PROXY_DOMAIN");
  await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
  const [row] = await sql`select value from settings where name = 'port_secret'`;
  expect(Buffer.from(row.value, "base64")).toHaveLength(32);
});

describe("a WebSocket", () => {
  const connect = (path: string, sent: Record<string, string>, protocols: string[] = []) => {
    const address = plane.address.replace("http", "ws") + path;
    const ws = new WebSocket(address, { protocols, headers: { host: hostOf(), ...sent } } as unknown as string[]);
    ws.binaryType = "arraybuffer";
    const heard: unknown[] = [];
    let wake = () => {};
    ws.onmessage = ({ data }) => {
      heard.push(data);
      wake();
    };
    const next = async () => {
      while (heard.length === 0)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      return heard.shift();
    };
    const closed = new Promise<{ code: number; reason: string }>((resolve) => {
      ws.onclose = ({ code, reason }) => resolve({ code, reason });
    });
    return { ws, next, closed };
  };

  test("carries text and bytes both ways, the guest's first words included, and its close", async () => {
    const sent = await withToken();
    const { ws, next, closed } = connect("/chat?x=1", { ...sent, cookie: "session=abc; wrenn_port=1.x" }, ["v2", "v1"]);
    expect(await next()).toBe(`hello /proxy/${bare(id)}/${port}/chat`);
    expect(ws.protocol).toBe("v2");
    ws.send("text ✓");
    expect(await next()).toBe("text ✓");
    ws.send(new Uint8Array([0, 255, 7]));
    expect(new Uint8Array((await next()) as ArrayBuffer)).toEqual(new Uint8Array([0, 255, 7]));
    const big = "x".repeat(5 * 1024 * 1024);
    ws.send(big);
    expect(((await next()) as string).length).toBe(big.length);
    const seen = plane.host.seen.get(`/proxy/${bare(id)}/${port}/chat`)!;
    expect([seen.get(headers.hostToken), seen.get("cookie")]).toEqual([plane.host.token, "session=abc"]);
    expect(seen.get(headers.trafficToken)).toBeNull();
    ws.send("end");
    expect(await closed).toEqual({ code: 4001, reason: "over" });
  });

  test("without a credential, or that the guest does not take, is not opened", async () => {
    const reached = () => plane.host.seen.has(`/proxy/${bare(id)}/${port}/secret`);
    for (const [path, sent] of [
      ["/secret", {}],
      ["/refuse", await withToken()],
    ] as const) {
      const { ws, closed } = connect(path, sent);
      let opened = false;
      ws.onopen = () => {
        opened = true;
      };
      await closed;
      expect(opened).toBe(false);
    }
    expect(reached()).toBe(false);
  });

  test("ends when the control plane stops", async () => {
    const { next, closed } = connect("/chat", await withToken());
    await next();
    await plane.restart();
    await closed;
  });
});
