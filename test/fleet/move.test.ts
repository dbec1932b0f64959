import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { rest } from "@wrenn/contract";
import { SQL } from "bun";
import { freshDatabase } from "../../packages/control/test/support/postgres.ts";
import { TestFleet } from "./fleet.ts";

let fleet: TestFleet;
let databaseUrl: string;
let store: string;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  store = await mkdtemp(`${tmpdir()}/wrenn-fleet-store-`);
  fleet = await TestFleet.start({ databaseUrl, planes: 2, agents: 3, env: { WRENN_STORE: store } });
}, 240_000);
afterAll(async () => {
  await fleet[Symbol.asyncDispose]();
  await rm(store, { recursive: true, force: true });
});

type Refused = { error: { code: string; message: string; remedy?: string } };

/** A request to a port of a guest; every port of a fake guest is its one server, which has a memory. */
async function memory(id: string, text?: string): Promise<string> {
  const response = await fetch(`${fleet.planes[0]!.address}/memory`, {
    headers: { host: `8080-${id}.localhost`, "x-api-key": fleet.key },
    ...(text !== undefined && { method: "PUT", body: text }),
  });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  return await response.text();
}

/** The host that a sandbox's row names. */
async function hostOf(id: string): Promise<string> {
  await using sql = new SQL(databaseUrl, { max: 1 });
  const [row] = await sql`select host_id from sandboxes where id = ${id.slice(3)}`;
  return row.host_id;
}

const get = (id: string) => fleet.json<rest.Capsule>(1, "GET", `/v1/capsules/${id}`);
const post = <T = rest.Capsule>(path: string, body?: unknown) => fleet.json<T>(0, "POST", path, body);
const modes = async (word: "cordon" | "uncordon", ...hosts: string[]) => {
  for (const host of hosts) await post(`/v1/hosts/${host}/${word}`);
};

/** The messages of a sandbox's log. */
async function logged(id: string): Promise<string[]> {
  const { entries } = await fleet.json<{ entries: { message: string }[] }>(0, "GET", `/v1/capsules/${id}/logs`);
  return entries.map(({ message }) => message);
}

/** What a host's agent has of sandboxes, by its own files. */
const snapshotsOn = (at: number) => readdir(`${fleet.agents[at]!.env.WRENN_DIR}/snapshots`);

async function until(what: () => Promise<boolean>): Promise<void> {
  while (!(await what())) await Bun.sleep(50);
}

/** Every host has told its store and its class. */
async function told(): Promise<void> {
  await until(async () => {
    const hosts = await fleet.json<rest.Host[]>(0, "GET", "/v1/hosts");
    return hosts.every(({ store, move_class }) => store && move_class);
  });
}

