import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { rest } from "@wrenn/contract";
import { SQL } from "bun";
import { Cluster } from "./cluster.ts";
import { TestFleet } from "./fleet.ts";
import { load, type Seen } from "./load.ts";

let cluster: Cluster;
let fleet: TestFleet;

beforeAll(async () => {
  cluster = await Cluster.start();
  fleet = await TestFleet.start({ databaseUrl: cluster.url, planes: 2, agents: 3 });
}, 240_000);
afterAll(async () => {
  await fleet[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

/** Ids of the sandboxes that some host still holds. */
async function held(): Promise<string[]> {
  await using sql = new SQL(cluster.url, { max: 1 });
  const rows = await sql`select id from sandboxes where state not in ('stopped', 'error')
    or (state = 'error' and started_at is not null)`;
  return rows.map(({ id }: { id: string }) => id);
}

/** Under load, `disturb` happens; afterwards every client has what it asked for, once. */
async function undisturbed(disturb: () => Promise<void>): Promise<Seen> {
  const done = (async () => {
    await Bun.sleep(1_000);
    await disturb();
    await Bun.sleep(2_000);
  })();
  const seen = await load(fleet, 6, done);
  expect(seen.failed).toEqual([]);
  expect(new Set(seen.made.values()).size).toBe(seen.made.size); // no key made two, none was given another's
  return seen;
}

/** Every sandbox that was made and not deleted is there, in the state it is really in; nothing else is left. */
async function accounted({ made, deleted }: Seen, allowed: readonly string[]): Promise<void> {
  const kept = [...made.values()].filter((id) => !deleted.has(id));
  for (const id of kept) expect(allowed).toContain(await settled(id));
  for (const id of deleted) expect(await settled(id)).toBe("stopped");
  await using sql = new SQL(cluster.url, { max: 1 });
  const [lost] = await sql`select count(*)::int as count from sandboxes
    where state in ('pending', 'starting', 'stopping') and updated_at < now() - interval '30 seconds'`;
  expect(lost.count).toBe(0);
  // What is reserved is what there is.
  const drift = await sql`select l.host_id from host_loads l where l.memory_mib <> coalesce((
    select sum(wrenn_memory_of(s)) from sandboxes s where s.host_id = l.host_id), 0)`;
  expect([...drift]).toEqual([]);
  for (const id of kept) await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
  expect(await held()).toEqual([]);
}

/** The state that a sandbox comes to rest in. */
async function settled(id: string): Promise<string> {
  for (;;) {
    const { status } = await fleet.json<rest.Capsule>(0, "GET", `/v1/capsules/${id}`);
    if (!["pending", "starting", "missing", "stopping", "pausing", "resuming"].includes(status)) return status;
    await Bun.sleep(100);
  }
}

describe("under load", () => {
  test("a control plane that is killed fails no request that is repeated, and loses or doubles no sandbox", async () => {
    const seen = await undisturbed(async () => {
      await fleet.planes[1]!.kill();
      await Bun.sleep(1_000);
      await fleet.planes[1]!.start();
    });
    await accounted(seen, ["running"]);
  }, 240_000);

  test("PostgreSQL that is killed comes back with everything that was answered", async () => {
    const seen = await undisturbed(async () => {
      await cluster.kill();
      await Bun.sleep(500);
      await cluster.up();
    });
    await accounted(seen, ["running"]);
  }, 240_000);

  test("an agent that is killed: what it ran is found in the state it is really in, the others take its creates", async () => {
    const seen = await undisturbed(async () => {
      await fleet.agents[0]!.kill(); // its machines live in its process, and end with it
      await Bun.sleep(1_000);
      await fleet.agents[0]!.start();
    });
    await accounted(seen, ["running", "error", "stopped"]);
  }, 240_000);

  test("a rolling restart of the control planes fails no request", async () => {
    const seen = await undisturbed(async () => {
      for (const plane of fleet.planes) {
        await plane.stop();
        await plane.start();
      }
    });
    await accounted(seen, ["running"]);
  }, 240_000);
});
