import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { create as make } from "@bufbuild/protobuf";
import { headers, hostagent, rest, type SandboxId } from "@wrenn/contract";
import { SQL } from "bun";
import { createRemoteJWKSet, decodeJwt, jwtVerify } from "jose";
import { readMetadata } from "../src/edges/e2b/metadata.ts";
import { plainName } from "../src/services/e2b/names.ts";
import { apiKey, Plane } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterEach(() => {
  plane.host.heal();
  plane.host.delayMs = 0;
});
afterAll(() => plane[Symbol.asyncDispose]());

type Body = Partial<rest.e2b.NewSandbox> & Record<string, unknown>;
const create = (body: Body = {}, path = "/v2/sandboxes") =>
  plane.json<rest.e2b.Sandbox>(201, "POST", path, { templateID: "minimal", ...body });
const info = (id: string) => plane.json<rest.e2b.SandboxDetail>(200, "GET", `/sandboxes/${id}`);
const act = (id: string, action: string, body: object = {}) => plane.fetch("POST", `/sandboxes/${id}/${action}`, body);
const status = async (answer: Promise<Response>) => (await answer).status;
const refusal = async (answer: Promise<Response>) => (await (await answer).json()) as rest.e2b.ErrorBody;
/** Seconds that a sandbox has left. */
const left = async (id: string) => (Date.parse((await info(id)).endAt) - Date.now()) / 1000;
const visit = (path: string, init: { method?: string; headers?: Record<string, string> } = {}) =>
  fetch(plane.address + path, { redirect: "manual", ...init });
const toPort = (id: string, port: number, more: Record<string, string> = {}) =>
  visit("/", { headers: { [headers.e2bSandboxId]: id, [headers.e2bSandboxPort]: String(port), ...more } });

describe("create", () => {
  test("answers what both SDKs need; the id is a host name's label", async () => {
    const made = await create({ metadata: { a: "b" } });
    expect(made.sandboxID).toMatch(/^[a-z0-9]{25}$/);
    expect(made).toMatchObject({ templateID: "minimal", envdVersion: "0.6.4", trafficAccessToken: null });
    expect(made.clientID).not.toBe("");
    expect(made.domain).toBe(`localhost:${new URL(plane.address).port}`);
    expect(await info(made.sandboxID)).toMatchObject({
      state: "running",
      metadata: { a: "b" },
      lifecycle: { autoResume: false, onTimeout: "kill" },
    });
  });

  test("the first version lives for 15 seconds and the second for 300 unless the client says otherwise", async () => {
    const times = [
      await left((await create({}, "/sandboxes")).sandboxID),
      await left((await create()).sandboxID),
      await left((await create({ timeout: 60 })).sandboxID),
    ];
    expect(times.map(Math.ceil)).toEqual([15, 300, 60]);
  });

  test("the agent's token is the client's alone: the Wrenn dialect never shows it", async () => {
    const { sandboxID: id, envdAccessToken } = await create();
    expect(plane.host.tokens.get(id)).toBe(envdAccessToken);
    expect(envdAccessToken).not.toBe((await create()).envdAccessToken);
    const wrenn = await plane.fetch("GET", `/v1/capsules/cl-${id}`);
    expect(await wrenn.text()).not.toContain(envdAccessToken);
  });

  for (const body of [{ templateID: 1 }, { timeout: -1 }, { timeout: "x" }, { metadata: { a: 1 } }, { autoResume: 1 }])
    test(`${JSON.stringify(body)} is refused with the status in the body`, async () => {
      const answer = await plane.fetch("POST", "/v2/sandboxes", { templateID: "minimal", ...body });
      expect([answer.status, ((await answer.json()) as rest.e2b.ErrorBody).code]).toEqual([400, 400]);
    });

  test("an unknown template is 404, a missing key 401", async () => {
    expect(await refusal(plane.fetch("POST", "/v2/sandboxes", { templateID: "nope" }))).toMatchObject({ code: 404 });
    expect(await refusal(visit("/sandboxes/x"))).toMatchObject({ code: 401, message: expect.any(String) });
  });

  test("asked again under the same idempotency key it is the same sandbox", async () => {
    const key = { [headers.idempotencyKey]: crypto.randomUUID() };
    const ask = async () =>
      ((await (await plane.fetch("POST", "/v2/sandboxes", { templateID: "minimal" }, key)).json()) as rest.e2b.Sandbox)
        .sandboxID;
    expect(await ask()).toBe(await ask());
  });
});

