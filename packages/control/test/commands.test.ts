import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { parseSandboxId, type rest } from "@wrenn/contract";
import { apiKey, Plane } from "./support/plane.ts";

let plane: Plane;
let id: string;
beforeAll(async () => {
  plane = await Plane.start();
  ({ id } = await plane.create());
});
afterEach(() => plane.host.heal());
afterAll(() => plane[Symbol.asyncDispose]());

const exec = (body: rest.ExecRequest | object) =>
  plane.json<rest.ExecResult>(200, "POST", `/v1/capsules/${id}/exec`, body);
const refused = (body: object) => plane.refusal("POST", `/v1/capsules/${id}/exec`, body);
const sh = (script: string, more: object = {}) => exec({ cmd: "/bin/sh", args: ["-c", script], ...more });
const processes = async () =>
  (await plane.json<{ processes: rest.ProcessEntry[] }>(200, "GET", `/v1/capsules/${id}/processes`)).processes;

describe("exec", () => {
  test("answers both streams, the exit code and how long it took", async () => {
    const result = await sh("echo out; echo err >&2; exit 3");
    expect(result).toMatchObject({
      sandbox_id: id,
      cmd: "/bin/sh",
      stdout: "out\n",
      stderr: "err\n",
      exit_code: 3,
      encoding: "utf-8",
    });
    expect(result.duration_ms).toBeGreaterThan(0);
    expect(result.truncated).toBeUndefined();
  });

  test("no shell is implied", async () => {
    expect((await exec({ cmd: "/bin/echo", args: ["$HOME", "*"] })).stdout).toBe("$HOME *\n");
  });

  test("honours envs, cwd and user", async () => {
    expect((await sh('echo "$COLOUR" in $(pwd)', { envs: { COLOUR: "green" }, cwd: "/usr" })).stdout).toBe(
      "green in /usr\n",
    );
    const me = (await sh("id -un")).stdout.trim();
    expect((await sh("id -un", { user: me })).stdout.trim()).toBe(me);
  });

  test("output that is not UTF-8 comes as base64, both streams", async () => {
    const result = await sh("printf '\\377\\000'; printf plain >&2");
    expect(result.encoding).toBe("base64");
    expect([...Buffer.from(result.stdout, "base64")]).toEqual([255, 0]);
    expect(Buffer.from(result.stderr, "base64").toString()).toBe("plain");
  });

  test("a time-out kills the process and answers 408 with what it printed", async () => {
    const body = { cmd: "/bin/sh", args: ["-c", "echo begun; exec sleep 1000"], timeout_sec: 1 };
    const answer = await plane.json<{ error: { code: string; details: object } }>(
      408,
      "POST",
      `/v1/capsules/${id}/exec`,
      body,
    );
    expect(answer.error).toMatchObject({ code: "timeout", details: { stdout: "begun\n", stderr: "" } });
    expect((await processes()).filter((found) => found.args?.includes("echo begun; exec sleep 1000"))).toEqual([]);
  });

  test("the guest agent is told the request's id", async () => {
    const answer = await plane.fetch(
      "POST",
      `/v1/capsules/${id}/exec`,
      { cmd: "/bin/true" },
      { "x-request-id": "me-7" },
    );
    expect([answer.status, answer.headers.get("x-request-id")]).toEqual([200, "me-7"]);
    const path = `/proxy/${parseSandboxId(id)}/49983/process.Process/Start`;
    expect(plane.host.seen.get(path)!.get("x-request-id")).toBe("me-7");
  });

  test("a client that leaves takes its command with it", async () => {
    const left = new AbortController();
    const body = JSON.stringify({ cmd: "/bin/sleep", args: ["987"] });
    const gone = fetch(`${plane.address}/v1/capsules/${id}/exec`, {
      method: "POST",
      body,
      headers: { "x-api-key": apiKey },
      signal: left.signal,
    }).catch(() => "left");
    while (!(await processes()).some((found) => found.args?.[0] === "987")) await Bun.sleep(5);
    left.abort();
    expect((await gone) as string).toBe("left");
    while ((await processes()).some((found) => found.args?.[0] === "987")) await Bun.sleep(5);
  });

  test("more than 16 MiB of a stream is cut at a character and read to the end", async () => {
    const result = await sh("head -c 20000000 /dev/zero | tr '\\0' x; echo done >&2");
    expect(result.truncated).toBe(true);
    expect(result.stdout).toHaveLength(16 * 1024 * 1024);
    expect(result).toMatchObject({ stderr: "done\n", exit_code: 0, encoding: "utf-8" });
    const euros = await sh(
      'i=0; while [ $i -lt 13 ]; do i=$((i+1)); s=$s€€€€€€€€€€; s=$s$s; done; while :; do printf %s "$s"; done | head -c 17000001',
      {},
    );
    expect(euros.encoding).toBe("utf-8");
    expect(euros.stdout.endsWith("€")).toBe(true);
  });

  test("a missing program is 422, a missing folder and an unknown user are 400", async () => {
    expect(await refused({ cmd: "/no/such/program" })).toEqual({ status: 422, code: "command_not_found" });
    expect(await refused({ cmd: "no-such-program" })).toEqual({ status: 422, code: "command_not_found" });
    expect(await refused({ cmd: "/bin/true", cwd: "/no/such/folder" })).toEqual({
      status: 400,
      code: "invalid_request",
    });
    expect(await refused({ cmd: "/bin/true", user: "nosuchuser" })).toEqual({ status: 400, code: "invalid_request" });
  });

  for (const body of [
    {},
    { cmd: "" },
    { cmd: "x", timeout_sec: 0 },
    { cmd: "x", args: "y" },
    { cmd: "x", envs: { A: 1 } },
  ])
    test(`${JSON.stringify(body)} is 400`, async () => {
      expect(await refused(body)).toEqual({ status: 400, code: "invalid_request" });
    });

  test("a paused sandbox answers 409 with its state, also when only the host knows of the pause", async () => {
    const { id: other } = await plane.create();
    await plane.json(200, "POST", `/v1/capsules/${other}/pause`);
    expect(await plane.refusal("POST", `/v1/capsules/${other}/exec`, { cmd: "true" })).toEqual({
      status: 409,
      code: "invalid_state",
    });
    plane.host.script("proxy", "1*error(invalid_state)->off");
    expect(await refused({ cmd: "true" })).toEqual({ status: 409, code: "invalid_state" });
  });

  test("a host that cannot reach the guest is 503, an agent that breaks off is 502", async () => {
    plane.host.script("proxy", "1*error(host_unavailable)->off");
    expect(await refused({ cmd: "true" })).toEqual({ status: 503, code: "host_unavailable" });
    plane.host.cut = true;
    expect(await refused({ cmd: "true" })).toEqual({ status: 502, code: "agent_error" });
    plane.host.cut = false;
    expect((await exec({ cmd: "/bin/true" })).exit_code).toBe(0);
  });
});

