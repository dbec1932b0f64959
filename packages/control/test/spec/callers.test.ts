import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest, WrennError } from "@wrenn/contract";
import { Human } from "../support/people.ts";
import { Plane } from "../support/plane.ts";
import { Document } from "./document.ts";
import { type Class, type Route, routes, sockets } from "./routes.ts";

const plane = await Plane.start();
const document = await Document.of(plane.address);
afterAll(() => plane[Symbol.asyncDispose]());

const nowhere = { id: `cl-${"0".repeat(25)}`, team: `team-${"z".repeat(25)}`, host: `host-${"z".repeat(25)}` };

/** Headers of each class of caller. */
const callers: Record<string, Record<string, string>> = {
  nobody: {},
  "an unknown key": { [headers.apiKey]: `wrn_${"f".repeat(32)}` },
  "a forged session": { authorization: `Bearer wrs_${"x".repeat(43)}` },
  "a key": {},
};
beforeAll(async () => {
  const admin = await Human.join(plane, "Ann");
  const member = await Human.join(plane, "Bob");
  const closed = await Human.join(plane, "Cid");
  await admin.ask("PUT", `/v1/admin/users/${closed.auth.user_id}/active`, { active: false });
  for (const [name, human] of Object.entries({
    "an administrator": admin,
    "a person": member,
    "a closed account": closed,
  }))
    callers[name] = { authorization: `Bearer ${human.auth.token}` };
  const { body } = await member.ask<rest.NewApiKey>("POST", "/v1/api-keys", {});
  callers["a key"] = { [headers.apiKey]: body.key };
});

/** Statuses by which a class keeps a caller out; `undefined` when it lets them in. */
const refusals: Record<Class, (caller: string) => number | undefined> = {
  none: () => undefined,
  "KEY/JWT": (caller) => (["a key", "a person", "an administrator"].includes(caller) ? undefined : 401),
  JWT: (caller) => (["a person", "an administrator"].includes(caller) ? undefined : 401),
  ADMIN: (caller) => (caller === "an administrator" ? undefined : caller === "a person" ? 403 : 401),
  HOST: () => 401,
};

/** A path with ids of nothing: what is asked for is not there, so that nothing is changed. */
function concrete(path: string): string {
  const id = path.includes("/capsules/") ? nowhere.id : path.includes("/hosts/") ? nowhere.host : nowhere.team;
  return path
    .replace("{id}", id)
    .replace("{team}", nowhere.team)
    .replace(/\{\w+\}/g, "none");
}

function send([method, path, , , body]: Route, given: Record<string, string>, at = concrete(path)): Promise<Response> {
  return fetch(plane.address + at, {
    method,
    redirect: "manual",
    headers: { ...given, ...(body && { "content-type": "application/json" }) },
    ...(body && { body: JSON.stringify(body) }),
  });
}

const codeOf = async (answer: Response): Promise<string | undefined> =>
  WrennError.fromBody(
    await answer
      .clone()
      .json()
      .catch(() => undefined),
  )?.code;

/** The route with an address of the caller's own in its body: one address may ask for few mails. */
function own([method, path, access, status, body]: Route, caller: string): Route {
  const email = `${caller.replaceAll(" ", "-")}@example.com`;
  return [method, path, access, status, body && "email" in body ? { ...body, email } : body];
}

/** Pages and documents are not described by the document itself. */
const isDescribed = ([, path]: Route) => path !== "/docs" && path !== "/openapi.yaml";
const everybody = [...Object.keys(callers), "an administrator", "a person", "a closed account"];

test("the table has every route of the reference once: a hundred and one, and six WebSockets", () => {
  expect(new Set(routes.map(([method, path]) => `${method} ${path}`)).size).toBe(101);
  expect(routes.length).toBe(101);
  expect(sockets.length).toBe(6);
});

for (const route of routes) {
  const [method, path, access, status] = route;
  describe(`${method} ${path} is for ${access}:`, () => {
    for (const caller of everybody)
      test(caller, async () => {
        const answer = await send(own(route, caller), callers[caller]!);
        const refused = refusals[access](caller);
        // Operators may, but not for a team that there is not.
        const isOperator = caller === "an administrator" && `${method} ${path}` === "POST /v1/hosts";
        expect(answer.status).toBe(refused ?? (isOperator ? 400 : status));
        if (refused === 401) expect(await codeOf(answer)).toBe("unauthorized");
        if (isDescribed(route)) expect(await document.judge(method, path, answer)).toBeUndefined();
      });
  });
}