describe("time to live", () => {
  test("connect makes it longer and never shorter, to the bit", async () => {
    const { sandboxID: id } = await create({ timeout: 100 });
    const before = (await info(id)).endAt;
    expect(await status(act(id, "connect", { timeout: 10 }))).toBe(200);
    expect((await info(id)).endAt).toBe(before);
    await act(id, "connect", { timeout: 500 });
    expect(await left(id)).toBeGreaterThan(400);
    await act(id, "refreshes", { duration: 1 });
    expect(await left(id)).toBeGreaterThan(400);
    expect(await status(act(id, "timeout", { timeout: 50 }))).toBe(204);
    expect(await left(id)).toBeLessThan(51);
  });

  test("its end kills it, or pauses it where that was asked for", async () => {
    const killed = await create({ timeout: 0 });
    const paused = await create({ timeout: 0, autoPause: true });
    await plane.until(killed.sandboxID, "stopped");
    await plane.until(paused.sandboxID, "paused");
    expect(await status(plane.fetch("GET", `/sandboxes/${killed.sandboxID}`))).toBe(404);
    expect(await info(paused.sandboxID)).toMatchObject({ state: "paused", pauseMode: "full" });
  });

  test("a sandbox of the Wrenn dialect has no end, and connecting gives it none", async () => {
    const { id } = await plane.create();
    expect(await status(act(id.slice(3), "connect", { timeout: 1 }))).toBe(200);
    expect((await info(id.slice(3))).endAt).toBe("2999-12-31T00:00:00.000Z");
  });

  test("a sandbox that another replica was told to keep is not ended by one that saw its old end", async () => {
    const { sandboxID: id } = await create({ timeout: 300 });
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    plane.host.script("destroy", "1*error(not yet)");
    await sql`update sandboxes set end_at = now() - interval '1 hour' where id = ${id}`;
    await act(id, "timeout", { timeout: 300 });
    const state = (await plane.json(200, "GET", `/v1/capsules/${id}`)).status;
    if (state === "running") expect(await left(id)).toBeGreaterThan(200);
    else await plane.until(id, "stopped");
  });
});