describe("background", () => {
  test("answers 202 at once with pid and tag, is listed, and dies by its tag", async () => {
    const started = await plane.json<rest.BackgroundResult>(202, "POST", `/v1/capsules/${id}/exec`, {
      cmd: "/bin/sleep",
      args: ["1000"],
      background: true,
    });
    expect(started).toMatchObject({ sandbox_id: id, cmd: "/bin/sleep" });
    expect(started.tag).toMatch(/^proc-[0-9a-f]{8}$/);
    expect((await processes()).find((found) => found.pid === started.pid)).toEqual({
      pid: started.pid,
      tag: started.tag,
      cmd: "/bin/sleep",
      args: ["1000"],
    });
    await plane.json(204, "DELETE", `/v1/capsules/${id}/processes/${started.tag}`);
    while ((await processes()).some((found) => found.pid === started.pid)) await Bun.sleep(5);
  });

  test("takes a tag, dies by its pid with SIGTERM", async () => {
    const started = await plane.json<rest.BackgroundResult>(202, "POST", `/v1/capsules/${id}/exec`, {
      cmd: "/bin/sleep",
      args: ["1000"],
      background: true,
      tag: "mine",
    });
    expect(started.tag).toBe("mine");
    await plane.json(204, "DELETE", `/v1/capsules/${id}/processes/${started.pid}?signal=SIGTERM`);
    while ((await processes()).some((found) => found.pid === started.pid)) await Bun.sleep(5);
  });

  test("a missing program is 422; an unknown process 404; another signal 400", async () => {
    expect(await refused({ cmd: "/no/such", background: true })).toEqual({ status: 422, code: "command_not_found" });
    expect(await plane.refusal("DELETE", `/v1/capsules/${id}/processes/4194000`)).toEqual({
      status: 404,
      code: "not_found",
    });
    expect(await plane.refusal("DELETE", `/v1/capsules/${id}/processes/nosuchtag`)).toEqual({
      status: 404,
      code: "not_found",
    });
    expect(await plane.refusal("DELETE", `/v1/capsules/${id}/processes/1?signal=SIGHUP`)).toEqual({
      status: 400,
      code: "invalid_request",
    });
  });
});
