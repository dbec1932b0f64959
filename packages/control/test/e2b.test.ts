import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { headers, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { e2bCalls } from "./support/e2b.ts";
import { planeOfFile } from "./support/plane.ts";

// A busy machine takes its time to start a database.
setDefaultTimeout(60_000);

const plane = planeOfFile();

const { act, create, info, left, refusal, status, toPort, visit } = e2bCalls(plane);

describe("create", () => {
  test("answers what both SDKs need; the id is a host name's label", async () => {
    const made = await create({ metadata: { a: "b" } });
    expect(made.sandboxID).toMatch(/^[a-z0-9]{25}$/);
    expect(made).toMatchObject({ templateID: "minimal", envdVersion: "0.6.4", trafficAccessToken: null });
    expect(made.clientID).not.toBe("");
    expect(made.domain).toBe(`localhost:${new URL(plane().address).port}`);
    expect(await info(made.sandboxID)).toMatchObject({
      state: "running",
      metadata: { a: "b" },
      lifecycle: { autoResume: false, onTimeout: "kill" },
    });
  });

  test("the first version lives for 15 seconds and the second for 300 unless the client says otherwise", async () => {
    const times = [
      await left((await create({}, "/sandboxes")).sandboxID),
      await left((await create()).sandboxID),
      await left((await create({ timeout: 60 })).sandboxID),
    ];
    for (const [at, wanted] of [15, 300, 60].entries()) {
      expect(times[at]).toBeLessThanOrEqual(wanted);
      expect(times[at]).toBeGreaterThan(wanted - 10); // which a busy machine may take to answer
    }
  });

  test("the agent's token is the client's alone: the Wrenn dialect never shows it", async () => {
    const { sandboxID: id, envdAccessToken } = await create();
    expect(plane().host.tokens.get(id)).toBe(envdAccessToken);
    expect(envdAccessToken).not.toBe((await create()).envdAccessToken);
    const wrenn = await plane().fetch("GET", `/v1/capsules/cl-${id}`);
    expect(await wrenn.text()).not.toContain(envdAccessToken);
  });

  for (const body of [{ templateID: 1 }, { timeout: -1 }, { timeout: "x" }, { metadata: { a: 1 } }, { autoResume: 1 }])
    test(`${JSON.stringify(body)} is refused with the status in the body`, async () => {
      const answer = await plane().fetch("POST", "/v2/sandboxes", { templateID: "minimal", ...body });
      expect([answer.status, ((await answer.json()) as rest.e2b.ErrorBody).code]).toEqual([400, 400]);
    });

  test("an unknown template is 404, a missing key 401", async () => {
    expect(await refusal(plane().fetch("POST", "/v2/sandboxes", { templateID: "nope" }))).toMatchObject({ code: 404 });
    expect(await refusal(visit("/sandboxes/x"))).toMatchObject({ code: 401, message: expect.any(String) });
  });

  test("asked again under the same idempotency key it is the same sandbox", async () => {
    const key = { [headers.idempotencyKey]: crypto.randomUUID() };
    const ask = async () =>
      (
        (await (
          await plane().fetch("POST", "/v2/sandboxes", { templateID: "minimal" }, key)
        ).json()) as rest.e2b.Sandbox
      ).sandboxID;
    expect(await ask()).toBe(await ask());
  });
});

describe("time to live", () => {
  test("connect makes it longer and never shorter, to the bit", async () => {
    const { sandboxID: id } = await create({ timeout: 100 });
    const before = (await info(id)).endAt;
    expect(await status(act(id, "connect", { timeout: 10 }))).toBe(200);
    expect((await info(id)).endAt).toBe(before);
    await act(id, "connect", { timeout: 500 });
    expect(await left(id)).toBeGreaterThan(400);
    await act(id, "refreshes", { duration: 1 });
    expect(await left(id)).toBeGreaterThan(400);
    expect(await status(act(id, "timeout", { timeout: 50 }))).toBe(204);
    expect(await left(id)).toBeLessThan(51);
  });

  test("its end kills it, or pauses it where that was asked for", async () => {
    const killed = await create({ timeout: 0 });
    const paused = await create({ timeout: 0, autoPause: true });
    await plane().until(killed.sandboxID, "stopped");
    await plane().until(paused.sandboxID, "paused");
    expect(await status(plane().fetch("GET", `/sandboxes/${killed.sandboxID}`))).toBe(404);
    expect(await info(paused.sandboxID)).toMatchObject({ state: "paused", pauseMode: "full" });
  });

  test("a sandbox of the Wrenn dialect has no end, and connecting gives it none", async () => {
    const { id } = await plane().create();
    expect(await status(act(id.slice(3), "connect", { timeout: 1 }))).toBe(200);
    expect((await info(id.slice(3))).endAt).toBe("2999-12-31T00:00:00.000Z");
  });

  test("a sandbox that another replica was told to keep is not ended by one that saw its old end", async () => {
    const { sandboxID: id } = await create({ timeout: 300 });
    await using sql = new SQL(plane().options.databaseUrl, { max: 1 });
    plane().host.script("destroy", "1*error(not yet)");
    await sql`update sandboxes set end_at = now() - interval '1 hour' where id = ${id}`;
    await act(id, "timeout", { timeout: 300 });
    const state = (await plane().json(200, "GET", `/v1/capsules/${id}`)).status;
    if (state === "running") expect(await left(id)).toBeGreaterThan(200);
    else await plane().until(id, "stopped");
  });
});

describe("pause and resume", () => {
  test("a pause of a paused one is 409, connect resumes with 201 and a new end", async () => {
    const { sandboxID: id } = await create({ timeout: 20 });
    expect(await status(act(id, "pause"))).toBe(204);
    expect(await refusal(act(id, "pause"))).toMatchObject({ code: 409 });
    const connected = await plane().fetch("POST", `/v2/sandboxes/${id}/connect`, { timeout: 400 });
    expect([connected.status, ((await connected.json()) as rest.e2b.Sandbox).sandboxID]).toEqual([201, id]);
    expect(await left(id)).toBeGreaterThan(380);
    await act(id, "pause");
    expect(await status(act(id, "resume", { timeout: 30 }))).toBe(201);
    expect(await status(act(id, "resume", { timeout: 30 }))).toBe(409);
  });

  test("a pause of a healthy guest only leaves one alone whose agent does not answer", async () => {
    const { sandboxID: id } = await create();
    plane().host.script("proxy", "1*error(agent_error)->off");
    const { code, message } = await refusal(act(id, "pause", { requireHealthyGuest: true }));
    expect([code, message.includes("requireHealthyGuest")]).toEqual([503, true]);
    plane().host.script("proxy", "1*error(agent_error)->off");
    expect(await refusal(act(id, "pause", { memory: false }))).toMatchObject({ code: 503 });
    expect((await info(id)).state).toBe("running");
    expect(await status(act(id, "pause", { requireHealthyGuest: true }))).toBe(204);
    expect(await refusal(act(id, "pause", { requireHealthyGuest: true }))).toMatchObject({ code: 409 });
  });

  test("a pause keeps the disk alone where that was asked for, now or at the end of its time", async () => {
    const asked = (await create()).sandboxID;
    await act(asked, "pause", { memory: false });
    const { sandboxID: over } = await create({ timeout: 0, autoPause: true, autoPauseMemory: false });
    await plane().until(over, "paused");
    for (const id of [asked, over]) {
      expect(await info(id)).toMatchObject({ state: "paused", pauseMode: "filesystem" });
      expect(await status(act(id, "connect"))).toBe(201);
      await act(id, "pause");
      expect(await info(id)).toMatchObject({ pauseMode: "full" });
    }
  });

  test("a connect or resume can give up the memory that was kept, a snapshot can leave it out", async () => {
    const { sandboxID: id } = await create();
    for (const action of ["connect", "resume"]) {
      await act(id, "pause");
      expect(await status(act(id, action, { memory: false }))).toBe(201);
      expect(plane().host.calls.at(-1)).toBe(`resume ${id} disk only`);
    }
    expect(await status(act(id, "connect", { memory: false }))).toBe(200);
    const { snapshotID } = await plane().json<{ snapshotID: string }>(201, "POST", `/sandboxes/${id}/snapshots`, {
      memory: false,
    });
    expect(plane().host.calls.at(-1)).toBe(`checkpoint ${id} disk only`);
    await create({ templateID: snapshotID });
  });

  test("traffic boots nothing: one that kept its disk alone looks gone until somebody connects", async () => {
    plane().host.apps.set(3000, plane().guest.address);
    const { sandboxID: id } = await create({ autoPause: true, autoResume: { enabled: true } });
    await act(id, "pause", { memory: false });
    expect(await status(toPort(id, 3000))).toBe(502);
    expect((await info(id)).state).toBe("paused");
    await act(id, "connect");
    expect(await status(toPort(id, 3000))).not.toBe(502);
  });

  test("a volume that is not there is refused by name, and makes nothing", async () => {
    const made = plane().host.sandboxes.size;
    const body = { templateID: "minimal", volumeMounts: [{ name: "v", path: "/v" }] };
    expect(await refusal(plane().fetch("POST", "/sandboxes", body))).toMatchObject({ code: 400 });
    expect(plane().host.sandboxes.size).toBe(made);
  });

  test("what is killed is gone: every call is 404, and so is an id that no sandbox can have", async () => {
    const { sandboxID: id } = await create();
    expect(await status(plane().fetch("DELETE", `/sandboxes/${id}`))).toBe(204);
    for (const gone of [id, "nonexistingsandbox"]) {
      expect(await refusal(plane().fetch("DELETE", `/sandboxes/${gone}`))).toMatchObject({ code: 404 });
      expect(await refusal(plane().fetch("GET", `/sandboxes/${gone}`))).toMatchObject({ code: 404 });
      for (const action of ["connect", "pause", "resume", "fork", "snapshots"])
        expect(await refusal(act(gone, action, { timeout: 5 }))).toMatchObject({ code: 404 });
      expect(await status(act(gone, "timeout", { timeout: 5 }))).toBe(404);
    }
  });

  test("traffic wakes one that asked for it, once for however many wait", async () => {
    plane().host.apps.set(3000, plane().guest.address);
    const { sandboxID: id } = await create({ autoPause: true, autoResume: { enabled: true } });
    await act(id, "pause");
    plane().host.delayMs = 100;
    const before = plane().host.calls.filter((call) => call === `resume ${id}`).length;
    const answers = await Promise.all(Array.from({ length: 60 }, () => toPort(id, 49983)));
    expect(new Set(answers.map((answer) => answer.status))).not.toContain(502);
    expect(plane().host.calls.filter((call) => call === `resume ${id}`)).toHaveLength(before + 1);
    expect(await left(id)).toBeGreaterThan(200);
  });

  test("one that did not ask for it stays paused and looks gone", async () => {
    const { sandboxID: id } = await create({ autoPause: true });
    await act(id, "pause");
    expect(await (await toPort(id, 3000)).json()).toEqual({
      sandboxId: id,
      message: "The sandbox was not found",
      code: 502,
    });
    expect((await info(id)).state).toBe("paused");
  });
});
