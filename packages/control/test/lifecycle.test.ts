import { describe, expect, test } from "bun:test";
import { parseSandboxId, type rest } from "@wrenn/contract";
import { planeOfFile } from "./support/plane.ts";

const plane = planeOfFile();

const path = (id: string, action = "") => `/v1/capsules/${id}${action && `/${action}`}`;
const status = async (id: string) => (await plane().json(200, "GET", path(id))).status;

describe("create", () => {
  test("answers a running sandbox with the host's facts and the caller's metadata", async () => {
    const made = await plane().create({ metadata: { user: "ann", agent_version: "mine" }, timeout_sec: 60, vcpus: 2 });
    expect(made).toMatchObject({
      status: "running",
      template: "minimal",
      vcpus: 2,
      memory_mb: 512,
      timeout_sec: 60,
      host_ip: "127.0.0.1",
      metadata: { user: "ann", agent_version: "0.0.0", envd_version: "0.6.4" },
    });
    expect(made.error).toBeUndefined();
    expect(await plane().json(200, "GET", path(made.id))).toEqual(made);
  });

  test("environment variables go to the host and are shown nowhere", async () => {
    const made = await plane().create({ envs: { SECRET: "s3cret" } });
    expect(plane().host.envs.get(parseSandboxId(made.id)!)).toEqual({ SECRET: "s3cret" });
    expect(JSON.stringify(await plane().json(200, "GET", path(made.id)))).not.toContain("s3cret");
  });

  test("an unknown template is 404 and leaves no row", async () => {
    const before = await plane().json<rest.Capsule[]>(200, "GET", "/v1/capsules?status=error,stopped,running");
    expect(await plane().refusal("POST", "/v1/capsules", { template: "nope" })).toEqual({
      status: 404,
      code: "not_found",
    });
    expect(await plane().json<rest.Capsule[]>(200, "GET", "/v1/capsules?status=error,stopped,running")).toHaveLength(
      before.length,
    );
  });

  /** A create before may still have the host asked for its templates. */
  const made = () => plane().host.calls.filter((call) => call !== "host");

  for (const [body, field] of [
    ["{", undefined],
    ["[]", undefined],
    [{ template: "../etc" }, "template"],
    [{ vcpus: 33 }, "vcpus"],
    [{ memory_mb: 1 }, "memory_mb"],
    [{ timeout_sec: -1 }, "timeout_sec"],
    [{ timeout_action: "explode" }, "timeout_action"],
    [{ metadata: { a: 1 } }, "metadata.a"],
  ] as const)
    test(`${JSON.stringify(body)} is 400 and calls no host`, async () => {
      const calls = made().length;
      const response = await plane().fetch("POST", "/v1/capsules", body);
      const { error } = (await response.json()) as { error: { code: string; details?: { field: string } } };
      expect([response.status, error.code, error.details?.field]).toEqual([400, "invalid_request", field]);
      expect(made()).toHaveLength(calls);
    });

  for (const [step, code, wire] of [
    ["create", "insufficient_storage", 507],
    ["create", "no_hosts_available", 503],
    ["created", "internal_error", 500],
  ] as const)
    test(`a host that fails at "${step}" with ${code} leaves an error row, nothing on the host, and the next create works`, async () => {
      plane().host.script(step, `1*error(${code})->off`);
      const held = plane().host.sandboxes.size;
      expect(await plane().refusal("POST", "/v1/capsules", {})).toEqual({ status: wire, code });
      const [failed] = await plane().json<rest.Capsule[]>(200, "GET", "/v1/capsules?status=error&limit=1");
      expect(failed!.error).toBe("failpoint");
      while (plane().host.sandboxes.size > held) await Bun.sleep(5);
      expect((await plane().create()).status).toBe("running");
    });

  test("a client that leaves during a create does not leave a half-made sandbox", async () => {
    const release = plane().host.hold("create");
    const left = new AbortController();
    const before = plane().host.calls.filter((call) => call.startsWith("create")).length;
    const gone = fetch(`${plane().address}/v1/capsules`, {
      method: "POST",
      headers: { "x-api-key": `wrn_${"a".repeat(32)}` },
      body: '{"metadata":{"left":"yes"}}',
      signal: left.signal,
    }).catch(() => "aborted");
    while (plane().host.calls.filter((call) => call.startsWith("create")).length === before) await Bun.sleep(5);
    left.abort();
    expect((await gone) as string).toBe("aborted");
    release();
    const filter = encodeURIComponent('{"left":"yes"}');
    const [row] = await plane().json<rest.Capsule[]>(200, "GET", `/v1/capsules?metadata=${filter}`);
    expect((await plane().until(row!.id, "running")).started_at).toBeDefined();
  });

  test("a delete during the create wins: nothing is left on the host", async () => {
    const release = plane().host.hold("create");
    const creating = plane().refusal("POST", "/v1/capsules", { metadata: { doomed: "yes" } });
    const filter = encodeURIComponent('{"doomed":"yes"}');
    let row: rest.Capsule | undefined;
    while (row?.status !== "starting")
      [row] = await plane().json<rest.Capsule[]>(200, "GET", `/v1/capsules?metadata=${filter}`);
    await plane().json(204, "DELETE", path(row.id));
    release();
    expect(await creating).toEqual({ status: 409, code: "invalid_state" });
    while (plane().host.sandboxes.has(parseSandboxId(row.id)!)) await Bun.sleep(5);
    expect(await status(row.id)).toBe("stopped");
  });
});

