import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { headers, hostagent, parseSandboxId, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { start } from "../src/index.ts";
import { Human } from "./support/people.ts";
import { apiKey, Plane } from "./support/plane.ts";

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start({ keepAliveMs: 40 });
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

type Event = {
  event: string;
  outcome?: string;
  resource: { id: string; type: string };
  actor: { type: string; id: string; name: string };
  metadata: Record<string, string>;
  error?: string;
  sandbox?: rest.Capsule;
  timestamp: string;
};

/** Follows the events of a team. */
class Follower {
  readonly #left = new AbortController();
  readonly #events: Event[] = [];
  /** Of everything that came. */
  readonly kinds: string[] = [];
  comments = 0;
  #wake = () => {};
  ended = false;

  static async open(address = plane.address, key = apiKey): Promise<Follower> {
    const follower = await Follower.as({ [headers.apiKey]: key }, "", address);
    expect((await follower.next("connected")).actor.type).toBe("api_key");
    return follower;
  }

  /** With other credentials, or a query. */
  static async as(credentials: Record<string, string>, query: string, address = plane.address): Promise<Follower> {
    const follower = new Follower();
    const answer = await fetch(`${address}/v1/events/stream${query}`, {
      headers: credentials,
      signal: follower.#left.signal,
    });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
    void follower.#read(answer.body!);
    return follower;
  }

  async #read(body: ReadableStream<Uint8Array>): Promise<void> {
    let text = "";
    try {
      for await (const chunk of body) {
        text += new TextDecoder().decode(chunk);
        const blocks = text.split("\n\n");
        text = blocks.pop()!;
        for (const block of blocks) {
          const [, kind, data] = /^(?:id: .+\n)?event: (.+)\ndata: (.+)$/.exec(block) ?? [];
          if (!kind) this.comments += block.startsWith(":") ? 1 : 0;
          else {
            this.kinds.push(kind);
            this.#events.push({ ...JSON.parse(data!), event: kind });
          }
        }
        this.#wake();
      }
    } catch {}
    this.ended = true;
    this.#wake();
  }

  /** The next event of this kind; those before it are skipped. */
  async next(kind: string): Promise<Event> {
    for (;;) {
      const event = this.#events.shift();
      if (event?.event === kind) return event;
      if (!event) await this.changed();
    }
  }

  changed(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  close(): void {
    this.#left.abort();
  }
}

const bare = (id: string) => parseSandboxId(id)!;

describe("events", () => {
  test("tell every action with who asked, what came of it and the sandbox", async () => {
    const follower = await Follower.open();
    const { id } = await plane.create({ metadata: { user: "ann" } });
    const created = await follower.next("capsule.create");
    expect(created).toMatchObject({ outcome: "success", resource: { id, type: "capsule" }, metadata: {} });
    expect(created.actor).toMatchObject({ type: "api_key", name: "bootstrap", id: expect.stringMatching(/^key-/) });
    expect(created.sandbox).toMatchObject({ id, status: "running", metadata: { user: "ann" } });
    for (const [action, kind] of [
      ["pause", "capsule.pause"],
      ["resume", "capsule.resume"],
    ] as const) {
      await plane.json(200, "POST", `/v1/capsules/${id}/${action}`);
      expect(await follower.next(kind)).toMatchObject({ outcome: "success", resource: { id } });
    }
    await plane.json(201, "POST", `/v1/capsules/${id}/checkpoint`, { name: "kept" });
    const resource = { id: "kept", type: "snapshot" };
    expect(await follower.next("template.snapshot.create")).toMatchObject({ outcome: "success", resource });
    await plane.json(204, "DELETE", "/v1/snapshots/kept");
    expect(await follower.next("template.snapshot.delete")).toMatchObject({ outcome: "success", resource });
    await plane.json(204, "DELETE", `/v1/capsules/${id}`);
    expect((await follower.next("capsule.destroy")).sandbox?.status).toBe("stopped");
    follower.close();
  });

  test("tell every change of state in order", async () => {
    const follower = await Follower.open();
    const { id } = await plane.create();
    await plane.json(200, "POST", `/v1/capsules/${id}/pause`);
    const walked: string[] = [];
    while (walked.at(-1) !== "paused") {
      const { metadata, outcome, actor } = await follower.next("capsule.state.changed");
      expect([outcome, actor.type]).toEqual([undefined, "system"]);
      if (walked.length > 0) expect(metadata.from!).toBe(walked.at(-1)!);
      walked.push(metadata.to!);
    }
    expect(walked).toEqual(["starting", "running", "pausing", "paused"]);
    follower.close();
  });

  test("tell a failure with its cause", async () => {
    const follower = await Follower.open();
    plane.host.script("create", "1*error(insufficient_storage)->off");
    await plane.refusal("POST", "/v1/capsules", {});
    expect(await follower.next("capsule.create")).toMatchObject({
      outcome: "error",
      error: "failpoint",
      sandbox: { status: "error" },
    });
    follower.close();
  });

  test("tell what the host does by itself, with the reason", async () => {
    const follower = await Follower.open();
    const { id } = await plane.create();
    plane.host.change(bare(id), hostagent.SandboxState.PAUSED, "ttl_expired");
    expect(await follower.next("capsule.pause")).toMatchObject({
      outcome: "success",
      resource: { id },
      actor: { type: "system" },
      metadata: { reason: "ttl_expired" },
    });
    follower.close();
  });

  test("reach every replica, and only the team they are of", async () => {
    const replica = await start(plane.options);
    const [mine, foreign] = [
      await Follower.open(replica.address),
      await Follower.open(undefined, await plane.otherKey()),
    ];
    const first = await plane.create();
    expect((await mine.next("capsule.create")).resource.id).toBe(first.id);
    const other = { [headers.apiKey]: await plane.otherKey() };
    const own = (await (await plane.fetch("POST", "/v1/capsules", {}, other)).json()) as rest.Capsule;
    expect((await foreign.next("capsule.state.changed")).resource.id).toBe(own.id);
    foreign.close();
    await replica.stop();
    while (!mine.ended) await mine.changed();
  });

  test("a quiet stream is kept alive by comments", async () => {
    const follower = await Follower.open();
    while (follower.comments < 2) await follower.changed();
    follower.close();
  });

  test("end when some may have been missed, so that the client reads anew", async () => {
    const follower = await Follower.open();
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and query ilike 'listen%' and pid <> pg_backend_pid()`;
    while (!follower.ended) await follower.changed();
    const again = await Follower.open();
    await plane.create();
    expect((await again.next("capsule.create")).outcome).toBe("success");
    again.close();
  });

  test("a client that does not read is cut off, and the others hear everything", async () => {
    const { hostname, port } = new URL(plane.address);
    const slow = connect(Number(port), hostname);
    const closed = new Promise<void>((resolve) => slow.once("close", () => resolve()));
    slow.on("error", () => {});
    slow.write(`GET /v1/events/stream HTTP/1.1\r\nHost: x\r\n${headers.apiKey}: ${apiKey}\r\n\r\n`);
    await new Promise((resolve) => slow.once("data", resolve));
    slow.pause();
    const follower = await Follower.open();
    const { id } = await plane.create({ metadata: { bulk: "x".repeat(30_000) } });
    await follower.next("capsule.create");
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const [{ team_id: team }] = await sql`select team_id from sandboxes where id = ${bare(id)}`;
    const place = { cursor: "1-1", at: new Date().toISOString() };
    const note = JSON.stringify({ kind: "capsule.resume", team, id: bare(id), ...place });
    const many = 600; // 18 MB: more than the kernel's buffers and ours hold together
    await sql`select pg_notify('wrenn_events', (${note}::text::jsonb || jsonb_build_object('reason', n::text))::text)
      from generate_series(1, ${many}) n`;
    for (let n = 1; n <= many; n++) expect((await follower.next("capsule.resume")).metadata.reason).toBe(String(n));
    slow.resume();
    await closed;
    follower.close();
  });
});

describe("the list of events", () => {
  type Listed = { cursor: string; event: string; resource: { id: string }; outcome?: string };

  test("holds what happened in order, in pages, and by kind and resource; another team's not", async () => {
    const { id } = await plane.create();
    await plane.json(200, "POST", `/v1/capsules/${id}/pause`);
    await plane.json(204, "DELETE", `/v1/capsules/${id}`);
    const all = await plane.json<Listed[]>(200, "GET", `/v1/events?resource=${id}&order=asc`);
    expect(all.map(({ event }) => event).filter((kind) => kind !== "capsule.state.changed")).toEqual([
      "capsule.create",
      "capsule.pause",
      "capsule.destroy",
    ]);
    expect(all.every(({ resource }) => resource.id === id)).toBe(true);
    const pages: Listed[] = [];
    for (let cursor = ""; ; ) {
      const path = `/v1/events?resource=${id}&order=asc&limit=2${cursor && `&cursor=${cursor}`}`;
      const response = await plane.fetch("GET", path);
      pages.push(...((await response.json()) as Listed[]));
      cursor = response.headers.get("x-next-cursor") ?? "";
      if (!cursor) break;
    }
    expect(pages).toEqual(all);
    const newest = await plane.json<Listed[]>(
      200,
      "GET",
      `/v1/events?resource=${id}&kind=capsule.destroy,capsule.pause`,
    );
    expect(newest.map(({ event }) => event)).toEqual(["capsule.destroy", "capsule.pause"]);
    const others = await plane.fetch("GET", "/v1/events", undefined, { [headers.apiKey]: await plane.otherKey() });
    expect(((await others.json()) as Listed[]).filter(({ resource }) => resource.id === id)).toEqual([]);
    for (const bad of ["kind=nonsense", "cursor=1", "limit=0", "order=up"])
      expect((await plane.refusal("GET", `/v1/events?${bad}`)).status).toBe(400);
  });

  /** The stream of somebody who heard everything up to `cursor` before. */
  async function resumed(cursor: string) {
    const left = new AbortController();
    const answer = await fetch(`${plane.address}/v1/events/stream`, {
      headers: { [headers.apiKey]: apiKey, "last-event-id": cursor },
      signal: left.signal,
    });
    let text = "";
    const reader = answer.body!.getReader();
    const until = async (wanted: string) => {
      while (!text.includes(wanted)) text += new TextDecoder().decode((await reader.read()).value);
    };
    return { until, times: (kind: string) => text.split(`event: ${kind}\n`).length - 1, leave: () => left.abort() };
  }

  /** The newest event's cursor, once nothing is on its way before it. */
  async function newest(id: string, event: string): Promise<string> {
    for (;;) {
      const [last] = await plane.json<Listed[]>(200, "GET", `/v1/events?limit=1&resource=${id}&kind=${event}`);
      if (last) return last.cursor;
    }
  }

  test("a follower that comes back is told what it missed, once, and goes on", async () => {
    const { id } = await plane.create();
    const last = await newest(id, "capsule.create");
    await plane.json(200, "POST", `/v1/capsules/${id}/pause`);
    const follower = await resumed(last);
    await follower.until("event: capsule.pause\n");
    // A notification may come long after its event was read from the list.
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const paused = await newest(id, "capsule.pause");
    const [{ team }] = await sql`select team_id as team from sandboxes where id = ${bare(id)}`;
    for (const [kind, cursor] of [
      ["capsule.create", last],
      ["capsule.pause", paused],
    ]) {
      const late = { kind, team, id: bare(id), cursor, at: new Date().toISOString() };
      await sql`select pg_notify('wrenn_events', ${JSON.stringify(late)})`;
    }
    await plane.json(204, "DELETE", `/v1/capsules/${id}`);
    await follower.until("event: capsule.destroy\n");
    follower.leave();
    expect([follower.times("capsule.pause"), follower.times("capsule.create")]).toEqual([1, 0]);
    const refused = await plane.refusal("GET", "/v1/events/stream", undefined, { "last-event-id": "x" });
    expect(refused).toEqual({ status: 400, code: "invalid_request" });
  });

  test("a follower that comes back is told at once, however long another change takes to commit", async () => {
    const { id } = await plane.create();
    const last = await newest(id, "capsule.create");
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql.begin(async (transaction) => {
      await transaction`select pg_current_xact_id()`;
      await plane.json(200, "POST", `/v1/capsules/${id}/pause`);
      const follower = await resumed(last);
      await follower.until("event: capsule.pause\n");
      follower.leave();
    });
    await plane.json(204, "DELETE", `/v1/capsules/${id}`);
  });

  test("a change and its event are one: what is rolled back was never told", async () => {
    const { id } = await plane.create();
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const count = async () => (await sql`select count(*)::int as n from events where resource_id = ${bare(id)}`)[0].n;
    const before = await count();
    await sql
      .begin(async (transaction) => {
        await transaction`update sandboxes set state = 'paused' where id = ${bare(id)}`;
        throw new Error("undone");
      })
      .catch(() => {});
    expect(await count()).toBe(before);
    await plane.json(204, "DELETE", `/v1/capsules/${id}`);
  });
});

describe("usage", () => {
  type Stats = rest.CapsuleStats;

  test("counts what runs now, at most and over time; a pause ends it", async () => {
    const before = await plane.json<Stats>(200, "GET", "/v1/capsules/stats");
    const made = [await plane.create({ vcpus: 2, memory_mb: 1024 }), await plane.create()];
    const now = await plane.json<Stats>(200, "GET", "/v1/capsules/stats?range=5m");
    expect(now.current.running_count).toBe(before.current.running_count + 2);
    expect(now.current.vcpus_reserved).toBe(before.current.vcpus_reserved + 3);
    expect(now.current.memory_mb_reserved).toBe(before.current.memory_mb_reserved + 1024 + 512);
    expect(now.series.running.length).toBe(100);
    expect(now.series.running.at(-1)).toBeGreaterThanOrEqual(now.current.running_count);
    expect(now.peaks.running_count).toBeGreaterThanOrEqual(now.current.running_count);
    await plane.json(200, "POST", `/v1/capsules/${made[0]!.id}/pause`);
    const paused = await plane.json<Stats>(200, "GET", "/v1/capsules/stats");
    expect(paused.current.running_count).toBe(before.current.running_count + 1);
    expect(paused.peaks.running_count).toBeGreaterThanOrEqual(now.current.running_count);
    for (const { id } of made) await plane.json(204, "DELETE", `/v1/capsules/${id}`);
    for (const range of ["1h", "6h", "24h", "30d"])
      expect((await plane.json<Stats>(200, "GET", `/v1/capsules/stats?range=${range}`)).series.labels.length).toBe(120);
    expect((await plane.refusal("GET", "/v1/capsules/stats?range=1y")).status).toBe(400);
  });

  test("is exact: a span over midnight counts on both days, to the second", async () => {
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const [{ team }] = await sql`select team_id as team from api_keys where name = 'bootstrap'`;
    await sql`insert into usage_spans (team_id, sandbox_id, vcpus, memory_mib, started_at, ended_at)
      values (${team}, 'x', 2, 100, '2026-01-01T23:59:30Z', '2026-01-02T00:01:00Z')`;
    const usage = await plane.json<rest.CapsuleUsage>(200, "GET", "/v1/capsules/usage?from=2026-01-01&to=2026-01-03");
    expect(usage.points).toEqual([
      { date: "2026-01-01", cpu_minutes: 1, ram_mb_minutes: 50 },
      { date: "2026-01-02", cpu_minutes: 2, ram_mb_minutes: 100 },
      { date: "2026-01-03", cpu_minutes: 0, ram_mb_minutes: 0 },
    ]);
    expect((await plane.json<rest.CapsuleUsage>(200, "GET", "/v1/capsules/usage")).points.length).toBe(30);
    for (const bad of ["from=2026-01-02&to=2026-01-01", "from=2025-01-01&to=2026-01-01", "from=yesterday"])
      expect((await plane.refusal("GET", `/v1/capsules/usage?${bad}`)).status).toBe(400);
  });
});

describe("changes", () => {
  const as = (human: Human) => ({ authorization: `Bearer ${human.auth.token}` });

  test("are told by their type to those of the team who ask, on every replica", async () => {
    const ann = await Human.join(plane, "Ann");
    const replica = await start(plane.options);
    const [asks, silent] = [
      await Follower.as(as(ann), "?changes=team", replica.address),
      await Follower.as(as(ann), "", replica.address),
    ];
    await asks.next("connected");
    await silent.next("connected");
    expect((await ann.ask("POST", "/v1/api-keys", { name: "ci" })).status).toBe(201);
    let told = await asks.next("changed");
    while (told.resource.type !== "api_key") told = await asks.next("changed");
    expect(told).toMatchObject({ resource: { id: ann.auth.team_id, type: "api_key" }, metadata: {} });
    await ann.ask("POST", "/v1/capsules", {});
    while ((await silent.next("capsule.create")).outcome !== "success");
    expect(silent.kinds).not.toContain("changed");
    await replica.stop();
  });

  test("of all teams, and of the installation's sandboxes, are for administrators", async () => {
    const [ann, bob] = [await Human.join(plane, "Root", "root@example.com"), await Human.join(plane, "Bob")];
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`update users set is_admin = (email = 'root@example.com')`;
    const admin = await ann.again();
    expect(await bob.refusal("GET", "/v1/events/stream?changes=all")).toEqual([403, "forbidden"]);
    expect(await bob.refusal("GET", "/v1/events/stream?changes=some")).toEqual([400, "invalid_request"]);
    const follower = await Follower.as(as(admin), "?changes=all");
    await follower.next("connected");
    await bob.ask("POST", "/v1/api-keys", { name: "ci" });
    let told = await follower.next("changed");
    while (told.resource.id !== bob.auth.team_id || told.resource.type !== "api_key")
      told = await follower.next("changed");
    const { id } = await plane.create();
    plane.host.change(bare(id), hostagent.SandboxState.PAUSED, "ttl_expired");
    const own = `team-${"0".repeat(25)}`;
    while (told.resource.id !== own || told.resource.type !== "sandbox") told = await follower.next("changed");
    follower.close();
  });
});
