import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { headers, type rest } from "@wrenn/contract";
import { SQL } from "bun";
import { pack } from "tar-stream";
import { apiKey, Plane } from "../support/plane.ts";

// The guests of the fake host are this machine, so commands stay within one folder.
const folder = mkdtempSync(join(tmpdir(), "wrenn-build-"));
let plane: Plane;

const isRoot = process.getuid!() === 0;
const building = (title: string, rules: () => void): void =>
  isRoot
    ? describe(title, rules)
    : describe.skip(`${title} — skipped: steps act as root, and the guest here is this machine's own user`, rules);

beforeAll(async () => {
  plane = await Plane.start();
});
afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  plane.host.heal();
  plane.host.calls.length = 0;
});

const submit = (name: string, body: Partial<rest.CreateBuildInput>) =>
  plane.json<rest.Build>(202, "POST", `/v1/templates/${name}/builds`, body);

/** Waits for the end of a build and answers it with its log. */
async function ended(id: string): Promise<rest.BuildLog> {
  for (;;) {
    const log = await plane.json<rest.BuildLog>(200, "GET", `/v1/builds/${id}/logs`);
    if (log.build.completed_at) return log;
    await Bun.sleep(20);
  }
}

const built = async (name: string, body: Partial<rest.CreateBuildInput>) => ended((await submit(name, body)).id);
const lines = (log: rest.BuildLog, stream: string) =>
  log.lines.filter((line) => line.stream === stream).map((line) => line.message);

async function archive(files: Record<string, string>): Promise<string> {
  const writer = pack();
  for (const [name, text] of Object.entries(files)) writer.entry({ name }, text);
  writer.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of writer) chunks.push(chunk as Uint8Array);
  const bytes = Buffer.concat(chunks);
  const hash = createHash("sha256").update(bytes).digest("hex");
  const response = await send(hash, bytes);
  expect(response.status).toBe(204);
  return hash;
}

const send = (hash: string, body: BodyInit) =>
  fetch(`${plane.address}/v1/templates/files/${hash}`, { method: "PUT", body, headers: { [headers.apiKey]: apiKey } });

/** Every frame of a WebSocket until it is closed. */
function frames(socket: WebSocket, first?: object): Promise<rest.BuildFrame[]> {
  const all: rest.BuildFrame[] = [];
  return new Promise((resolve, reject) => {
    socket.onopen = () => first && socket.send(JSON.stringify(first));
    socket.onmessage = ({ data }) => void all.push(JSON.parse(String(data)) as rest.BuildFrame);
    socket.onclose = () => resolve(all);
    socket.onerror = () => reject(new Error("the WebSocket was refused"));
  });
}

