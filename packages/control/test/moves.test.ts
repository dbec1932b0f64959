import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { headers, hostagent, parseSandboxId, rest } from "@wrenn/contract";
import { SQL } from "bun";
import { Plane } from "./support/plane.ts";

const { SandboxState } = hostagent;

let plane: Plane;
beforeAll(async () => {
  plane = await Plane.start({ sweepMs: 50, hostLostMs: 400, abandonedMs: 2_000, parcelsMs: 50, drainsMs: 50 });
  plane.host.storeId = "store-1";
  await until(async () => (await hosts())[0]!.store === "store-1");
}, 60_000);
afterAll(() => plane[Symbol.asyncDispose]());
beforeEach(() => plane.host.heal());

async function until(what: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await what())) {
    await plane.fetch("GET", "/v1/snapshots"); // has the host asked what it is
    await Bun.sleep(20);
  }
}

const hosts = () => plane.json<rest.Host[]>(200, "GET", "/v1/hosts");
const idOf = (capsule: rest.Capsule) => parseSandboxId(capsule.id)!;
const get = ({ id }: rest.Capsule) => plane.json(200, "GET", `/v1/capsules/${id}`);
const act = ({ id }: rest.Capsule, what: string, status = 200) =>
  plane.json(status, "POST", `/v1/capsules/${id}/${what}`);
const refused = ({ id }: rest.Capsule, what: string) => plane.refusal("POST", `/v1/capsules/${id}/${what}`);

/** A sandbox in the store, of which its host has nothing any more. */
async function hibernated(): Promise<rest.Capsule> {
  const made = await plane.create();
  const capsule = await act(made, "hibernate");
  expect(capsule).toMatchObject({ status: "paused", hibernated: true });
  await until(() => !plane.host.sandboxes.has(idOf(made)));
  return capsule;
}

async function columns(capsule: rest.Capsule) {
  await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
  const [row] = await sql`select * from sandboxes where id = ${idOf(capsule)}`;
  return row as { parcel: string; run: string; state: string };
}