describe("pause and resume", () => {
  test("a pause of a paused one is 409, connect resumes with 201 and a new end", async () => {
    const { sandboxID: id } = await create({ timeout: 20 });
    expect(await status(act(id, "pause"))).toBe(204);
    expect(await refusal(act(id, "pause"))).toMatchObject({ code: 409 });
    const connected = await plane.fetch("POST", `/v2/sandboxes/${id}/connect`, { timeout: 400 });
    expect([connected.status, ((await connected.json()) as rest.e2b.Sandbox).sandboxID]).toEqual([201, id]);
    expect(await left(id)).toBeGreaterThan(380);
    await act(id, "pause");
    expect(await status(act(id, "resume", { timeout: 30 }))).toBe(201);
    expect(await status(act(id, "resume", { timeout: 30 }))).toBe(409);
  });

  test("a pause of a healthy guest only leaves one alone whose agent does not answer", async () => {
    const { sandboxID: id } = await create();
    plane.host.script("proxy", "1*error(agent_error)->off");
    const { code, message } = await refusal(act(id, "pause", { requireHealthyGuest: true }));
    expect([code, message.includes("requireHealthyGuest")]).toEqual([503, true]);
    plane.host.script("proxy", "1*error(agent_error)->off");
    expect(await refusal(act(id, "pause", { memory: false }))).toMatchObject({ code: 503 });
    expect((await info(id)).state).toBe("running");
    expect(await status(act(id, "pause", { requireHealthyGuest: true }))).toBe(204);
    expect(await refusal(act(id, "pause", { requireHealthyGuest: true }))).toMatchObject({ code: 409 });
  });

  test("a pause keeps the disk alone where that was asked for, now or at the end of its time", async () => {
    const asked = (await create()).sandboxID;
    await act(asked, "pause", { memory: false });
    const { sandboxID: over } = await create({ timeout: 0, autoPause: true, autoPauseMemory: false });
    await plane.until(over, "paused");
    for (const id of [asked, over]) {
      expect(await info(id)).toMatchObject({ state: "paused", pauseMode: "filesystem" });
      expect(await status(act(id, "connect"))).toBe(201);
      await act(id, "pause");
      expect(await info(id)).toMatchObject({ pauseMode: "full" });
    }
  });

  test("a connect or resume can give up the memory that was kept, a snapshot can leave it out", async () => {
    const { sandboxID: id } = await create();
    for (const action of ["connect", "resume"]) {
      await act(id, "pause");
      expect(await status(act(id, action, { memory: false }))).toBe(201);
      expect(plane.host.calls.at(-1)).toBe(`resume ${id} disk only`);
    }
    expect(await status(act(id, "connect", { memory: false }))).toBe(200);
    const { snapshotID } = await plane.json<{ snapshotID: string }>(201, "POST", `/sandboxes/${id}/snapshots`, {
      memory: false,
    });
    expect(plane.host.calls.at(-1)).toBe(`checkpoint ${id} disk only`);
    await create({ templateID: snapshotID });
  });

  test("traffic boots nothing: one that kept its disk alone looks gone until somebody connects", async () => {
    plane.host.apps.set(3000, plane.guest.address);
    const { sandboxID: id } = await create({ autoPause: true, autoResume: { enabled: true } });
    await act(id, "pause", { memory: false });
    expect(await status(toPort(id, 3000))).toBe(502);
    expect((await info(id)).state).toBe("paused");
    await act(id, "connect");
    expect(await status(toPort(id, 3000))).not.toBe(502);
  });

  test("what is not held is refused by name, and makes nothing", async () => {
    const made = plane.host.sandboxes.size;
    const body = { templateID: "minimal", volumeMounts: [{ name: "v", path: "/v" }] };
    expect(await refusal(plane.fetch("POST", "/sandboxes", body))).toMatchObject({ code: 400 });
    expect(plane.host.sandboxes.size).toBe(made);
  });

  test("what is killed is gone: every call is 404, and so is an id that no sandbox can have", async () => {
    const { sandboxID: id } = await create();
    expect(await status(plane.fetch("DELETE", `/sandboxes/${id}`))).toBe(204);
    for (const gone of [id, "nonexistingsandbox"]) {
      expect(await refusal(plane.fetch("DELETE", `/sandboxes/${gone}`))).toMatchObject({ code: 404 });
      expect(await refusal(plane.fetch("GET", `/sandboxes/${gone}`))).toMatchObject({ code: 404 });
      for (const action of ["connect", "pause", "resume", "fork", "snapshots"])
        expect(await refusal(act(gone, action, { timeout: 5 }))).toMatchObject({ code: 404 });
      expect(await status(act(gone, "timeout", { timeout: 5 }))).toBe(404);
    }
  });

  test("traffic wakes one that asked for it, once for however many wait", async () => {
    plane.host.apps.set(3000, plane.guest.address);
    const { sandboxID: id } = await create({ autoPause: true, autoResume: { enabled: true } });
    await act(id, "pause");
    plane.host.delayMs = 100;
    const before = plane.host.calls.filter((call) => call === `resume ${id}`).length;
    const answers = await Promise.all(Array.from({ length: 60 }, () => toPort(id, 49983)));
    expect(new Set(answers.map((answer) => answer.status))).not.toContain(502);
    expect(plane.host.calls.filter((call) => call === `resume ${id}`)).toHaveLength(before + 1);
    expect(await left(id)).toBeGreaterThan(200);
  });

  test("one that did not ask for it stays paused and looks gone", async () => {
    const { sandboxID: id } = await create({ autoPause: true });
    await act(id, "pause");
    expect(await (await toPort(id, 3000)).json()).toEqual({
      sandboxId: id,
      message: "The sandbox was not found",
      code: 502,
    });
    expect((await info(id)).state).toBe("paused");
  });
});