building("a build", () => {
  test("runs its steps, logs what they print, and ends in a template that sandboxes start from", async () => {
    const log = await built("first", { dockerfile: "FROM minimal\nENV WHO=you\nRUN echo hello $WHO; echo bad >&2\n" });
    expect(log.build).toMatchObject({
      status: "success",
      template: "first",
      total_steps: 2,
      default_env: { WHO: "you" },
    });
    expect(lines(log, "stdout")).toEqual(["hello you"]);
    expect(lines(log, "stderr")).toEqual(["bad"]);
    expect(lines(log, "done").every((text) => / s$/.test(text))).toBe(true);
    const capsule = await plane.create({ template: "first" });
    expect(capsule.template).toBe("first");
    await plane.fetch("DELETE", `/v1/capsules/${capsule.id}`);
  });

  test("skips the steps that are known, and runs only what follows a change", async () => {
    const file = (last: string) => `FROM minimal\nRUN echo one\nRUN echo ${last}\n`;
    await built("cached", { dockerfile: file("two") });
    const same = await built("cached", { dockerfile: file("two") });
    expect(lines(same, "cached")).toEqual(["RUN echo one", "RUN echo two", "template"]);
    expect(lines(same, "step")).toEqual([]);
    const changed = await built("cached", { dockerfile: file("three") });
    expect(lines(changed, "cached")).toEqual(["RUN echo one"]);
    expect(lines(changed, "step")).toEqual(["RUN echo three", "template"]);
    const anew = await built("cached", { dockerfile: file("two"), no_cache: true });
    expect(lines(anew, "cached")).toEqual([]);
  });

  test("copies from the uploaded archive; another file in it does not spoil the step", async () => {
    const dockerfile = `FROM minimal\nCOPY a.txt ${folder}/copied.txt\n`;
    const one = await built("copy", { dockerfile, files: await archive({ "a.txt": "content", "b.txt": "1" }) });
    expect(one.build.error).toBeUndefined();
    expect(readFileSync(`${folder}/copied.txt`, "utf8")).toBe("content");
    const two = await built("copy", { dockerfile, files: await archive({ "a.txt": "content", "b.txt": "2" }) });
    expect(lines(two, "cached")).toContain(`COPY a.txt ${folder}/copied.txt`);
  });

  test("that fails names the line, keeps the version before it and leaves no sandbox", async () => {
    await built("kept", { dockerfile: "FROM minimal\nRUN echo good\n" });
    const log = await built("kept", { dockerfile: "FROM minimal\nRUN echo good\nRUN exit 3\n" });
    expect(log.build).toMatchObject({ status: "failed", error: { line: 3, step: 2 } });
    expect(log.build.error!.message).toBe("line 3: failed to run command 'exit 3': exit status 3");
    const kept = await plane.json<rest.BuiltTemplate>(200, "GET", "/v1/templates/kept");
    expect(kept.current?.id).not.toBe(log.build.id);
    expect(kept.current?.status).toBe("success");
    expect(await plane.json<rest.Capsule[]>(200, "GET", "/v1/capsules")).toEqual([]);
  });

  test("takes a step's time limit seriously", async () => {
    const log = await built("slow", { recipe: ["RUN --timeout=500ms sleep 30"] });
    expect(log.build).toMatchObject({ status: "failed", error: { line: 1 } });
    expect(log.build.error!.message).toContain("did not end within 0.5 s");
  });

  test("is not ready before its check says so, and fails when it never does", async () => {
    const flag = `${folder}/ready`;
    const ready = await built("ready", {
      dockerfile: "FROM minimal\nRUN true\n",
      start_command: `sleep 1; touch ${flag}; sleep 60`,
      healthcheck: `--interval=100ms test -e ${flag}`,
    });
    expect(ready.build.status).toBe("success");
    const never = await built("never", {
      dockerfile: "FROM minimal\n",
      healthcheck: "--interval=50ms --retries=2 false",
    });
    expect(never.build).toMatchObject({ status: "failed" });
    expect(never.build.error!.message).toContain("did not become ready");
  });

  test("ends when it is cancelled, and its sandbox with it", async () => {
    const { id } = await submit("cancel", { dockerfile: "FROM minimal\nRUN sleep 60\n" });
    while ((await plane.json<rest.Build>(200, "GET", `/v1/builds/${id}`)).current_step < 1) await Bun.sleep(10);
    await plane.json(204, "POST", `/v1/builds/${id}/cancel`);
    const log = await ended(id);
    expect(log.build.status).toBe("cancelled");
    expect(await plane.refusal("POST", `/v1/builds/${id}/cancel`)).toEqual({ status: 409, code: "invalid_state" });
    expect(await plane.json<rest.Capsule[]>(200, "GET", "/v1/capsules")).toEqual([]);
  });

  test("that takes too long as a whole is ended", async () => {
    const log = await built("overtime", { dockerfile: "FROM minimal\nRUN sleep 60\n", timeout_sec: 1 });
    expect(log.build.status).toBe("failed");
    expect(log.build.error!.message).toContain("did not end within 1 s");
  });

  test("goes on where it was when its server ends, without doing finished steps again", async () => {
    const count = `${folder}/count`;
    const dockerfile = `FROM minimal\nRUN echo x >>${count}\nRUN sleep 2\nRUN true\n`;
    const { id } = await submit("resumed", { dockerfile });
    while ((await plane.json<rest.Build>(200, "GET", `/v1/builds/${id}`)).current_step < 2) await Bun.sleep(10);
    await plane.restart();
    const log = await ended(id);
    expect(log.build.status).toBe("success");
    expect(readFileSync(count, "utf8")).toBe("x\n");
    expect(lines(log, "cached")).toContain(`RUN echo x >>${count}`);
  }, 120_000);

  test("whose holder died is taken over when its lease is over", async () => {
    const { id } = await submit("orphan", { dockerfile: "FROM minimal\nRUN sleep 1\n" });
    await ended(id);
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`update builds set status = 'running', completed_at = null, lease_owner = 'nobody',
      lease_until = now() - interval '1 second' where id = ${id}`;
    const log = await ended(id);
    expect(log.build.status).toBe("success");
    expect(lines(log, "info")).toContainEqual(expect.stringContaining("taken up again"));
  });
});