describe("pause and resume", () => {
  test("a sandbox pauses, resumes as the next incarnation, and each refuses the wrong state with the state it found", async () => {
    const { id } = await plane().create();
    expect((await plane().json(200, "POST", path(id, "pause"))).status).toBe("paused");
    const refused = await plane().json<{ error: { code: string; details: object } }>(409, "POST", path(id, "pause"));
    expect(refused.error).toMatchObject({ code: "invalid_state", details: { id, state: "paused" } });
    expect((await plane().json(200, "POST", path(id, "resume"))).status).toBe("running");
    expect(plane().host.sandboxes.get(parseSandboxId(id)!)!.run).toBe(2n);
    expect(await plane().refusal("POST", path(id, "resume"))).toEqual({ status: 409, code: "invalid_state" });
  });

  for (const [action, before] of [
    ["pause", "running"],
    ["resume", "paused"],
  ] as const)
    test(`a ${action} that the host refuses leaves the sandbox ${before}, and the next one works`, async () => {
      const { id } = await plane().create();
      if (before === "paused") await plane().json(200, "POST", path(id, "pause"));
      plane().host.script(action, "1*error(insufficient_storage)->off");
      expect(await plane().refusal("POST", path(id, action))).toEqual({ status: 507, code: "insufficient_storage" });
      expect(await status(id)).toBe(before);
      await plane().json(200, "POST", path(id, action));
    });

  for (const [action, after] of [
    ["pause", "paused"],
    ["resume", "running"],
  ] as const)
    test(`a ${action} that succeeds while its answer is lost shows what the host did`, async () => {
      const { id } = await plane().create();
      if (action === "resume") await plane().json(200, "POST", path(id, "pause"));
      plane().host.script(after === "paused" ? "paused" : "resumed", "1*error(host_unavailable)->off");
      expect(await plane().refusal("POST", path(id, action))).toEqual({ status: 503, code: "host_unavailable" });
      expect(await status(id)).toBe(after);
    });

  for (const action of ["pause", "resume"] as const)
    test(`of two ${action}s at once exactly one wins`, async () => {
      const { id } = await plane().create();
      if (action === "resume") await plane().json(200, "POST", path(id, "pause"));
      plane().host.delayMs = 30;
      const answers = await Promise.all([1, 2, 3].map(() => plane().fetch("POST", path(id, action))));
      expect(answers.map((answer) => answer.status).sort()).toEqual([200, 409, 409]);
      expect(await status(id)).toBe(action === "pause" ? "paused" : "running");
    });

  test("a delete that overtakes a pause wins", async () => {
    const { id } = await plane().create();
    const release = plane().host.hold("pause");
    const pausing = plane().fetch("POST", path(id, "pause"));
    while ((await status(id)) !== "pausing") await Bun.sleep(1);
    await plane().json(204, "DELETE", path(id));
    release();
    expect((await pausing).status).toBeGreaterThanOrEqual(400);
    expect(await status(id)).toBe("stopped");
    while (plane().host.sandboxes.has(parseSandboxId(id)!)) await Bun.sleep(5);
  });
});