describe("lists", () => {
  const all = (query: string) => plane.fetch("GET", `/v2/sandboxes?${query}`);
  const ids = async (answer: Response) =>
    ((await answer.json()) as rest.e2b.ListedSandbox[]).map((one) => one.sandboxID);

  test("pages lead to every sandbox once, newest or oldest first, with the number that run", async () => {
    const metadata = `metadata=${encodeURIComponent("group=pages")}`;
    const made: string[] = [];
    for (let i = 0; i < 3; i++) made.push((await create({ metadata: { group: "pages" } })).sandboxID);
    await act(made[0]!, "pause");
    const first = await all(`${metadata}&limit=2`);
    expect(first.headers.get("x-total-running")).toBe("2");
    const token = first.headers.get("x-next-token")!;
    expect(await ids(first)).toEqual([made[2]!, made[1]!]);
    const second = await all(`${metadata}&limit=2&nextToken=${token}`);
    expect(second.headers.get("x-next-token")).toBeNull();
    expect(await ids(second)).toEqual([made[0]!]);
    expect(await ids(await all(`${metadata}&order=asc`))).toEqual(made);
    expect(await ids(await all(`${metadata}&state=paused`))).toEqual([made[0]!]);
    expect(await ids(await all(`${metadata}&template=nope`))).toEqual([]);
    const { startedAt } = await info(made[2]!);
    expect(await ids(await all(`${metadata}&startedAfter=${encodeURIComponent(startedAt)}`))).toEqual([made[2]!]);
    expect(await ids(await plane.fetch("GET", `/sandboxes?${metadata}`))).toEqual([made[2]!, made[1]!]);
  });

  for (const query of ["nextToken=bm9uc2Vuc2U", "limit=0", "limit=101", "state=asleep", "metadata=%25zz", "order=up"])
    test(`?${query} is refused`, async () => {
      expect(await refusal(all(query))).toMatchObject({ code: 400 });
    });

  test("a metadata filter is read as clients write it", () => {
    // What the SDK sends for {"a b": "c&d"}, after the one decoding that every query gets.
    expect(readMetadata(decodeURIComponent("a%252520b%3Dc%252526d"))).toEqual({ "a b": "c&d" });
    expect(readMetadata("x=1&y=2")).toEqual({ x: "1", y: "2" });
  });
});

const e2bSecret = (name: string) => `\${e2b.secrets.${name}}`;