building("versions", () => {
  test("are found by tag, by build and by the bare name; a later build wins whichever ends first", async () => {
    const slow = await submit("race", { dockerfile: "FROM minimal\nRUN sleep 1.5\n", tags: ["v1"] });
    const quick = await submit("race", { dockerfile: "FROM minimal\nRUN true\n", tags: ["v2"] });
    await Promise.all([ended(slow.id), ended(quick.id)]);
    const { current, tags } = await plane.json<rest.BuiltTemplate>(200, "GET", "/v1/templates/race");
    expect(current?.id).toBe(quick.id);
    expect(Object.fromEntries(tags.map(({ tag, build }) => [tag, build]))).toEqual({
      ...{ default: quick.id, v1: slow.id, v2: quick.id },
    });
    for (const template of ["race:v1", "race", `race:${slow.id}`]) {
      const { id } = await plane.create({ template });
      await plane.fetch("DELETE", `/v1/capsules/${id}`);
    }
    expect(await plane.refusal("POST", "/v1/capsules", { template: "race:v9" })).toMatchObject({ status: 404 });
  });

  test("get and lose tags", async () => {
    await built("tagged", { dockerfile: "FROM minimal\n", tags: ["v1"] });
    await plane.json(200, "POST", "/v1/templates/tagged/tags", { tags: ["stable"], version: "v1" });
    await plane.json(204, "DELETE", "/v1/templates/tagged/tags/v1");
    const { tags } = await plane.json<rest.BuiltTemplate>(200, "GET", "/v1/templates/tagged");
    expect(tags.map(({ tag }) => tag).sort()).toEqual(["default", "stable"]);
    expect((await plane.refusal("DELETE", "/v1/templates/tagged/tags/default")).code).toBe("invalid_request");
    expect((await plane.refusal("DELETE", "/v1/templates/tagged/tags/none")).code).toBe("not_found");
    expect((await plane.refusal("POST", "/v1/templates/tagged/tags", { tags: ["x:y"] })).code).toBe("invalid_request");
  });

  test("are the team's: another sees neither template nor build", async () => {
    const { build } = await built("private", { dockerfile: "FROM minimal\n" });
    const as = { [headers.apiKey]: await plane.otherKey() };
    expect((await plane.refusal("GET", "/v1/templates/private", undefined, as)).code).toBe("not_found");
    expect((await plane.refusal("GET", `/v1/builds/${build.id}`, undefined, as)).code).toBe("not_found");
    expect((await plane.refusal("POST", "/v1/capsules", { template: "private" }, as)).code).toBe("not_found");
  });

  test("go with their template, and what only they needed goes from the host", async () => {
    await built("gone", { dockerfile: "FROM minimal\nRUN echo gone\n", no_cache: true });
    const before = plane.host.snapshots.size;
    await plane.json(204, "DELETE", "/v1/templates/gone");
    expect((await plane.refusal("GET", "/v1/templates/gone")).code).toBe("not_found");
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    await sql`delete from build_cache`;
    await sql`update snapshots set created_at = now() - interval '1 hour'`;
    await built("other", { dockerfile: "FROM minimal\n" });
    await plane.json(204, "DELETE", "/v1/templates/other"); // a removal looks for what is left
    while (plane.host.snapshots.size >= before) await Bun.sleep(20);
  });

  test("are listed among the templates, not among the team's snapshots, and their names are no snapshot's", async () => {
    await built("listed", { dockerfile: "FROM minimal\n", memory_mb: 768 });
    const { id } = await plane.create({ template: "listed" });
    const found = await plane.json<rest.Template[]>(200, "GET", "/v1/snapshots?type=base");
    const shown = {
      name: "listed",
      type: "base" as const,
      platform: false,
      vcpus: 1,
      memory_mb: 768,
      size_bytes: 1_200,
    };
    expect(found.filter(({ name }) => name === "listed")).toEqual([{ ...shown, created_at: expect.any(String) }]);
    expect(await plane.json<rest.Template>(200, "GET", "/v1/snapshots/listed")).toMatchObject(shown);
    expect(await plane.json<rest.Snapshot[]>(200, "GET", "/v1/snapshots?type=snapshot")).toEqual([]);
    expect(await plane.refusal("POST", `/v1/capsules/${id}/checkpoint`, { name: "listed" })).toMatchObject({
      ...{ status: 409, code: "conflict" },
    });
    expect(await plane.refusal("DELETE", "/v1/snapshots/listed")).toMatchObject({ status: 403, code: "forbidden" });
    await plane.fetch("DELETE", `/v1/capsules/${id}`);
  });
});

