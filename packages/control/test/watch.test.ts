import { describe, expect, test } from "bun:test";
import { hostagent, parseSandboxId, randomId, type rest, type State, states } from "@wrenn/contract";
import { SQL } from "bun";
import { Plane } from "./support/plane.ts";

const { SandboxState } = hostagent;
/** Hosts are given up soon. */
const lost = { hostLostMs: 150, sweepMs: 30 };
/** Changes are given up soon: only for a control plane that is to find some, since a busy machine takes as long for its own. */
const abandoned = { abandonedMs: 150, sweepMs: 30 };
const bare = (id: string) => parseSandboxId(id)!;

describe("what a host reports by itself", () => {
  test("a pause by time-out shows as paused, and resuming works", async () => {
    await using plane = await Plane.start();
    const { id } = await plane.create();
    plane.host.change(bare(id), SandboxState.PAUSED, "ttl_expired");
    await plane.until(id, "paused");
    expect((await plane.json(200, "POST", `/v1/capsules/${id}/resume`)).status).toBe("running");
  });

  test("a VM that ends shows as stopped with the reason, a broken one as error", async () => {
    await using plane = await Plane.start();
    const [one, two] = [await plane.create(), await plane.create()];
    plane.host.change(bare(one.id), SandboxState.STOPPED, "vm_exited");
    plane.host.change(bare(two.id), SandboxState.ERROR, "disk_full");
    expect((await plane.until(one.id, "stopped")).error).toBe("vm_exited");
    expect((await plane.until(two.id, "error")).error).toBe("disk_full");
    await plane.json(204, "DELETE", `/v1/capsules/${two.id}`);
    await plane.until(two.id, "stopped");
  });

  test("an old report does not undo what happened since", async () => {
    await using plane = await Plane.start();
    const { id } = await plane.create();
    const old = plane.host.sandboxes.get(bare(id))!;
    await plane.json(200, "POST", `/v1/capsules/${id}/pause`);
    await plane.json(200, "POST", `/v1/capsules/${id}/resume`);
    plane.host.replay({ ...old, state: SandboxState.STOPPED });
    const marker = await plane.create();
    plane.host.change(bare(marker.id), SandboxState.PAUSED);
    await plane.until(marker.id, "paused"); // reports are applied in order, so the replayed one has been seen
    expect((await plane.json(200, "GET", `/v1/capsules/${id}`)).status).toBe("running");
  });

  test("a sandbox that is over is removed from the host; one that the database never knew is left alone", async () => {
    await using plane = await Plane.start();
    const { id } = await plane.create();
    await plane.json(204, "DELETE", `/v1/capsules/${id}`);
    const stranger = randomId();
    plane.host.plant(stranger);
    plane.host.plant(bare(id));
    while (plane.host.sandboxes.has(bare(id))) await Bun.sleep(5);
    expect(plane.host.sandboxes.has(stranger)).toBe(true);
  });
});

describe("a host that goes away", () => {
  test("its sandboxes become missing, commands are refused, and everything heals when it returns", async () => {
    await using plane = await Plane.start(lost);
    const [alive, paused, gone] = [await plane.create(), await plane.create(), await plane.create()];
    await plane.json(200, "POST", `/v1/capsules/${paused.id}/pause`);
    await plane.host.down();
    await plane.until(alive.id, "missing");
    expect((await plane.json(200, "GET", `/v1/capsules/${paused.id}`)).status).toBe("paused");
    expect(await plane.refusal("POST", `/v1/capsules/${alive.id}/exec`, { cmd: "true" })).toEqual({
      status: 409,
      code: "invalid_state",
    });
    let refused = { status: 503, code: "host_unavailable" as string | undefined };
    while (refused.code === "host_unavailable") refused = await plane.refusal("POST", "/v1/capsules", {}); // not yet known here
    expect(refused).toEqual({ status: 503, code: "no_hosts_available" });
    plane.host.forget(bare(gone.id));
    plane.host.up();
    await plane.until(alive.id, "running");
    expect((await plane.until(gone.id, "stopped")).error).toContain("does not have it");
  });

  test("what was given up while it was coming back is found again, or known to be gone", async () => {
    await using plane = await Plane.start(lost);
    const [alive, gone] = [await plane.create(), await plane.create()];
    plane.host.forget(bare(gone.id));
    for (const { id } of [alive, gone]) await plane.force(id, "missing"); // after the host had named what it has
    await plane.until(alive.id, "running");
    await plane.until(gone.id, "stopped");
  });

  test("a deletion asked for meanwhile is carried out when it returns", async () => {
    await using plane = await Plane.start();
    const { id } = await plane.create();
    await plane.host.down();
    expect(await plane.refusal("DELETE", `/v1/capsules/${id}`)).toEqual({ status: 503, code: "host_unavailable" });
    expect((await plane.json(200, "GET", `/v1/capsules/${id}`)).status).toBe("stopping");
    await plane.restart(abandoned);
    plane.host.up();
    await plane.until(id, "stopped");
    expect(plane.host.sandboxes.size).toBe(0);
  });

  test("a pause that broke off with it is settled as soon as it is back", async () => {
    await using plane = await Plane.start({ sweepMs: 30 });
    const { id } = await plane.create();
    const release = plane.host.hold("pause");
    const pause = plane.refusal("POST", `/v1/capsules/${id}/pause`);
    while (!plane.host.calls.some((call) => call.startsWith("pause"))) await Bun.sleep(5);
    await plane.host.down();
    release();
    expect(await pause).toEqual({ status: 503, code: "host_unavailable" });
    expect((await plane.json(200, "GET", `/v1/capsules/${id}`)).status).toBe("pausing");
    plane.host.quietly(bare(id), SandboxState.RUNNING);
    plane.host.up();
    await plane.until(id, "running");
  });

  test("another replica that still hears it keeps its sandboxes from being marked missing", async () => {
    await using plane = await Plane.start(lost);
    const { id } = await plane.create();
    await plane.heardOf();
    await plane.host.down();
    const until = Date.now() + 4 * lost.hostLostMs;
    while (Date.now() < until) {
      await plane.heardOf();
      expect((await plane.json(200, "GET", `/v1/capsules/${id}`)).status).toBe("running");
    }
  });
});