describe("outgoing traffic", () => {
  const change = (id: string, body: object) => status(plane.fetch("PUT", `/sandboxes/${id}/network`, body));
  const held = (id: string) => {
    const { internet, allow, deny } = plane.host.networks.get(id)!;
    return { internet, allow, deny };
  };
  const closed = { internet: false, allow: [], deny: [] };

  for (const body of [{ allow_internet_access: false }, { network: { denyOut: ["0.0.0.0/0"] } }])
    test(`${JSON.stringify(body)} closes it, and a change opens it`, async () => {
      const { sandboxID: id } = await create(body);
      expect(held(id)).toEqual(closed);
      expect(await change(id, {})).toBe(204);
      expect(held(id)).toEqual({ ...closed, internet: true });
    });

  test("names and ranges are allowed before everything is denied; a change replaces all of it, and is shown", async () => {
    const network = { denyOut: ["0.0.0.0/0"], allowOut: ["PyPI.org", "*.pythonhosted.org", "1.1.1.1"] };
    const { sandboxID: id } = await create({ network: { ...network, allowPublicTraffic: false } });
    expect(held(id)).toEqual({ internet: false, allow: ["pypi.org", "*.pythonhosted.org", "1.1.1.1"], deny: [] });
    expect(await change(id, { denyOut: ["8.8.8.0/24"] })).toBe(204);
    expect(held(id)).toEqual({ internet: true, allow: [], deny: ["8.8.8.0/24"] });
    const shown = await plane.json<rest.e2b.SandboxDetail>(200, "GET", `/sandboxes/${id}`);
    expect(shown.network).toEqual({ denyOut: ["8.8.8.0/24"], allowPublicTraffic: false });
  });

  test("a resume and a fork have the rules that hold now", async () => {
    const { sandboxID: id } = await create();
    expect(await change(id, { allow_internet_access: false })).toBe(204);
    plane.host.networks.delete(id);
    await act(id, "pause");
    await act(id, "resume");
    expect(held(id)).toEqual(closed);
    const [fork] = await plane.json<{ sandbox: rest.e2b.Sandbox }[]>(201, "POST", `/sandboxes/${id}/fork`, {});
    expect(held(fork!.sandbox.sandboxID)).toEqual(closed);
  });

  for (const [what, network] of Object.entries({
    "a name among what is denied": { denyOut: ["evil.test"] },
    "a name that is allowed while everything is": { allowOut: ["pypi.org"] },
    "a range that is none": { denyOut: ["10.0.0.0/33"] },
    "a rule of an unknown kind": { rules: { "a.test": [{ transform: { body: "x" } }] } },
    "a header that frames the message": {
      rules: { "a.test": [{ transform: { headers: { "Content-Length": "1" } } }] },
    },
    "a header of two lines": { rules: { "a.test": [{ transform: { headers: { a: "b\r\nc: d" } } }] } },
    "a secret that is missing": { rules: { "a.test": [{ transform: { headers: { a: e2bSecret("none") } } }] } },
    "a proxy": { egressProxy: { address: "203.0.113.1:1080" } },
  }))
    test(`${what} is refused, and makes nothing`, async () => {
      const made = plane.host.sandboxes.size;
      expect(await refusal(plane.fetch("POST", "/sandboxes", { templateID: "minimal", network }))).toMatchObject({
        code: 400,
      });
      expect(plane.host.sandboxes.size).toBe(made);
      const { sandboxID: id } = await create();
      expect(await change(id, network)).toBe(400);
    });

  test("a secret's value goes to the host, and nowhere else", async () => {
    await plane.json(201, "POST", "/secrets", { name: "key", value: "s3cret" });
    const headers = { Authorization: `Bearer ${e2bSecret("key")}`, "x-own": `${rest.secretPlaceholder("key")}!` };
    const { sandboxID: id } = await create({ network: { rules: { "api.test": [{ transform: { headers } }] } } });
    expect(plane.host.networks.get(id)!.rules).toMatchObject([
      { host: "api.test", headers: { authorization: "Bearer s3cret", "x-own": "s3cret!" } },
    ]);
    for (const path of [`/sandboxes/${id}`, `/v1/capsules/cl-${id}/network`])
      expect(await (await plane.fetch("GET", path)).text()).not.toContain("s3cret");
  });

  test("a value with a line break cannot become a header", async () => {
    await plane.json(201, "POST", "/secrets", { name: "split", value: "a\r\nhost: evil.test" });
    const { sandboxID: id } = await create();
    const headers = { a: e2bSecret("split") };
    expect(await change(id, { rules: { "api.test": [{ transform: { headers } }] } })).toBe(400);
  });

  test("the Wrenn dialect shows what holds, what was reached and what was refused", async () => {
    const { sandboxID } = await create({ allow_internet_access: false });
    const path = `/v1/capsules/cl-${sandboxID}/network`;
    const shown = await plane.json<rest.CapsuleNetwork>(200, "GET", path);
    expect(shown).toMatchObject({
      policy: closed,
      connections: [{ host: "api.test", port: 443, count: 2, sent_bytes: 3 }],
      denials: [{ ip: "203.0.113.1" }],
    });
    const policy = { internet: false, allow: ["pypi.org"], deny: [] };
    expect(await plane.json<rest.CapsuleNetwork>(200, "PUT", path, policy)).toMatchObject({ policy });
    expect(held(sandboxID)).toEqual(policy);
  });
});

