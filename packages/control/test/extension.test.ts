import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { start } from "../src/index.ts";
import { seen } from "./support/extension.ts";
import { byKey, call, Human } from "./support/people.ts";
import { apiKey, Plane } from "./support/plane.ts";

const path = join(import.meta.dir, "support/extension.ts");
let plane: Plane;
let ann: Human;
beforeAll(async () => {
  plane = await Plane.start({}, {}, { extensions: [path] });
  ann = await Human.join(plane, "Ann");
});
afterAll(() => plane[Symbol.asyncDispose]());

test("an extension's route is served, decoded, guarded and documented like the others", async () => {
  await plane.create();
  expect((await ann.ask("GET", "/v1/sample")).body).toEqual({ sandboxes: 1 });
  expect((await byKey(plane, apiKey, "GET", "/v1/sample")).code).toBe("unauthorized");
  const { body } = await call<{ paths: Record<string, object> }>(plane, "GET", "/openapi.json");
  expect(body.paths["/v1/sample"]).toBeDefined();
});

test("its middleware stands around our routes, behind the door", async () => {
  const refuse = { "x-sample": "refuse" };
  expect((await plane.fetch("GET", "/v1/capsules", undefined, refuse)).status).toBe(403);
  expect((await call(plane, "GET", "/v1/capsules", undefined, refuse)).status).toBe(401);
});

test("its worker begins with the server and ends with it", async () => {
  expect(seen).toEqual(["started"]);
  await plane.restart();
  expect(seen).toEqual(["started", "stopped", "started"]);
});

test("one that cannot be loaded keeps the server from starting, and is named", async () => {
  const options = { ...plane.options, extensions: ["/no/such/extension.ts"] };
  expect(start(options)).rejects.toThrow("/no/such/extension.ts");
});