building("a snapshot of a sandbox", () => {
  test("is what a Dockerfile or a recipe begins with, with the user, folder and environment of its sandbox", async () => {
    await built("below", { dockerfile: `FROM minimal\nENV WHO=you\nWORKDIR ${folder}/there\n` });
    const { id } = await plane.create({ template: "below" });
    const snapshot = await plane.json<rest.Snapshot>(201, "POST", `/v1/capsules/${id}/checkpoint`, { name: "moment" });
    await plane.fetch("DELETE", `/v1/capsules/${id}`);
    const say = 'echo "$WHO in $PWD"';
    for (const body of [
      { dockerfile: `FROM moment\nRUN ${say}\n` },
      { recipe: [`RUN ${say}`], base_template: "moment", skip_pre_post: true },
    ]) {
      const log = await built("above", body);
      expect([log.build.error, lines(log, "stdout")]).toEqual([undefined, [`you in ${folder}/there`]]);
      expect(log.build.from).toEqual([{ name: "moment", digest: expect.stringMatching(/^snapshot:[0-9a-z]{25}$/) }]);
      expect(log.build.default_env).toMatchObject({ WHO: "you" });
    }
    expect(snapshot.name).toBe("moment");
    const as = { [headers.apiKey]: await plane.otherKey() };
    const foreign = { recipe: [`RUN ${say}`], base_template: "moment" };
    expect((await plane.refusal("POST", "/v1/templates/x/builds", foreign, as)).code).toBe("invalid_request");
    expect(await plane.refusal("POST", "/v1/templates/moment/builds", { from: "minimal" })).toMatchObject({
      ...{ status: 409, code: "conflict" },
    });
    await plane.json(204, "DELETE", "/v1/snapshots/moment");
    const { id: child } = await plane.create({ template: "above" });
    await plane.fetch("DELETE", `/v1/capsules/${child}`);
  });
});