describe("snapshots", () => {
  test("one is a template; its name can be given again, and its deletion is told", async () => {
    const { sandboxID: id } = await create();
    const take = (name?: string) =>
      plane.json<{ snapshotID: string; names: string[] }>(201, "POST", `/sandboxes/${id}/snapshots`, { name });
    const first = await take("mine");
    expect(first).toEqual({ snapshotID: "mine:default", names: ["mine:default"] });
    expect(await take("mine")).toEqual(first);
    const child = await create({ templateID: first.snapshotID });
    expect(child.templateID).toBe("mine");
    const { snapshotID } = await take();
    await act(id, "fork", { count: 2 });
    const listed = await plane.json<(typeof first)[]>(200, "GET", `/snapshots?sandboxID=${id}`);
    expect(listed.map((one) => one.snapshotID)).toEqual([snapshotID, "mine:default"]);
    expect(await plane.json<unknown[]>(200, "GET", "/snapshots?name=mine")).toEqual([first]);
    expect(await status(plane.fetch("DELETE", `/templates/${first.snapshotID}`))).toBe(204);
    expect(await refusal(plane.fetch("DELETE", `/templates/${first.snapshotID}`))).toMatchObject({ code: 404 });
  });

  test("a fork's children run until their own end", async () => {
    const { sandboxID: id } = await create({ timeout: 1_000, metadata: { of: "me" } });
    const forks = await plane.json<{ sandbox: rest.e2b.Sandbox }[]>(201, "POST", `/sandboxes/${id}/fork`, {
      ...{ count: 2, timeout: 30 },
    });
    expect(new Set([id, ...forks.map((fork) => fork.sandbox.sandboxID)]).size).toBe(3);
    expect(await left(forks[1]!.sandbox.sandboxID)).toBeLessThan(31);
    expect(await left(id)).toBeGreaterThan(900);
  });

  test("each child of a fork comes or fails by itself, and a source that is gone is told before any is tried", async () => {
    const { sandboxID: id } = await create();
    plane.host.script("create", "1*off->1*error(insufficient_storage)->off");
    const forks = await plane.json<{ sandbox?: rest.e2b.Sandbox; error?: rest.e2b.ErrorBody }[]>(
      ...([201, "POST", `/sandboxes/${id}/fork`, { count: 3 }] as const),
    );
    const made = forks.flatMap(({ sandbox }) => sandbox ?? []);
    expect(forks.flatMap(({ error }) => error ?? [])).toEqual([{ code: 507, message: expect.any(String) }]);
    expect(made).toHaveLength(2);
    for (const { sandboxID } of made) expect((await info(sandboxID)).state).toBe("running");
    plane.host.script("checkpoint", "1*error(insufficient_storage)->off");
    expect(await refusal(act(id, "fork", { count: 2 }))).toMatchObject({ code: 507 });
  });

  test("names come with teams and tags", () => {
    expect(["a", "a:default", "team/a", "team/a:default", "a:v1"].map(plainName)).toEqual(["a", "a", "a", "a", "a:v1"]);
  });
});

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
      const seen = plane.host.seen.get(`/proxy/${id}/49983/health`)!;
      expect([seen.get(headers.accessToken), seen.get(headers.asClient)]).toEqual([token, "1"]);
    }
  });

  for (const path of ["/init", "/freeze", "/fsfreeze", "/collapse", "/ports/22", "/%69nit", "//init", "/x/..%2finit"])
    test(`${path} is its host's alone`, async () => {
      const before = plane.host.proxied;
      expect(await status(visit(path, { method: "POST", headers: { host: `49983-${id}.any.example` } }))).toBe(404);
      expect(plane.host.proxied).toBe(before);
    });

  test("a host name says more than a header", async () => {
    const other = (await create()).sandboxID;
    await visit("/envs", { headers: { host: `49983-${id}.any.example`, [headers.e2bSandboxId]: other } });
    expect(plane.host.seen.has(`/proxy/${id}/49983/envs`)).toBe(true);
    expect(plane.host.seen.has(`/proxy/${other}/49983/envs`)).toBe(false);
  });

  test("a signed file URL that names no sandbox finds its own by the signature", async () => {
    const sign = (operation: string, key: string) =>
      `v1_${new Bun.CryptoHasher("sha256").update(`a.txt:${operation}::${key}`).digest("base64").replace(/=+$/, "")}`;
    const url = (signature: string) => `/files?path=a.txt&signature=${encodeURIComponent(signature)}`;
    await visit(url(sign("read", token)));
    expect(plane.host.seen.has(`/proxy/${id}/49983/files`)).toBe(true);
    for (const signature of [sign("write", token), sign("read", "other"), "v1_"]) {
      const before = plane.host.proxied;
      expect(await status(visit(url(signature)))).toBe(502);
      expect(plane.host.proxied).toBe(before);
    }
  });

  test("early clients name no sandbox, but show its token: it is the one that the token is of", async () => {
    const shown = (key: string) => ({ headers: { [headers.accessToken]: key } });
    await visit("/files?path=a.txt", shown(token));
    expect(plane.host.seen.has(`/proxy/${id}/49983/files`)).toBe(true);
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
    plane.host.apps.set(3000, plane.guest.address);
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
    expect(plane.host.seen.get(`/proxy/${id}/3000/`)!.get("x-forwarded-host")).toBe("app.example:3000");
  });
});