for (const [path, access] of sockets)
  describe(`the WebSocket ${path} is for ${access}:`, () => {
    for (const caller of everybody)
      test(caller, async () => {
        const { authorization, [headers.apiKey]: key } = callers[caller]!;
        const token = key ?? authorization?.replace("Bearer ", "");
        const socket = new WebSocket(plane.address.replace("http", "ws") + concrete(path));
        const { promise, resolve } = Promise.withResolvers<{ type: string; code?: string }>();
        socket.onmessage = ({ data }) => resolve(JSON.parse(String(data)));
        socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token: token ?? "" }));
        const { type, code } = await promise;
        const refused = refusals[access](caller);
        expect([type, code]).toEqual(["error", refused === 401 ? "unauthorized" : refused ? "forbidden" : "not_found"]);
      });
  });

test("a host's own token opens its heartbeat, no other host's, and nothing else", async () => {
  const admin = callers["an administrator"]!;
  const post = (path: string, body: object, given: Record<string, string>) =>
    fetch(plane.address + path, {
      method: "POST",
      headers: { ...given, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  const made = (await (await post("/v1/hosts", { type: "regular" }, admin)).json()) as rest.RegistrableHost;
  const join = { token: made.registration_token, address: "192.0.2.1:1" };
  const { host, token } = (await (await post("/v1/hosts/register", join, {})).json()) as rest.HostIdentity;
  const own = { [headers.registeredHost]: token };
  expect((await post(`/v1/hosts/${host.id}/heartbeat`, {}, own)).status).toBe(204);
  expect((await post(`/v1/hosts/${nowhere.host}/heartbeat`, {}, own)).status).toBe(403);
  for (const route of routes) {
    if (route[2] === "none" || route[2] === "HOST") continue;
    expect([route[1], (await send(route, own)).status]).toEqual([route[1], 401]);
    expect([route[1], (await send(route, { authorization: `Bearer ${token}` })).status]).toEqual([route[1], 401]);
  }
});

describe("an id of another team looks like one that does not exist, on every route with one:", () => {
  let foreign: rest.Capsule;
  beforeAll(async () => {
    foreign = await plane.create();
  });
  for (const [method, path, operation] of document.operations()) {
    if (!/^\/v1\/capsules\/\{id\}/.test(path) || path.includes("/agent/") || operation.responses["101"]) continue;
    test(`${method} ${path}`, async () => {
      const route: Route = [method, path, "KEY/JWT", 404, operation.requestBody && sample(path)];
      const at = (id: string) => concrete(path.replace("{id}", id)).replace("/ports/none", "/ports/8080");
      const answers = await Promise.all(
        [foreign.id, nowhere.id].map((id) => send(route, callers["a person"]!, at(id))),
      );
      const seen = await Promise.all(
        answers.map(async (answer) => {
          const error = WrennError.fromBody(await answer.json());
          return [answer.status, error?.code, error?.message];
        }),
      );
      expect(seen[0]).toEqual(seen[1]!);
      expect([400, 404]).toContain(answers[0]!.status);
    });
  }
});

/** A body that routes with one accept as far as their id. */
const sample = (path: string): object => ({
  ...routes.find(([, known]) => known === path)?.[4],
  ...(path.endsWith("/rollback") && { snapshot: "x" }),
  ...(path.endsWith("/timeout") && { timeout_sec: 1 }),
});

describe("the document", () => {
  test("has an error envelope for every refusal, and names who may call every route below /v1", () => {
    for (const [method, path, { responses, security }] of document.operations()) {
      if (!path.startsWith("/v1/")) continue;
      const where = `${method} ${path}`;
      expect(security, where).toBeArray();
      if (security!.length > 0) expect(responses["401"], where).toBeDefined();
      for (const [status, { content }] of Object.entries(responses))
        if (Number(status) >= 400) expect(content?.["application/json"]?.schema, `${where} ${status}`).toBeDefined();
    }
  });
});