describe("a sandbox in the object store", () => {
  test("has keys that are its team's, and those of all in common", async () => {
    await hibernated();
    const { team, common } = plane.host.vaults!;
    expect([team!.key.length, common!.key.length]).toEqual([32, 32]);
    expect(Buffer.compare(team!.key, common!.key)).not.toBe(0);
    expect(team!.name).not.toBe(common!.name);
    expect(team!.name).toMatch(/^[0-9a-f]{24}$/);
  });

  test("what the host does to what is left there does not change it", async () => {
    const capsule = await hibernated();
    await Bun.sleep(100); // several sweeps
    expect(await get(capsule)).toMatchObject({ status: "paused", hibernated: true });
    expect((await act(capsule, "resume")).hibernated).toBeUndefined();
    expect((await columns(capsule)).parcel).toBe("");
  });

  test("a host that still has it when it is met again removes it there", async () => {
    const made = await plane.create();
    plane.host.script("destroy", "1*error(lost)->off");
    await act(made, "hibernate");
    expect(plane.host.sandboxes.has(idOf(made))).toBe(true);
    plane.host.change(idOf(made), SandboxState.PAUSED, "said again");
    await until(() => !plane.host.sandboxes.has(idOf(made)));
    expect(await get(made)).toMatchObject({ status: "paused", hibernated: true });
  });

  test("a way back that fails leaves it there, as often as it fails, and says why", async () => {
    const capsule = await hibernated();
    plane.host.script("bring", "2*error(the line is cut)->off");
    for (let count = 0; count < 2; count++) {
      expect((await refused(capsule, "resume")).status).toBeGreaterThanOrEqual(500);
      expect(await get(capsule)).toMatchObject({ status: "paused", hibernated: true });
    }
    expect((await act(capsule, "resume")).status).toBe("running");
  });

  test("an answer that is lost does no harm: the host runs it, and its word counts", async () => {
    const capsule = await hibernated();
    plane.host.script("resumed", "1*error(late)->off");
    await refused(capsule, "resume");
    await plane.until(capsule.id, "running");
    expect((await columns(capsule)).parcel).toBe("");
  });

  test("deleted, it is gone at once, also when no host answers", async () => {
    const capsule = await hibernated();
    await plane.host.down();
    await plane.json(204, "DELETE", `/v1/capsules/${capsule.id}`);
    expect((await get(capsule)).status).toBe("stopped");
    await plane.host.comesBack();
    await until(async () => (await hosts())[0]!.status === "online");
  });

  test("a host that is lost on its way back leaves it in the store, and it comes when the host does", async () => {
    const capsule = await hibernated();
    plane.host.script("bring", "1*error(gone)->off");
    await plane.host.down();
    expect((await refused(capsule, "resume")).status).toBe(503);
    expect(await get(capsule)).toMatchObject({ status: "paused", hibernated: true });
    await plane.host.comesBack();
    plane.host.heal();
    await until(async () => (await hosts())[0]!.status === "online");
    expect((await act(capsule, "resume")).status).toBe("running");
  });

  test("a row that was on its way back when its server died is back in the store", async () => {
    const capsule = await hibernated();
    await plane.force(capsule.id, "resuming", 10_000);
    expect(await plane.until(capsule.id, "paused")).toMatchObject({ hibernated: true });
    expect((await act(capsule, "resume")).status).toBe("running");
  });

  test("what runs or ended has its parcel removed from the store", async () => {
    const [one, two] = [await hibernated(), await hibernated()];
    const names = [await columns(one), await columns(two)].map(({ parcel }) => parcel);
    for (const name of names) expect(plane.host.parcels.has(name)).toBe(true);
    await act(one, "resume");
    await plane.json(204, "DELETE", `/v1/capsules/${two.id}`);
    await until(() => names.every((name) => !plane.host.parcels.has(name)));
  }, 60_000);

  test("one that is resumed while it goes stays where it is, and its parcel is removed", async () => {
    const made = await plane.create();
    await act(made, "pause");
    plane.host.delayMs = 300;
    const going = refused(made, "hibernate");
    while (!plane.host.calls.includes(`hibernate ${idOf(made)}`)) await Bun.sleep(5);
    plane.host.delayMs = 0;
    await act(made, "resume");
    expect(await going).toMatchObject({ status: 409, code: "invalid_state" });
    expect(await get(made)).toMatchObject({ status: "running" });
    await until(() => ![...plane.host.parcels.keys()].some((name) => name.includes(idOf(made))));
  }, 60_000);

  test("asked for twice at once, it goes once", async () => {
    const made = await plane.create();
    const [first, second] = await Promise.all([act(made, "hibernate"), act(made, "hibernate")]);
    expect(first.hibernated && second.hibernated).toBe(true);
    expect(plane.host.calls.filter((call) => call === `hibernate ${idOf(made)}`).length).toBe(1);
  });

  test("a store that is away fails the hibernation and leaves it paused on its host", async () => {
    const made = await plane.create();
    plane.host.script("hibernate", "1*error(no store)->off");
    expect((await refused(made, "hibernate")).status).toBeGreaterThanOrEqual(500);
    const now = await get(made);
    expect([now.status, now.hibernated]).toEqual(["paused", undefined]);
    expect((await act(made, "resume")).status).toBe("running");
  });

  test("another team's sandbox cannot be moved", async () => {
    const made = await plane.create();
    const key = await plane.otherKey();
    const answer = await plane.refusal("POST", `/v1/capsules/${made.id}/hibernate`, undefined, {
      [headers.apiKey]: key,
    });
    expect(answer).toMatchObject({ status: 404, code: "not_found" });
  });
});

describe("a drain of the only host", () => {
  test("pauses what runs and leaves it, since no other host could resume it", async () => {
    const [host] = await hosts();
    const made = await plane.create();
    expect(await plane.refusal("GET", `/v1/hosts/${host!.id}/drain`)).toMatchObject({ status: 404 });
    const drained = await plane.json<rest.HostDrain>(200, "POST", `/v1/hosts/${host!.id}/drain`);
    expect(rest.HostDrain.parse(drained)).toMatchObject({ moved: [], hibernated: [], failed: {} });
    expect(drained.paused).toContain(made.id);
    expect((await get(made)).hibernated).toBeUndefined();
    await plane.json(200, "POST", `/v1/hosts/${host!.id}/uncordon`);
    expect((await act(made, "resume")).status).toBe("running");
  });

  test("a server that dies while it empties a host is followed by the next", async () => {
    const [host] = await hosts();
    // It hears of the host's new mode a moment after the database has it.
    await until(async () => (await plane.refusal("POST", "/v1/capsules", { template: "none" })).code === "not_found");
    const made = await plane.create();
    await plane.control.stop(); // it would take the drain over between the two statements, and keep it
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`update hosts set mode = 'draining'`;
    await sql`update host_drains set finished_at = null, outcomes = '{}', held_until = now() - interval '1 minute'`;
    await plane.restart();
    await plane.until(made.id, "paused");
    await until(async () => {
      const drain = await plane.json<rest.HostDrain>(200, "GET", `/v1/hosts/${host!.id}/drain`);
      return drain.finished_at !== undefined && drain.paused.includes(made.id);
    });
    await plane.json(200, "POST", `/v1/hosts/${host!.id}/uncordon`);
  }, 60_000);
});