test("a port whose server speaks TLS is told to the host, and no client can say so", async () => {
  plane.host.apps.set(8443, plane.guest.address);
  const { sandboxID: id } = await create({ network: { httpsPorts: [8443] } });
  for (const port of [8443, 3000]) await toPort(id, port, { [headers.guestTls]: "1" });
  const told = [8443, 3000].map((port) => plane.host.seen.get(`/proxy/${id}/${port}/`)!.get(headers.guestTls));
  expect(told).toEqual(["1", null]);
});

describe("identity tokens", () => {
  const token = (name: string) => `\${e2b.identity.tokens.${name}}`;
  const rules = (name: string) => ({
    "sts.test": [{ transform: { headers: { authorization: `Bearer ${token(name)}` } } }],
  });
  const iam = { tokens: { aws: { audience: "sts.test", tokenType: "JWT-SVID" as const } } };
  const sent = (id: string) => plane.host.networks.get(id)!.rules[0]!.headers.authorization!.replace("Bearer ", "");

  test("are signed for their audience, and anybody can check them", async () => {
    const { sandboxID: id } = await create({ iam, network: { rules: rules("aws") } });
    const found = (await (await fetch(`${plane.address}/.well-known/openid-configuration`)).json()) as {
      issuer: string;
      jwks_uri: string;
    };
    const keys = createRemoteJWKSet(new URL(found.jwks_uri));
    const { payload } = await jwtVerify(sent(id), keys, { issuer: found.issuer, audience: "sts.test" });
    expect(payload.sandbox_id).toBe(id);
    expect(payload.sub).toStartWith("spiffe://localhost/team/");
    expect(payload.sub).toEndWith(`/sandbox/${id}`);
    expect(await jwtVerify(sent(id), keys, { audience: "other.test" }).catch(() => "refused")).toBe("refused");
    const [fork] = await plane.json<{ sandbox: rest.e2b.Sandbox }[]>(201, "POST", `/sandboxes/${id}/fork`, {});
    expect(decodeJwt(sent(fork!.sandbox.sandboxID)).sandbox_id).toBe(fork!.sandbox.sandboxID);
  });

  test("are not given out as keys, nor by a name that was not registered, nor of another type", async () => {
    expect(await (await fetch(`${plane.address}/.well-known/jwks.json`)).text()).not.toContain('"d"');
    const other = { tokens: { aws: { ...iam.tokens.aws, tokenType: "X509-SVID" } } };
    for (const body of [
      { iam, network: { rules: rules("gcp") } },
      { network: { rules: rules("aws") } },
      { iam: other },
    ])
      expect(await refusal(plane.fetch("POST", "/sandboxes", { templateID: "minimal", ...body }))).toMatchObject({
        code: 400,
      });
  });
});

