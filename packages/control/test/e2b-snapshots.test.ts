import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { rest } from "@wrenn/contract";
import { plainName } from "../src/services/e2b/names.ts";
import { e2bCalls } from "./support/e2b.ts";
import { planeOfFile } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

const plane = planeOfFile();

const { act, create, info, left, refusal, status } = e2bCalls(plane);

describe("snapshots", () => {
  test("one is a template; its name can be given again, and its deletion is told", async () => {
    const { sandboxID: id } = await create();
    const take = (name?: string) =>
      plane().json<{ snapshotID: string; names: string[] }>(201, "POST", `/sandboxes/${id}/snapshots`, { name });
    const first = await take("mine");
    expect(first).toEqual({ snapshotID: "mine:default", names: ["mine:default"] });
    expect(await take("mine")).toEqual(first);
    const child = await create({ templateID: first.snapshotID });
    expect(child.templateID).toBe("mine");
    const { snapshotID } = await take();
    await act(id, "fork", { count: 2 });
    const listed = await plane().json<(typeof first)[]>(200, "GET", `/snapshots?sandboxID=${id}`);
    expect(listed.map((one) => one.snapshotID)).toEqual([snapshotID, "mine:default"]);
    expect(await plane().json<unknown[]>(200, "GET", "/snapshots?name=mine")).toEqual([first]);
    expect(await status(plane().fetch("DELETE", `/templates/${first.snapshotID}`))).toBe(204);
    expect(await refusal(plane().fetch("DELETE", `/templates/${first.snapshotID}`))).toMatchObject({ code: 404 });
  });

  test("a fork's children run until their own end", async () => {
    const { sandboxID: id } = await create({ timeout: 1_000, metadata: { of: "me" } });
    const forks = await plane().json<{ sandbox: rest.e2b.Sandbox }[]>(201, "POST", `/sandboxes/${id}/fork`, {
      ...{ count: 2, timeout: 30 },
    });
    expect(new Set([id, ...forks.map((fork) => fork.sandbox.sandboxID)]).size).toBe(3);
    expect(await left(forks[1]!.sandbox.sandboxID)).toBeLessThan(31);
    expect(await left(id)).toBeGreaterThan(900);
  });

  test("each child of a fork comes or fails by itself, and a source that is gone is told before any is tried", async () => {
    const { sandboxID: id } = await create();
    plane().host.script("create", "1*off->1*error(insufficient_storage)->off");
    const forks = await plane().json<{ sandbox?: rest.e2b.Sandbox; error?: rest.e2b.ErrorBody }[]>(
      ...([201, "POST", `/sandboxes/${id}/fork`, { count: 3 }] as const),
    );
    const made = forks.flatMap(({ sandbox }) => sandbox ?? []);
    expect(forks.flatMap(({ error }) => error ?? [])).toEqual([{ code: 507, message: expect.any(String) }]);
    expect(made).toHaveLength(2);
    for (const { sandboxID } of made) expect((await info(sandboxID)).state).toBe("running");
    plane().host.script("checkpoint", "1*error(insufficient_storage)->off");
    expect(await refusal(act(id, "fork", { count: 2 }))).toMatchObject({ code: 507 });
  });

  test("names come with teams and tags", () => {
    expect(["a", "a:default", "team/a", "team/a:default", "a:v1"].map(plainName)).toEqual(["a", "a", "a", "a", "a:v1"]);
  });
});
