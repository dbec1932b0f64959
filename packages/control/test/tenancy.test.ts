import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { Document } from "./spec/document.ts";
import { Human } from "./support/people.ts";
import { Plane } from "./support/plane.ts";

/**
 * Every route that names something, from the OpenAPI document: an id of another team is answered as one that does not
 * exist, to a key and to a person, to the letter.
 */
const plane = await Plane.start();
const document = await Document.of(plane.address);
afterAll(() => plane[Symbol.asyncDispose]());

/** What another team has, and what nobody has, by the name of the parameter. */
let theirs: Record<string, string>;
const nobodys: Record<string, string> = {
  capsule: `cl-${"0".repeat(25)}`,
  team: `team-${"z".repeat(25)}`,
  key: `key-${"z".repeat(25)}`,
  channel: `ch-${"z".repeat(25)}`,
  delivery: "999999",
  host: `host-${"z".repeat(25)}`,
  user: `usr-${"z".repeat(25)}`,
  invitation: `inv-${"z".repeat(25)}`,
  snapshot: "nothing-of-this-name",
  volume: `vol-${"z".repeat(25)}`,
  secret: "nothing-of-this-name",
  build: `bld-${"z".repeat(25)}`,
};
const mine: Record<string, Record<string, string>> = {};

beforeAll(async () => {
  await Human.join(plane, "Root"); // the first account administers the installation
  const [owner, other] = [await Human.join(plane, "Owner"), await Human.join(plane, "Other")];
  const ask = async <T>(method: string, path: string, body?: object): Promise<T> => {
    const answer = await owner.ask<T>(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status}`);
    return answer.body;
  };
  const { id: capsule } = await ask<rest.Capsule>("POST", "/v1/capsules", {});
  const { name: snapshot } = await ask<rest.Snapshot>("POST", `/v1/capsules/${capsule}/checkpoint`, { name: "theirs" });
  const { id: key } = await ask<rest.NewApiKey>("POST", "/v1/api-keys", { name: "theirs" });
  const { id: channel } = await ask<rest.Channel>("POST", "/v1/channels", {
    ...{ name: "theirs", provider: "webhook", config: { url: "http://127.0.0.1:9" }, events: ["capsule.created"] },
  });
  await owner.ask("POST", "/v1/capsules", {}); // the channel has a delivery
  const [delivery] = await ask<{ id: string }[]>("GET", `/v1/channels/${channel}/deliveries`);
  const invitation = await ask<{ id: string }>("POST", `/v1/teams/${owner.auth.team_id}/invitations`, {
    email: "eve@example.com",
  });
  theirs = {
    ...{ capsule, snapshot, key, channel, delivery: delivery!.id, invitation: invitation.id },
    ...{ team: owner.auth.team_id, user: owner.auth.user_id },
  };
  const made = await other.ask<rest.NewApiKey>("POST", "/v1/api-keys", { name: "mine" });
  mine.owner = { authorization: `Bearer ${owner.auth.token}` };
  mine.person = { authorization: `Bearer ${other.auth.token}` };
  mine.key = { [headers.apiKey]: made.body.key };
});

/** Which thing a parameter of a path names. */
function kindOf(path: string, parameter: string): string | undefined {
  if (parameter === "id" || parameter === "sandboxID")
    return /capsules|sandboxes/.test(path) ? "capsule" : /teams/.test(path) ? "team" : undefined;
  if (parameter === "name") return /snapshots/.test(path) ? "snapshot" : undefined;
  if (parameter === "teamID") return "team";
  return parameter in nobodys ? parameter : undefined;
}

const named = document.operations().flatMap(([method, path, operation]) => {
  const kinds = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => [name!, kindOf(path, name!)] as const);
  const isOpen = operation.security?.length === 0 || path.includes("/agent/") || operation.responses["101"];
  return kinds.some(([, kind]) => kind) && !isOpen ? [{ method, path, operation, kinds }] : [];
});

type Named = (typeof named)[number];

async function ask({ method, path, operation, kinds }: Named, who: string, things: Record<string, string>) {
  const at = kinds.reduce(
    (text, [name, kind]) => text.replace(`{${name}}`, (kind && (things[kind] ?? nobodys[kind])) || "8080"),
    path,
  );
  const body = operation.requestBody?.content?.["application/json"]?.example;
  const answer = await fetch(plane.address + at, {
    method,
    headers: { ...mine[who], ...(body !== undefined && { "content-type": "application/json" }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  let text = await answer.text();
  // What was asked for comes back in details, and every request has an id of its own.
  for (const value of [...Object.values(theirs), ...Object.values(nobodys)]) text = text.replaceAll(value, "ID");
  return { status: answer.status, text: text.replace(/"request_id":"[^"]*"/, "") };
}

describe("an id of another team is as one that does not exist:", () => {
  test("the document has such routes, and every kind of thing is among them", () => {
    expect(named.length).toBeGreaterThan(60);
    const kinds = new Set(named.flatMap((one) => one.kinds.map(([, kind]) => kind)));
    for (const kind of Object.keys(theirs)) expect(kinds).toContain(kind);
  });

  for (const one of named)
    for (const who of ["person", "key"])
      test(`${one.method} ${one.path} to a ${who}`, async () => {
        const [foreign, absent] = [await ask(one, who, theirs), await ask(one, who, nobodys)];
        expect(foreign).toEqual(absent);
        // Ending a key that is not there succeeds, by contract; nothing else does.
        if (!one.path.endsWith("/api-keys/{key}")) expect(foreign.status).toBeGreaterThanOrEqual(400);
      });

  test("and the other team still has all of it", async () => {
    const get = async (path: string) => (await fetch(plane.address + path, { headers: mine.owner! })).status;
    for (const path of [`/v1/capsules/${theirs.capsule}`, `/v1/channels/${theirs.channel}`, "/v1/snapshots/theirs"])
      expect([path, await get(path)]).toEqual([path, 200]);
  });
});