describe("what is known of a sandbox", () => {
  const at = (second: number) => BigInt(Date.UTC(2026, 0, 1, 0, 0, second));
  const logged = (second: number, level: string, message: string) =>
    make(hostagent.LogEntrySchema, {
      cursor: BigInt(second),
      timestampMs: at(second),
      level,
      source: "host",
      message,
    });

  test("its log is told in both versions: from a time on, either way, by level and by words", async () => {
    const { sandboxID: id } = await create();
    plane.host.entries = [logged(1, "info", "one"), logged(2, "error", "two"), logged(3, "info", "three")];
    const first = await plane.json<{ logs: { line: string }[]; logEntries: object[] }>(
      200,
      "GET",
      `/sandboxes/${id}/logs?start=${at(2)}`,
    );
    expect(first.logs.map(({ line }) => line)).toEqual(["two", "three"]);
    expect(first.logEntries[0]).toMatchObject({ level: "error", message: "two", fields: { source: "host" } });
    const ask = async (query: string) =>
      (await plane.json<{ logs: { message: string }[] }>(200, "GET", `/v2/sandboxes/${id}/logs?${query}`)).logs.map(
        ({ message }) => message,
      );
    expect(await ask("")).toEqual(["one", "two", "three"]);
    expect(await ask(`direction=backward&cursor=${at(2)}`)).toEqual(["two", "one"]);
    expect(await ask("level=warn")).toEqual(["two"]);
    expect(await ask("search=thr&limit=1")).toEqual(["three"]);
    expect(await refusal(plane.fetch("GET", `/v2/sandboxes/${id}/logs?direction=up`))).toMatchObject({ code: 400 });
  });

  test("its load is told in the client's words", async () => {
    const { sandboxID: id } = await create();
    plane.host.points = [make(hostagent.MetricPointSchema, { timestampMs: BigInt(Date.now()), cpuPct: 12.5 })];
    const [point] = await plane.json<rest.e2b.Metric[]>(200, "GET", `/sandboxes/${id}/metrics`);
    expect(point).toMatchObject({ cpuCount: 2, cpuUsedPct: 12.5, memTotal: 512 * 1024 * 1024 });
  });

  test("the load of many is told at once; those that have none to tell are left out", async () => {
    const ids = [(await create()).sandboxID, (await create()).sandboxID];
    const killed = (await create()).sandboxID;
    await plane.fetch("DELETE", `/sandboxes/${killed}`);
    const foreign = (await create()).sandboxID;
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const key = await plane.otherKey();
    await sql`update sandboxes set team_id = (select id from teams where id <> team_id limit 1) where id = ${foreign}`;
    const now = Date.now();
    plane.host.points = [now - 2_000, now].map((at, index) =>
      make(hostagent.MetricPointSchema, { timestampMs: BigInt(at), cpuPct: index }),
    );
    const asked = [...ids, killed, foreign, "nonsense", ids[0]].join(",");
    const ask = (headers = {}) => plane.fetch("GET", `/sandboxes/metrics?sandbox_ids=${asked}`, undefined, headers);
    const { sandboxes } = (await (await ask()).json()) as { sandboxes: Record<string, rest.e2b.Metric> };
    expect(Object.keys(sandboxes).sort()).toEqual([...ids].sort());
    expect(sandboxes[ids[0]!]).toMatchObject({ cpuUsedPct: 1, timestampUnix: Math.floor(now / 1000) });
    const others = (await (await ask({ [headers.apiKey]: key })).json()) as { sandboxes: object };
    expect(Object.keys(others.sandboxes)).toEqual([foreign]);
  });

  for (const query of ["", "?sandbox_ids=", `?sandbox_ids=${Array.from({ length: 101 }, (_, i) => i).join(",")}`])
    test(`the load of ${query.slice(0, 20) || "nothing"} is refused`, async () => {
      expect(await refusal(plane.fetch("GET", `/sandboxes/metrics${query}`))).toMatchObject({ code: 400 });
    });
});

test("a key tells its own team and no other", async () => {
  const other = await plane.otherKey();
  const ask = async (key: string) => (await visit("/teams", { headers: { [headers.apiKey]: key } })).json();
  const [mine, theirs] = [await ask(apiKey), await ask(other)] as [rest.e2b.Team[], rest.e2b.Team[]];
  expect(mine).toEqual([{ teamID: expect.any(String), name: expect.any(String), apiKey, isDefault: true }]);
  expect(theirs).toMatchObject([{ apiKey: other }]);
  expect(theirs[0]!.teamID).not.toBe(mine[0]!.teamID);
  expect(await refusal(visit("/teams"))).toMatchObject({ code: 401 });
});
