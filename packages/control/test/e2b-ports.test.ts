import { beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { headers, type SandboxId } from "@wrenn/contract";
import { e2bCalls } from "./support/e2b.ts";
import { planeOfFile } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

const plane = planeOfFile();

const { create, refusal, status, toPort, visit } = e2bCalls(plane);

describe("the agent's port", () => {
  let id: SandboxId;
  let token: string;
  beforeAll(async () => {
    const made = await create();
    id = made.sandboxID as SandboxId;
    token = made.envdAccessToken;
  });

  test("is reached by host name and by header, with what the client shows and nothing added", async () => {
    for (const named of [{ host: `49983-${id}.any.example` }, { [headers.e2bSandboxId]: id }]) {
      const answer = await visit("/health", { headers: { ...named, [headers.accessToken]: token } });
      expect([answer.status, await answer.text()]).toEqual([204, ""]);
      const seen = plane().host.seen.get(`/proxy/${id}/49983/health`)!;
      expect([seen.get(headers.accessToken), seen.get(headers.asClient)]).toEqual([token, "1"]);
    }
  });

  for (const path of ["/init", "/freeze", "/fsfreeze", "/collapse", "/ports/22", "/%69nit", "//init", "/x/..%2finit"])
    test(`${path} is its host's alone`, async () => {
      const before = plane().host.proxied;
      expect(await status(visit(path, { method: "POST", headers: { host: `49983-${id}.any.example` } }))).toBe(404);
      expect(plane().host.proxied).toBe(before);
    });

  test("a host name says more than a header", async () => {
    const other = (await create()).sandboxID;
    await visit("/envs", { headers: { host: `49983-${id}.any.example`, [headers.e2bSandboxId]: other } });
    expect(plane().host.seen.has(`/proxy/${id}/49983/envs`)).toBe(true);
    expect(plane().host.seen.has(`/proxy/${other}/49983/envs`)).toBe(false);
  });

  test("a signed file URL that names no sandbox finds its own by the signature", async () => {
    const sign = (operation: string, key: string) =>
      `v1_${new Bun.CryptoHasher("sha256").update(`a.txt:${operation}::${key}`).digest("base64").replace(/=+$/, "")}`;
    const url = (signature: string) => `/files?path=a.txt&signature=${encodeURIComponent(signature)}`;
    await visit(url(sign("read", token)));
    expect(plane().host.seen.has(`/proxy/${id}/49983/files`)).toBe(true);
    for (const signature of [sign("write", token), sign("read", "other"), "v1_"]) {
      const before = plane().host.proxied;
      expect(await status(visit(url(signature)))).toBe(502);
      expect(plane().host.proxied).toBe(before);
    }
  });

  test("early clients name no sandbox, but show its token: it is the one that the token is of", async () => {
    const shown = (key: string) => ({ headers: { [headers.accessToken]: key } });
    await visit("/files?path=a.txt", shown(token));
    expect(plane().host.seen.has(`/proxy/${id}/49983/files`)).toBe(true);
    for (const path of ["/files?path=a.txt", "/health"]) {
      expect(await refusal(visit(path, shown("another")))).toMatchObject({
        code: 502,
        message: "The sandbox was not found",
      });
    }
    expect(await status(visit("/health", {}))).toBe(200); // the server's own
  });
});

describe("ports", () => {
  test("are public unless the client says otherwise; then only the traffic token opens them", async () => {
    plane().host.apps.set(3000, plane().guest.address);
    const open = await create();
    expect(await status(toPort(open.sandboxID, 3000))).not.toBe(403);
    const closed = await create({ network: { allowPublicTraffic: false } });
    expect(await refusal(toPort(closed.sandboxID, 3000))).toMatchObject({ code: 403 });
    const token = { [headers.e2bTrafficToken]: closed.trafficAccessToken! };
    expect(await status(toPort(closed.sandboxID, 3000, token))).not.toBe(403);
    expect(await status(toPort(closed.sandboxID, 49983))).not.toBe(403);
  });

  test("a closed port and an unknown sandbox have the words that clients look for", async () => {
    const { sandboxID: id } = await create();
    expect(await (await toPort(id, 4)).json()).toEqual({
      sandboxId: id,
      message: "The sandbox is running but port is not open",
      port: 4,
      code: 502,
    });
    for (const unknown of ["abc", "0".repeat(25)])
      expect(await (await visit("/", { headers: { host: `3000-${unknown}.localhost` } })).json()).toEqual({
        sandboxId: unknown,
        message: "The sandbox was not found",
        code: 502,
      });
    expect(await status(toPort(id, 0))).toBe(400);
    expect(await status(toPort(id, 70_000))).toBe(400);
  });

  test("the guest sees the host name that its owner chose", async () => {
    const { sandboxID: id } = await create({ network: { maskRequestHost: "app.example:$" + "{PORT}" } });
    await toPort(id, 3000);
    expect(plane().host.seen.get(`/proxy/${id}/3000/`)!.get("x-forwarded-host")).toBe("app.example:3000");
  });
});

test("a port whose server speaks TLS is told to the host, and no client can say so", async () => {
  plane().host.apps.set(8443, plane().guest.address);
  const { sandboxID: id } = await create({ network: { httpsPorts: [8443] } });
  for (const port of [8443, 3000]) await toPort(id, port, { [headers.guestTls]: "1" });
  const told = [8443, 3000].map((port) => plane().host.seen.get(`/proxy/${id}/${port}/`)!.get(headers.guestTls));
  expect(told).toEqual(["1", null]);
});
