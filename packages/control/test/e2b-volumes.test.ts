import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { Plane } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start();
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

type Volume = rest.e2b.VolumeAndToken;
const make = (name: string) => plane.json<Volume>(201, "POST", "/volumes", { name });
const refusal = async (answer: Promise<Response>) => {
  const got = await answer;
  return { status: got.status, ...((await got.json()) as { code: number | string }) };
};
/** A request for a volume's content, by a client that holds no API key. */
const content = (id: string, token: string, path: string, init: RequestInit = {}) =>
  fetch(`${plane.address}/volumecontent/${id}/${path}`, { ...init, headers: { authorization: `Bearer ${token}` } });

test("a volume is made on a host, listed, told with its token, and removed with its files", async () => {
  const made = await make("notes");
  expect(made).toEqual({
    volumeID: expect.stringMatching(/^vol_[a-z0-9]{25}$/),
    name: "notes",
    token: expect.any(String),
  });
  expect([...plane.host.volumes.keys()]).toContain(made.volumeID);
  expect(await plane.json<unknown[]>(200, "GET", "/volumes")).toContainEqual({
    volumeID: made.volumeID,
    name: "notes",
  });
  expect(await plane.json<Volume>(200, "GET", `/volumes/${made.volumeID}`)).toEqual(made);
  expect(await refusal(plane.fetch("POST", "/volumes", { name: "notes" }))).toMatchObject({ status: 409, code: 409 });
  await plane.json(204, "DELETE", `/volumes/${made.volumeID}`);
  expect(plane.host.volumes.has(made.volumeID)).toBe(false);
  for (const method of ["GET", "DELETE"])
    expect(await refusal(plane.fetch(method, `/volumes/${made.volumeID}`))).toMatchObject({ status: 404, code: 404 });
});

test("its content is opened by its own token and by nothing else", async () => {
  const [mine, other] = [await make("mine"), await make("other")];
  expect((await content(mine.volumeID, mine.token, "file?path=a", { method: "PUT", body: "hällo" })).status).toBe(201);
  expect(await (await content(mine.volumeID, mine.token, "file?path=%2Fa%20b&depth=2")).text()).toBe("hällo");
  expect(plane.host.calls.at(-1)).toBe("GET file?path=%2Fa%20b&depth=2");
  for (const token of [other.token, "", "x"])
    expect(await refusal(content(mine.volumeID, token, "file?path=a"))).toMatchObject({
      ...{ status: 401, code: "unauthorized" },
    });
  const withKey = plane.fetch("GET", `/volumecontent/${mine.volumeID}/file?path=a`);
  expect(await refusal(withKey)).toMatchObject({ status: 401 });
  expect(await refusal(content(mine.volumeID, mine.token, "else"))).toMatchObject({ status: 404, code: "not_found" });
  await plane.json(204, "DELETE", `/volumes/${mine.volumeID}`);
  expect(await refusal(content(mine.volumeID, mine.token, "file?path=a"))).toMatchObject({ status: 404 });
});

test("another team's volume does not exist", async () => {
  const { volumeID } = await make("ours");
  const key = { [headers.apiKey]: await plane.otherKey() };
  for (const method of ["GET", "DELETE"])
    expect(await refusal(plane.fetch(method, `/volumes/${volumeID}`, undefined, key))).toMatchObject({ status: 404 });
  expect(await (await plane.fetch("GET", "/volumes", undefined, key)).json()).toEqual([]);
  expect((await plane.fetch("POST", "/volumes", { name: "ours" }, key)).status).toBe(201);
});

test("a volume whose host fails is not made, and one that cannot be removed stays", async () => {
  plane.host.script("volume", "1*error(no)->off");
  expect((await plane.fetch("POST", "/volumes", { name: "unlucky" })).status).toBe(500);
  const { volumeID } = await make("unlucky");
  plane.host.script("volume", "1*error(no)->off");
  expect((await plane.fetch("DELETE", `/volumes/${volumeID}`)).status).toBe(500);
  expect((await plane.fetch("GET", `/volumes/${volumeID}`)).status).toBe(200);
  expect((await plane.fetch("DELETE", `/volumes/${volumeID}`)).status).toBe(204);
});

for (const name of ["", "a b", "../x", "ü", "x".repeat(129)])
  test(`the name ${JSON.stringify(name.slice(0, 8))} is refused`, async () => {
    expect(await refusal(plane.fetch("POST", "/volumes", { name }))).toMatchObject({ status: 400, code: 400 });
  });