describe("a control plane that died in the middle", () => {
  /** State of the row that was left, what the host has, and what must come of it. */
  const cases: readonly [State, hostagent.SandboxState | undefined, State][] = [
    ["pending", undefined, "error"],
    ["starting", undefined, "error"],
    ["starting", SandboxState.RUNNING, "running"],
    ["running", SandboxState.RUNNING, "running"],
    ["running", SandboxState.PAUSED, "paused"],
    ["running", undefined, "stopped"],
    ["pausing", SandboxState.RUNNING, "running"],
    ["pausing", SandboxState.PAUSED, "paused"],
    ["pausing", undefined, "stopped"],
    ["paused", SandboxState.PAUSED, "paused"],
    ["paused", undefined, "stopped"],
    ["resuming", SandboxState.PAUSED, "paused"],
    ["resuming", SandboxState.RUNNING, "running"],
    ["resuming", undefined, "stopped"],
    ["stopping", SandboxState.RUNNING, "stopped"],
    ["stopping", undefined, "stopped"],
    ["missing", SandboxState.RUNNING, "running"],
    ["missing", undefined, "stopped"],
    ["error", SandboxState.ERROR, "error"],
    ["stopped", undefined, "stopped"],
  ];

  test("every state is among the cases", () => {
    expect([...new Set(cases.map(([state]) => state))].sort()).toEqual([...states].sort());
  });

  test("the next one settles a row in any state by the host's word", async () => {
    await using plane = await Plane.start();
    const rows: { id: string; left: State; has: string; want: State }[] = [];
    for (const [left, host, want] of cases) {
      const { id } = await plane.create();
      if (host === undefined) plane.host.forget(bare(id));
      else if (host !== SandboxState.RUNNING) plane.host.quietly(bare(id), host);
      rows.push({ id, left, has: host === undefined ? "nothing" : (SandboxState[host] ?? ""), want });
    }
    await plane.control.stop();
    for (const { id, left } of rows) await plane.force(id, left);
    await plane.restart(abandoned);
    for (const { id, want } of rows) await plane.until(id, want);
    expect(rows).toHaveLength(cases.length);
  });

  test("one that cannot be settled does not hold up the others", async () => {
    await using plane = await Plane.start();
    const [stuck, free] = [await plane.create(), await plane.create()];
    plane.host.script("destroy", "error(internal_error)");
    await plane.control.stop();
    await plane.force(stuck.id, "stopping", 60_000);
    await plane.force(free.id, "pausing", 1_000);
    await plane.restart(abandoned);
    await plane.until(free.id, "running");
    plane.host.heal();
    await plane.until(stuck.id, "stopped");
  });

  test("a change that is under way elsewhere is left alone", async () => {
    await using plane = await Plane.start({ sweepMs: 30 });
    const { id } = await plane.create();
    await plane.control.stop();
    await plane.force(id, "pausing");
    await plane.restart();
    const marker = await plane.create();
    plane.host.change(bare(marker.id), SandboxState.PAUSED);
    await plane.until(marker.id, "paused");
    expect((await plane.json(200, "GET", `/v1/capsules/${id}`)).status).toBe("pausing");
  });
});

test("a snapshot that a control plane died over is found and named; a stranger's is left alone", async () => {
  await using plane = await Plane.start();
  const { id } = await plane.create();
  const lost = await plane.json<rest.Snapshot>(201, "POST", `/v1/capsules/${id}/checkpoint`);
  await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
  await sql`delete from snapshots where name = ${lost.name}`;
  const [internal] = plane.host.snapshots.values();
  plane.host.snapshots.set("stranger", { ...internal!, id: "stranger", sandboxId: randomId() });
  const listed = () => plane.json<rest.Snapshot[]>(200, "GET", "/v1/snapshots?type=snapshot");
  await plane.restart(abandoned);
  while ((await listed()).length === 0) await Bun.sleep(5);
  const found = await listed();
  expect(found).toHaveLength(1);
  expect(found[0]).toMatchObject({ capsule_id: id, size_bytes: lost.size_bytes, metadata: { recovered: "true" } });
  await plane.restart();
  expect((await plane.create({ template: found[0]!.name })).status).toBe("running");
  expect(plane.host.snapshots.has("stranger")).toBe(true);
});

test("a stop waits for a create whose client has gone", async () => {
  await using plane = await Plane.start();
  const release = plane.host.hold("create");
  const left = new AbortController();
  const gone = fetch(`${plane.address}/v1/capsules`, {
    method: "POST",
    headers: { "x-api-key": `wrn_${"a".repeat(32)}` },
    body: "{}",
    signal: left.signal,
  }).catch(() => undefined);
  while (!plane.host.calls.some((call) => call.startsWith("create"))) await Bun.sleep(5);
  left.abort();
  await gone;
  const restarted = plane.restart();
  await Bun.sleep(50); // the stop is under way
  release();
  await restarted;
  const [row] = await plane.json<{ status: string }[]>(200, "GET", "/v1/capsules");
  expect(row!.status).toBe("running");
});