describe("a fleet whose hosts share an object store", () => {
  test("a hibernated sandbox leaves its host, and another resumes it as it was", async () => {
    await told();
    const { id } = await post("/v1/capsules", { availability_zone: "zone-0", metadata: { kept: "yes" } });
    await memory(id, "remember me");
    const gone = await post(`/v1/capsules/${id}/hibernate`);
    expect(gone).toMatchObject({ status: "paused", hibernated: true, metadata: { kept: "yes" } });
    await until(async () => (await snapshotsOn(0)).length === 0);
    expect(await logged(id)).toEqual([]); // nobody keeps it open
    await modes("cordon", fleet.hosts[0]!);
    const back = await post(`/v1/capsules/${id}/resume`);
    expect(back.status).toBe("running");
    expect(back.hibernated).toBeUndefined();
    expect(await hostOf(id)).not.toBe(fleet.hosts[0]!);
    expect(await memory(id)).toBe("remember me");
    expect((await logged(id)).filter((line) => line === "running").length).toBe(2); // of both hosts
    await modes("uncordon", fleet.hosts[0]!);
    await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
  }, 60_000);

  test("`pause` with `hibernate` does the same; a second time changes nothing; paused again it has what came since", async () => {
    const { id } = await post("/v1/capsules", { availability_zone: "zone-1" });
    await memory(id, "one");
    await post(`/v1/capsules/${id}/pause`, { hibernate: true });
    expect((await post(`/v1/capsules/${id}/hibernate`)).hibernated).toBe(true);
    await post(`/v1/capsules/${id}/resume`);
    await memory(id, "two");
    await post(`/v1/capsules/${id}/pause`);
    await post(`/v1/capsules/${id}/resume`);
    expect(await memory(id)).toBe("two");
    await post(`/v1/capsules/${id}/hibernate`);
    await post(`/v1/capsules/${id}/resume`);
    expect(await memory(id)).toBe("two");
    await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
  }, 60_000);

  test("the events tell it, and what needs a host says so", async () => {
    const { id } = await post("/v1/capsules", {});
    await post(`/v1/capsules/${id}/hibernate`);
    const events = await fleet.json<rest.TeamEvent[]>(1, "GET", `/v1/events?resource=${id}&kind=capsule.hibernate`);
    expect(events).toMatchObject([{ event: "capsule.hibernate", outcome: "success", actor: { type: "api_key" } }]);
    for (const path of ["fork", "timeout"]) {
      const response = await fleet.fetch(0, "POST", `/v1/capsules/${id}/${path}`, { timeout_sec: 5 });
      const { error } = (await response.json()) as Refused;
      expect([response.status, error.code, error.remedy]).toEqual([409, "invalid_state", "Resume it first."]);
    }
    expect((await fleet.fetch(0, "GET", `/v1/capsules/${id}/metrics`)).status).toBe(200);
    await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
    expect((await get(id)).status).toBe("stopped");
  }, 60_000);

  test("deleted or resumed, it leaves nothing in the store but its template", async () => {
    const parcels = async () => {
      const all = await readdir(store, { recursive: true });
      return all.filter((name) => /\/sandboxes\/./.test(name));
    };
    await until(async () => (await parcels()).length === 0);
    const made = await Promise.all([0, 1].map(() => post("/v1/capsules", {})));
    for (const { id } of made) await post(`/v1/capsules/${id}/hibernate`);
    expect((await parcels()).length).toBe(2);
    await fleet.json(0, "DELETE", `/v1/capsules/${made[0]!.id}`);
    await post(`/v1/capsules/${made[1]!.id}/resume`);
    await until(async () => (await parcels()).length === 0);
    await fleet.json(0, "DELETE", `/v1/capsules/${made[1]!.id}`);
  }, 120_000);

  test("no host takes it: it stays hibernated, says why, and comes when one does", async () => {
    const { id } = await post("/v1/capsules", {});
    await memory(id, "patient");
    await post(`/v1/capsules/${id}/hibernate`);
    await modes("cordon", ...fleet.hosts);
    const refused = await fleet.fetch(0, "POST", `/v1/capsules/${id}/resume`);
    expect([refused.status, ((await refused.json()) as Refused).error.code]).toEqual([503, "no_hosts_available"]);
    expect(await get(id)).toMatchObject({ status: "paused", hibernated: true });
    await modes("uncordon", ...fleet.hosts);
    await post(`/v1/capsules/${id}/resume`);
    expect(await memory(id)).toBe("patient");
    await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
  }, 60_000);

  test("a drained host's sandboxes run on elsewhere, paused ones go to the store, and nothing is left on it", async () => {
    const host = fleet.hosts[2]!;
    const made = await Promise.all([0, 1, 2].map(() => post("/v1/capsules", { availability_zone: "zone-2" })));
    for (const { id } of made) await memory(id, `of ${id}`);
    const { name } = await post<rest.Snapshot>(`/v1/capsules/${made[2]!.id}/checkpoint`);
    await post(`/v1/capsules/${made[2]!.id}/pause`);
    const preview = await fleet.json<rest.HostDeletion>(0, "GET", `/v1/hosts/${host}/delete-preview`);
    expect(preview).toMatchObject({ can_drain: true, snapshots: [name] });
    expect(preview.sandbox_ids.length).toBe(3);
    const drained = await post<rest.HostDrain>(`/v1/hosts/${host}/drain`);
    expect(drained).toMatchObject({ total: 3, failed: {}, paused: [], hibernated: [made[2]!.id], running: 0 });
    expect(drained.moved.sort()).toEqual([made[0]!.id, made[1]!.id].sort());
    expect(drained.finished_at).toBeString();
    expect(await fleet.json<rest.HostDrain>(1, "GET", `/v1/hosts/${host}/drain`)).toMatchObject({ total: 3 });
    for (const { id } of made.slice(0, 2)) {
      expect(await hostOf(id)).not.toBe(host);
      expect(await memory(id)).toBe(`of ${id}`);
    }
    await until(async () => (await snapshotsOn(2)).length === 1);
    expect((await fleet.fetch(0, "DELETE", `/v1/hosts/${host}`)).status).toBe(409); // the snapshot is there still
    await fleet.json(0, "DELETE", `/v1/snapshots/${name}`);
    await fleet.json(0, "DELETE", `/v1/hosts/${host}`); // nothing to force
    await fleet.agents[2]!.kill();
    await post(`/v1/capsules/${made[2]!.id}/resume`);
    expect(await memory(made[2]!.id)).toBe(`of ${made[2]!.id}`);
    for (const { id } of made) await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
  }, 120_000);

  test("a host that dies with a hibernated sandbox's way back leaves it hibernated, and another brings it", async () => {
    const { id } = await post("/v1/capsules", { availability_zone: "zone-1" });
    await memory(id, "through it all");
    await post(`/v1/capsules/${id}/hibernate`);
    await fleet.agents[1]!.kill();
    expect((await post(`/v1/capsules/${id}/resume`)).status).toBe("running");
    expect(await hostOf(id)).toBe(fleet.hosts[0]!);
    expect(await memory(id)).toBe("through it all");
    await fleet.agents[1]!.start();
    await fleet.json(0, "DELETE", `/v1/capsules/${id}`);
  }, 120_000);
});