describe("delete", () => {
  test("two at once and one afterwards all succeed, and the row stays readable but is listed no more", async () => {
    const { id } = await plane().create();
    const answers = await Promise.all([plane().fetch("DELETE", path(id)), plane().fetch("DELETE", path(id))]);
    expect(answers.map((answer) => answer.status)).toEqual([204, 204]);
    await plane().json(204, "DELETE", path(id));
    expect(await status(id)).toBe("stopped");
    expect((await plane().json<rest.Capsule[]>(200, "GET", "/v1/capsules")).map((row) => row.id)).not.toContain(id);
  });

  test("a paused sandbox can be deleted", async () => {
    const { id } = await plane().create();
    await plane().json(200, "POST", path(id, "pause"));
    await plane().json(204, "DELETE", path(id));
    expect(plane().host.sandboxes.has(parseSandboxId(id)!)).toBe(false);
  });

  test("when the host fails the wish is kept and asking again carries it out", async () => {
    const { id } = await plane().create();
    plane().host.script("destroy", "1*error(internal_error)->off");
    expect((await plane().refusal("DELETE", path(id))).status).toBe(500);
    expect(await status(id)).toBe("stopping");
    await plane().json(204, "DELETE", path(id));
    expect(await status(id)).toBe("stopped");
  });
});

describe("ping and timeout", () => {
  test("a ping reaches the host; a paused sandbox refuses it", async () => {
    const { id } = await plane().create();
    await plane().json(204, "POST", path(id, "ping"));
    expect(plane().host.calls).toContain(`ping ${parseSandboxId(id)}`);
    await plane().json(200, "POST", path(id, "pause"));
    expect(await plane().refusal("POST", path(id, "ping"))).toEqual({ status: 409, code: "invalid_state" });
  });

  test("the time-out changes while it runs, and a bad one changes nothing", async () => {
    const { id } = await plane().create({ timeout_sec: 10 });
    expect((await plane().json(200, "POST", path(id, "timeout"), { timeout_sec: 90 })).timeout_sec).toBe(90);
    expect(await plane().refusal("POST", path(id, "timeout"), { timeout_sec: -1 })).toEqual({
      status: 400,
      code: "invalid_request",
    });
    expect((await plane().json(200, "GET", path(id))).timeout_sec).toBe(90);
  });
});

describe("list", () => {
  test("filters by status, template and metadata", async () => {
    const { id } = await plane().create({ metadata: { job: "7", user: "bob" } });
    await plane().json(200, "POST", path(id, "pause"));
    const list = async (query: string) =>
      (await plane().json<rest.Capsule[]>(200, "GET", `/v1/capsules?${query}`)).map((row) => row.id);
    expect(await list("status=paused")).toContain(id);
    expect(await list("status=running")).not.toContain(id);
    expect(await list("template=minimal")).toContain(id);
    expect(await list("template=other")).toEqual([]);
    expect(await list(`metadata=${encodeURIComponent('{"job":"7"}')}`)).toEqual([id]);
    expect(await list(`metadata=${encodeURIComponent('{"job":"8"}')}`)).toEqual([]);
  });

  test("pages walk through every sandbox once, newest first", async () => {
    await Promise.all(Array.from({ length: 5 }, () => plane().create()));
    const all = await plane().json<rest.Capsule[]>(200, "GET", "/v1/capsules");
    const seen: rest.Capsule[] = [];
    for (let cursor = ""; ; ) {
      const response = await plane().fetch("GET", `/v1/capsules?limit=2${cursor && `&cursor=${cursor}`}`);
      seen.push(...((await response.json()) as rest.Capsule[]));
      cursor = response.headers.get("x-next-cursor") ?? "";
      if (!cursor) break;
    }
    expect(seen.map((row) => row.id)).toEqual(all.map((row) => row.id));
    expect(all.map((row) => row.created_at)).toEqual(
      all
        .map((row) => row.created_at)
        .sort()
        .reverse(),
    );
  });

  for (const query of ["status=flying", "limit=0", "limit=x", "cursor=%00", "metadata=notjson", 'metadata={"a":1}'])
    test(`${query} is 400`, async () => {
      expect(await plane().refusal("GET", `/v1/capsules?${query}`)).toEqual({ status: 400, code: "invalid_request" });
    });
});

test("templates are listed as the host has them", async () => {
  const all = await plane().json<rest.Template[]>(200, "GET", "/v1/snapshots");
  expect(all).toEqual([
    { name: "minimal", type: "base", size_bytes: 1, created_at: "2023-11-14T22:13:20.000Z", platform: true },
  ]);
  expect(await plane().json<rest.Template[]>(200, "GET", "/v1/snapshots?type=snapshot")).toEqual([]);
});
