import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { headers, hostagent, parseSandboxId, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { start } from "../src/index.ts";
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
  comments = 0;
  #wake = () => {};
  ended = false;

  static async open(address = plane.address, key = apiKey): Promise<Follower> {
    const follower = new Follower();
    const answer = await fetch(`${address}/v1/events/stream`, {
      headers: { [headers.apiKey]: key },
      signal: follower.#left.signal,
    });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
    void follower.#read(answer.body!);
    expect((await follower.next("connected")).actor.type).toBe("api_key");
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
          const [, kind, data] = /^event: (.+)\ndata: (.+)$/.exec(block) ?? [];
          if (!kind) this.comments += block.startsWith(":") ? 1 : 0;
          else this.#events.push({ ...JSON.parse(data!), event: kind });
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
    const note = JSON.stringify({ kind: "capsule.resume", team, id: bare(id) });
    const many = 600; // 18 MB: more than the kernel's buffers and ours hold together
    await sql`select pg_notify('wrenn_events', (${note}::text::jsonb || jsonb_build_object('reason', n::text))::text)
      from generate_series(1, ${many}) n`;
    for (let n = 1; n <= many; n++) expect((await follower.next("capsule.resume")).metadata.reason).toBe(String(n));
    slow.resume();
    await closed;
    follower.close();
  });
});
