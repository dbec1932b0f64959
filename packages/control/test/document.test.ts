import { afterAll, describe, expect, test } from "bun:test";
import { codes, type ErrorBody, httpStatus, isCode } from "@wrenn/contract";
import { Document } from "./spec/document.ts";
import { Human } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

const plane = await Plane.start();
const document = await Document.of(plane.address);
afterAll(() => plane[Symbol.asyncDispose]());

describe("the OpenAPI document's examples", () => {
  test("every JSON body and answer has one, and it is what its schema says", () => {
    const wrong = document.examples().flatMap(({ where, example, pointer }) => {
      if (example === undefined) return `${where}: no example`;
      const error = document.check(pointer, example);
      return error === undefined ? [] : `${where}: ${error}`;
    });
    expect(wrong).toEqual([]);
    expect(document.examples().length).toBeGreaterThan(150);
  });

  test("every error of every route has one, under its own code and status", () => {
    const shown = new Set<string>();
    for (const [method, path, { responses }] of document.operations())
      for (const [status, { content }] of Object.entries(responses)) {
        if (Number(status) < 400) continue;
        const names = Object.keys(content?.["application/json"]?.examples ?? {});
        expect(names, `${method} ${path} ${status}`).not.toEqual([]);
        for (const name of names) {
          expect(isCode(name)).toBe(true);
          const { error } = document.errorExample(name) as ErrorBody;
          expect([error.code, httpStatus[error.code], !!error.remedy]).toEqual([name, Number(status), true] as never);
          shown.add(name);
        }
      }
    expect([...shown].sort()).toEqual([...codes].sort() as string[]);
  });

  test("no route refuses the body of its own example as malformed", async () => {
    const ann = await Human.join(plane, "Ann");
    const wrong: string[] = [];
    for (const [method, path, { requestBody }] of document.operations()) {
      const example = requestBody?.content?.["application/json"]?.example;
      if (example === undefined || /logout|\/me\/password$|^\/v1\/me$/.test(path)) continue;
      const at = path.replace(/\/capsules\/\{id\}/, `/capsules/cl-${"0".repeat(25)}`).replace(/\{\w+\}/g, "none");
      const { status, body } = await ann.ask<{ error?: { message: string } }>(method, at, example);
      const message = body?.error?.message ?? "";
      if (status === 400 && /^body/.test(message)) wrong.push(`${method} ${path}: ${message}`);
    }
    expect(wrong).toEqual([]);
  });
});

test("an object that changes has an entity tag: who has it is told so, and a change of another version is refused", async () => {
  const bob = await Human.join(plane, "Bob");
  const team = `/v1/teams/${bob.auth.team_id}`;
  const ask = (method: string, path: string, given: Record<string, string>, body?: object) =>
    fetch(plane.address + path, {
      method,
      headers: { authorization: `Bearer ${bob.auth.token}`, "content-type": "application/json", ...given },
      ...(body && { body: JSON.stringify(body) }),
    });
  const made = await bob.ask<{ id: string }>("POST", "/v1/channels", {
    ...{ name: "hook", provider: "webhook", config: { url: "http://127.0.0.1:9" }, events: ["capsule.created"] },
  });
  const channel = `/v1/channels/${made.body.id}`;
  const changes: [path: string, method: string, body: object][] = [
    [team, "PATCH", { name: "Bobs" }],
    [channel, "PATCH", { name: "other", events: ["capsule.paused"] }],
    ["/v1/me", "PATCH", { name: "Robert" }],
  ];
  for (const [path, method, body] of changes) {
    const etag = (await ask("GET", path, {})).headers.get("etag")!;
    expect((await ask("GET", path, { "if-none-match": etag })).status).toBe(304);
    expect((await ask(method, path, { "if-match": '"another"' }, body)).status).toBe(412);
    expect((await ask("GET", path, { "if-none-match": etag })).status).toBe(304); // nothing was changed
    expect((await ask(method, path, { "if-match": etag }, body)).status).toBeLessThan(300);
    expect((await ask("GET", path, { "if-none-match": etag })).status).toBe(200);
    expect((await ask(method, path, { "if-match": etag }, body)).status).toBe(412);
  }
  const [host] = await plane.json<{ id: string }[]>(200, "GET", "/v1/hosts");
  const one = `/v1/hosts/${host!.id}`;
  const etag = (await plane.fetch("GET", one)).headers.get("etag")!;
  const cordon = () => plane.refusal("POST", `${one}/cordon`, undefined, { "if-match": etag });
  expect((await cordon()).status).toBe(200);
  expect(await cordon()).toEqual({ status: 412, code: "precondition_failed" });
  await plane.json(200, "POST", `${one}/uncordon`);
});
