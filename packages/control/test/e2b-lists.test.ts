import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { create as make } from "@bufbuild/protobuf";
import { headers, hostagent, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { readMetadata } from "../src/edges/e2b/metadata.ts";
import { e2bCalls } from "./support/e2b.ts";
import { apiKey, planeOfFile } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

const plane = planeOfFile();

const { act, create, info, refusal, visit } = e2bCalls(plane);

describe("lists", () => {
  const all = (query: string) => plane().fetch("GET", `/v2/sandboxes?${query}`);
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
    expect(await ids(await plane().fetch("GET", `/sandboxes?${metadata}`))).toEqual([made[2]!, made[1]!]);
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
    plane().host.entries = [logged(1, "info", "one"), logged(2, "error", "two"), logged(3, "info", "three")];
    const first = await plane().json<{ logs: { line: string }[]; logEntries: object[] }>(
      200,
      "GET",
      `/sandboxes/${id}/logs?start=${at(2)}`,
    );
    expect(first.logs.map(({ line }) => JSON.parse(line))).toMatchObject([
      { level: "error", message: "two", logger: "host" },
      { level: "info", message: "three", logger: "host" },
    ]);
    expect(first.logEntries[0]).toMatchObject({ level: "error", message: "two", fields: { source: "host" } });
    const ask = async (query: string) =>
      (await plane().json<{ logs: { message: string }[] }>(200, "GET", `/v2/sandboxes/${id}/logs?${query}`)).logs.map(
        ({ message }) => message,
      );
    expect(await ask("")).toEqual(["one", "two", "three"]);
    expect(await ask(`direction=backward&cursor=${at(2)}`)).toEqual(["two", "one"]);
    expect(await ask("level=warn")).toEqual(["two"]);
    expect(await ask("search=thr&limit=1")).toEqual(["three"]);
    expect(await refusal(plane().fetch("GET", `/v2/sandboxes/${id}/logs?direction=up`))).toMatchObject({ code: 400 });
  });

  test("its load is told in the client's words", async () => {
    const { sandboxID: id } = await create();
    plane().host.points = [make(hostagent.MetricPointSchema, { timestampMs: BigInt(Date.now()), cpuPct: 12.5 })];
    const [point] = await plane().json<rest.e2b.Metric[]>(200, "GET", `/sandboxes/${id}/metrics`);
    expect(point).toMatchObject({ cpuCount: 2, cpuUsedPct: 12.5, memTotal: 512 * 1024 * 1024 });
  });

  test("the load of many is told at once; those that have none to tell are left out", async () => {
    const ids = [(await create()).sandboxID, (await create()).sandboxID];
    const killed = (await create()).sandboxID;
    await plane().fetch("DELETE", `/sandboxes/${killed}`);
    const foreign = (await create()).sandboxID;
    await using sql = new SQL(plane().options.databaseUrl, { max: 1 });
    const key = await plane().otherKey();
    await sql`update sandboxes set team_id = (select id from teams where id <> team_id limit 1) where id = ${foreign}`;
    const now = Date.now();
    plane().host.points = [now - 2_000, now].map((at, index) =>
      make(hostagent.MetricPointSchema, { timestampMs: BigInt(at), cpuPct: index }),
    );
    const asked = [...ids, killed, foreign, "nonsense", ids[0]].join(",");
    const ask = (headers = {}) => plane().fetch("GET", `/sandboxes/metrics?sandbox_ids=${asked}`, undefined, headers);
    const { sandboxes } = (await (await ask()).json()) as { sandboxes: Record<string, rest.e2b.Metric> };
    expect(Object.keys(sandboxes).sort()).toEqual([...ids].sort());
    expect(sandboxes[ids[0]!]).toMatchObject({ cpuUsedPct: 1, timestampUnix: Math.floor(now / 1000) });
    const others = (await (await ask({ [headers.apiKey]: key })).json()) as { sandboxes: object };
    expect(Object.keys(others.sandboxes)).toEqual([foreign]);
  });

  for (const query of ["", "?sandbox_ids=", `?sandbox_ids=${Array.from({ length: 101 }, (_, i) => i).join(",")}`])
    test(`the load of ${query.slice(0, 20) || "nothing"} is refused`, async () => {
      expect(await refusal(plane().fetch("GET", `/sandboxes/metrics${query}`))).toMatchObject({ code: 400 });
    });
});

test("a key tells its own team and no other", async () => {
  const other = await plane().otherKey();
  const ask = async (key: string) => (await visit("/teams", { headers: { [headers.apiKey]: key } })).json();
  const [mine, theirs] = [await ask(apiKey), await ask(other)] as [rest.e2b.Team[], rest.e2b.Team[]];
  expect(mine).toEqual([{ teamID: expect.any(String), name: expect.any(String), apiKey, isDefault: true }]);
  expect(theirs).toMatchObject([{ apiKey: other }]);
  expect(theirs[0]!.teamID).not.toBe(mine[0]!.teamID);
  expect(await refusal(visit("/teams"))).toMatchObject({ code: 401 });
});
