import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest, WrennError } from "@wrenn/contract";
import { Human } from "../support/people.ts";
import { Plane } from "../support/plane.ts";
import { Document } from "./document.ts";
import { type Class, type Route, routes } from "./routes.ts";

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

function send([method, path, , body]: Route, given: Record<string, string>, at = concrete(path)): Promise<Response> {
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

/** Pages and documents are not described by the document itself. */
const isDescribed = ([, path]: Route) => path !== "/docs" && path !== "/openapi.yaml";
const isServed = (route: Route) => !isDescribed(route) || document.find(route[0], route[1]) !== undefined;

for (const route of routes) {
  const [method, path, access] = route;
  if (!isServed(route)) {
    test.skip(`${method} ${path} — skipped: it is not served yet`, () => {});
    continue;
  }
  describe(`${method} ${path} is for ${access}:`, () => {
    for (const caller of [...Object.keys(callers), "an administrator", "a person", "a closed account"])
      test(caller, async () => {
        const answer = await send(route, callers[caller]!);
        const refused = refusals[access](caller);
        if (refused !== undefined) expect(answer.status).toBe(refused);
        else if (access !== "none") expect(await codeOf(answer)).not.toBe("unauthorized");
        expect(answer.status).toBeLessThan(500);
        if (isDescribed(route)) expect(await document.judge(method, path, answer)).toBeUndefined();
      });
  });
}

describe("an id of another team looks like one that does not exist, on every route with one:", () => {
  let foreign: rest.Capsule;
  beforeAll(async () => {
    foreign = await plane.create();
  });
  for (const [method, path, operation] of document.operations()) {
    if (!/^\/v1\/capsules\/\{id\}/.test(path) || path.includes("/agent/") || operation.responses["101"]) continue;
    test(`${method} ${path}`, async () => {
      const route: Route = [method, path, "KEY/JWT", operation.requestBody && sample(path)];
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
  ...routes.find(([, known]) => known === path)?.[3],
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