building("a submission", () => {
  test.each([
    [{}, "names none"],
    [{ dockerfile: "FROM minimal", recipe: ["RUN x"] }, "more than one"],
    [{ dockerfile: "FROM minimal\nFETCH x" }, "line 2"],
    [{ recipe: ["FETCH x"] }, "line 1"],
    [{ recipe: ["RUN x"], base_template: "none" }, "there is no template"],
    [{ recipe: ["RUN x"], healthcheck: "--often x" }, "--often"],
    [{ dockerfile: "FROM minimal", files: "short" }, "SHA-256"],
  ])("%j is refused and queues nothing", async (body, message) => {
    const response = await plane.fetch("POST", "/v1/templates/bad/builds", body);
    expect(response.status).toBe(400);
    expect(await response.text()).toContain(message);
    expect((await plane.refusal("GET", "/v1/templates/bad")).code).toBe("not_found");
  });

  test("of an archive that is not what its name says is refused, and nothing is stored", async () => {
    const hash = "0".repeat(64);
    expect((await send(hash, "other")).status).toBe(400);
    expect(await plane.json<rest.BuildFilesPresent>(200, "GET", `/v1/templates/files/${hash}`)).toEqual({
      present: false,
    });
  });

  test("under the name of a host's template is refused", async () => {
    const refusal = await plane.refusal("POST", "/v1/templates/minimal/builds", { dockerfile: "FROM minimal" });
    expect(refusal).toEqual({ status: 409, code: "conflict" });
  });

  test("of 200 builds waits its turn; one more is told to wait", async () => {
    await using sql = new SQL(plane.options.databaseUrl, { max: 1 });
    const { build } = await built("many", { dockerfile: "FROM minimal\nRUN true\n" });
    await sql`insert into builds (id, template_id, team_id, status, plan, source, tags, actor, vcpus, memory_mib, timeout_sec)
      select 'waiting-' || n, template_id, team_id, 'pending', plan, source, tags, actor, vcpus, memory_mib, timeout_sec
      from builds, generate_series(1, 200) n where id = ${build.id}`;
    expect(await plane.refusal("POST", "/v1/templates/many/builds", { dockerfile: "FROM minimal" })).toEqual({
      ...{ status: 429, code: "rate_limited" },
    });
    const left = async () =>
      Number((await sql`select count(*) from builds where status in ('pending', 'running')`)[0].count);
    while ((await left()) > 0) await Bun.sleep(50);
    const [{ count }] = await sql`select count(*) from builds where status = 'success' and id like 'waiting-%'`;
    expect(Number(count)).toBe(200);
  }, 60_000);

  test("is followed as events until it is over", async () => {
    const { id } = await submit("followed", { dockerfile: "FROM minimal\nRUN echo out; sleep 0.5; echo later\n" });
    const response = await plane.fetch("GET", `/v1/builds/${id}/logs`, undefined, { accept: "text/event-stream" });
    const text = await response.text();
    expect(text).toContain('"message":"later"');
    expect(text.trim().split("\n\n").at(-1)).toMatch(/^event: end\ndata: .*"status":"success"/);
  });

  test("is followed over a WebSocket, by who shows a key in its first frame or at the door", async () => {
    const { id } = await submit("watched", { dockerfile: "FROM minimal\nRUN echo out; sleep 0.5; echo again\n" });
    const path = `${plane.address.replace("http", "ws")}/v1/builds/${id}/logs`;
    const asked = { headers: { [headers.apiKey]: apiKey } } as unknown as string[];
    const otherKey = await plane.otherKey();
    const [told, known, stranger, other] = await Promise.all([
      frames(new WebSocket(path), { type: "auth", token: apiKey }),
      frames(new WebSocket(path, asked)),
      frames(new WebSocket(path), { type: "auth", token: "wrn_none" }),
      frames(new WebSocket(path), { type: "auth", token: otherKey }),
    ]);
    expect(told).toEqual(known);
    const said = told.flatMap((frame) => (frame.type === "log" && frame.stream === "stdout" ? [frame.message] : []));
    expect(said).toEqual(["out", "again"]);
    expect(told.at(-1)).toMatchObject({ type: "end", build: { id, status: "success" } });
    expect(stranger).toMatchObject([{ type: "error", code: "unauthorized", fatal: true }]);
    expect(other).toMatchObject([{ type: "error", code: "not_found", fatal: true }]);
    const last = told.findLast((frame) => frame.type === "log")!;
    expect(await frames(new WebSocket(`${path}?after=${last.seq}`, asked))).toMatchObject([{ type: "end" }]);
  });
});
