import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { type Sandbox, Sandbox as Sandboxes, WrennError } from "wrenn";
import { installed } from "../support/data-folder.ts";
import { processesOf, statusOf, until, vmsOf } from "../support/processes.ts";
import { nothingLeft, repository, System, wrennProgram } from "../support/system.ts";

let system: System;
let box: Sandbox;
/** Path of the sandbox's REST routes. */
let at: string;

beforeAll(async () => {
  system = await System.start("bad-input");
  box = await system.create();
  at = `/v1/capsules/${box.id}`;
});

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

type Refusal = { status: number; code: string; message: string; remedy?: string };

/** Status and error of a REST request that must be refused. */
async function refused(method: string, path: string, body?: unknown): Promise<Refusal> {
  const answer = await system.rest(method, path, body);
  const { error } = (await answer.json()) as { error: Omit<Refusal, "status"> };
  return { status: answer.status, ...error };
}

const ids = async () => (await Sandboxes.list({ client: system.client })).map(({ id }) => id);
const failure = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable(),
    (thrown) => thrown as WrennError,
  );
const sh = async (line: string) => (await box.commands.run(line, { user: "root" })).stdout.trimEnd();

/** Processes in the guest whose command line begins with `text`. */
const running = async (text: string) => Number(await sh(`pgrep -cf '^${text}' || true`));

describe("a create that cannot be", () => {
  const wrong: [string, object, Partial<Refusal>][] = [
    ["an unknown template", { template: "nonesuch" }, { status: 404, code: "not_found" }],
    ["a template name that is a path", { template: "../base" }, { status: 400, code: "invalid_request" }],
    ["fewer processors than none", { vcpus: -1 }, { status: 400, code: "invalid_request" }],
    ["a million processors", { vcpus: 1_000_000 }, { status: 400, code: "invalid_request" }],
    ["half a processor", { vcpus: 0.5 }, { status: 400, code: "invalid_request" }],
    ["1 MiB of memory", { memory_mb: 1 }, { status: 400, code: "invalid_request" }],
    ["a petabyte of memory", { memory_mb: 2 ** 30 }, { status: 400, code: "invalid_request" }],
    ["more memory than the host has", { memory_mb: 65_536 }, { status: 503, code: "no_hosts_available" }],
    ["an exabyte of disk", { disk_size_mb: 2 ** 40 }, { status: 400, code: "invalid_request" }],
    ["more disk than the host has", { disk_size_mb: 1_000_000 }, { status: 507, code: "insufficient_storage" }],
    ["a time-out in the past", { timeout_sec: -5 }, { status: 400, code: "invalid_request" }],
    ["a number where text belongs", { template: 7 }, { status: 400, code: "invalid_request" }],
  ];
  for (const [what, body, expected] of wrong)
    test(`${what} is refused with its reason, and changes nothing`, async () => {
      const before = await ids();
      const answer = await refused("POST", "/v1/capsules", { template: "base", ...body });
      expect(answer).toMatchObject(expected);
      expect(answer.message.length).toBeGreaterThan(10);
      expect(await ids()).toEqual(before);
    });

  test("an unknown template names those there are; a body that is no JSON is the caller's mistake", async () => {
    expect((await refused("POST", "/v1/capsules", { template: "nonesuch" })).remedy).toContain("minimal");
    const answer = await system.rest("POST", "/v1/capsules", undefined, { body: "{broken" });
    expect(answer.status).toBe(400);
  });
});

describe("ids and keys", () => {
  test("an id of the wrong shape is 400, one that nobody has 404, a key that is none 401", async () => {
    expect(await refused("GET", "/v1/capsules/nonexistent")).toMatchObject({ status: 404 });
    expect(await refused("DELETE", "/v1/capsules/nonexistent")).toMatchObject({ status: 400 });
    for (const id of ["cl-", "cl-SHOUTED", "cl-%00", "cl-'; drop table sandboxes; --"])
      expect(await refused("GET", `/v1/capsules/${encodeURIComponent(id)}`)).toMatchObject({ status: 400 });
    for (const method of ["GET", "DELETE"])
      expect(await refused(method, `/v1/capsules/cl-${"0".repeat(25)}`)).toMatchObject({ status: 404 });
    const stranger = await system.rest("GET", at, undefined, { headers: { "x-api-key": "wrn_wrong" } });
    expect(stranger.status).toBe(401);
  });

  test("what is running cannot be resumed", async () => {
    expect(await refused("POST", `${at}/resume`)).toMatchObject({ status: 409, code: "invalid_state" });
  });
});

describe("files and commands", () => {
  test("a missing file is 404, a folder 400, on both ways to read", async () => {
    for (const route of ["files/read", "files/stream/read"]) {
      expect(await refused("POST", `${at}/${route}`, { path: "/no/such" })).toMatchObject({ status: 404 });
      expect(await refused("POST", `${at}/${route}`, { path: "/etc" })).toMatchObject({ status: 400 });
    }
    expect(await failure(box.files.read("/no/such"))).toMatchObject({ code: "not_found" });
    expect(await failure(box.files.read("/etc"))).toMatchObject({ code: "invalid_request" });
    expect(await failure(box.files.write("/etc", "x", { user: "root" }))).toMatchObject({ code: "invalid_request" });
    expect(await failure(box.files.list("/no/such"))).toMatchObject({ code: "not_found" });
    expect(await failure(box.files.list("/etc/hostname"))).toMatchObject({ code: "invalid_request" });
  });

  test("a program that does not exist is 422 with its name", async () => {
    const exec = { cmd: "no-such-program", args: ["x"] };
    const answer = await refused("POST", `${at}/exec`, exec);
    expect(answer).toMatchObject({ status: 422, code: "command_not_found" });
    expect(answer.message).toContain("no-such-program");
    expect(await failure(box.commands.exec("no-such-program"))).toMatchObject({ code: "command_not_found" });
    expect(await failure(box.commands.exec("/etc/hostname"))).toBeInstanceOf(WrennError);
  });
});

describe("more output than anything should hold", () => {
  /** An emulated guest prints some 5 MB/s; a gigabyte was tried with WRENN_TEST_OUTPUT_BYTES=1000000000. */
  const wanted = Number(process.env.WRENN_TEST_OUTPUT_BYTES ?? 150_000_000);
  /** A few chunks on their way in each program, and what a garbage collector has not got round to. */
  const allowedMib = 100;

  test("streams through programs whose memory stays flat", async () => {
    const pids = { server: await system.pidOf("wrenn-cp"), agent: await system.pidOf("wrenn-agent") };
    const before = Object.values(pids).map((pid) => statusOf(pid, "VmRSS")[0]! / 1024);
    for (const pid of Object.values(pids)) await writeFile(`/proc/${pid}/clear_refs`, "5"); // peak counts from here
    let bytes = 0;
    const ended = await box.commands.run(`yes | head -c ${wanted}`, {
      ...{ collect: false, timeoutMs: 0 },
      onOutput: (chunk) => {
        bytes += chunk.bytes.byteLength;
      },
    });
    expect({ bytes, exitCode: ended.exitCode }).toEqual({ bytes: wanted, exitCode: 0 });
    const grown = Object.values(pids).map((pid, at) => statusOf(pid, "VmHWM")[0]! / 1024 - before[at]!);
    for (const mib of grown) expect(mib).toBeLessThan(allowedMib);
  });

  test("asked for as one answer, it is cut and says so", async () => {
    const body = { cmd: "sh", args: ["-c", "yes | head -c 30000000"], timeout_sec: 300 };
    const answer = await system.rest("POST", `${at}/exec`, body);
    const result = (await answer.json()) as { stdout: string; truncated?: boolean; exit_code: number };
    expect(result).toMatchObject({ truncated: true, exit_code: 0 });
    expect(result.stdout.length).toBe(16 << 20);
  });
});

describe("a client that goes away", () => {
  test("while it creates, leaves a sandbox that can be used, or none", async () => {
    const before = new Set(await ids());
    const leave = AbortSignal.timeout(60);
    await failure(system.rest("POST", "/v1/capsules", { template: "base" }, { signal: leave }));
    const passing = ["pending", "starting"];
    const settled = await until("an end of the create", async () => {
      const found = (await Sandboxes.list({ client: system.client })).filter(({ id }) => !before.has(id));
      return found.every(({ status }) => !passing.includes(status)) ? found : undefined;
    });
    for (const { id, status } of settled) {
      expect(status).toBe("running");
      const left = await Sandboxes.connect(id, { client: system.client });
      expect((await left.commands.run("echo here")).stdout).toBe("here\n");
      await left.kill();
    }
    expect(vmsOf(system.dir).length).toBe(before.size);
  });

  test("while a command runs, leaves no process", async () => {
    const gone = new AbortController();
    const body = { cmd: "sleep", args: ["4321"], timeout_sec: 600 };
    const call = failure(system.rest("POST", `${at}/exec`, body, { signal: gone.signal }));
    await until("the command", async () => (await running("sleep 4321")) > 0);
    gone.abort();
    await call;
    await until("the end of the command", async () => (await running("sleep 4321")) === 0);
  });

  test("in the middle of an upload, leaves the file as it was and no other", async () => {
    await box.files.write("/home/user/up/file", "as it was");
    const leave = new AbortController();
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      async pull(controller) {
        controller.enqueue(new Uint8Array(65_536));
        sent += 65_536;
        if (sent === 2 << 20) leave.abort();
        await Bun.sleep(2);
      },
    });
    await failure(box.files.write("/home/user/up/file", endless, { signal: leave.signal }));
    await until("the end of the upload", async () => (await sh("ls -A /home/user/up")) === "file");
    expect(await box.files.read("/home/user/up/file")).toBe("as it was");
  });

  test("in the middle of a download, does not keep the sandbox from being idle", async () => {
    const idle = await system.create();
    await idle.commands.run("head -c 50000000 /dev/zero > zeros");
    const stream = await idle.files.read("/home/user/zeros", { format: "stream" });
    const reader = stream.getReader();
    expect((await reader.read()).value!.byteLength).toBeGreaterThan(0);
    await reader.cancel();
    await idle.setTimeout(1_000);
    await until("the pause of an idle sandbox", async () => (await idle.info()).status === "paused");
    await idle.kill();
  });
});

describe("a machine that is not as it should be", () => {
  let dir: string;

  beforeAll(async () => {
    dir = `${installed}/tests/broken-${crypto.randomUUID().slice(0, 8)}`;
    await mkdir(dir, { recursive: true });
    await chmod(dir, 0o755);
  });

  afterAll(() => rm(dir, { recursive: true, force: true }));

  async function up(args: readonly string[], env: Record<string, string> = {}) {
    const child = Bun.spawn([wrennProgram, "up", "--dir", dir, ...args], {
      env: { ...system.env, HOME: dir, WRENN_DIR: dir, ...env },
      ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    });
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    const ended = { code: await child.exited, stdout, stderr };
    expect(processesOf(dir)).toEqual([]);
    return ended;
  }

  test("a port in use is named, with the way out", async () => {
    using busy = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
    const ended = await up(["--listen", `127.0.0.1:${busy.port}`]);
    expect(ended).toMatchObject({ code: 1, stdout: "" });
    expect(ended.stderr).toMatch(new RegExp(`error: port ${busy.port} of 127.0.0.1 is in use\nremedy: .*--listen`));
  });

  test("a data folder of a newer version is left alone", async () => {
    await rm(dir, { recursive: true });
    await mkdir(dir);
    await writeFile(`${dir}/version`, "99\n");
    const ended = await up(["--listen", "127.0.0.1:0"]);
    expect(ended).toMatchObject({ code: 1, stdout: "" });
    expect(ended.stderr).toMatch(/error: .*layout version 99.*\nremedy: .*newer Wrenn/);
    expect(await readdir(dir)).toEqual(["version"]);
    await rm(`${dir}/version`);
  });

  test("without QEMU the programs say what to install, and nothing stays running", async () => {
    const bin = `${dir}/bin`; // every program of this machine but QEMU's
    await mkdir(bin);
    const names = (await readdir("/usr/bin")).filter((name) => !name.startsWith("qemu"));
    await Promise.all(names.map((name) => symlink(`/usr/bin/${name}`, `${bin}/${name}`)));
    const ended = await up(["--listen", "127.0.0.1:0"], { PATH: bin });
    expect(ended).toMatchObject({ code: 1, stdout: "" });
    expect(ended.stderr).toContain("this machine cannot run sandboxes: qemu is missing");
    expect(ended.stderr).toContain("apt-get install qemu-system-x86");
  });

  const isRoot = process.getuid?.() === 0;
  (isRoot ? test : test.skip)(
    isRoot
      ? "a full disk is found before images are built"
      : "a full disk — skipped: only root can mount a small file system",
    async () => {
      const small = `${dir}/small`;
      await mkdir(small);
      await Bun.$`mount -t tmpfs -o size=300M,mode=755 wrenn-test ${small}`.quiet();
      try {
        const built = await Bun.$`images/build.sh --dir ${small} base`.cwd(repository).nothrow().quiet();
        expect(built.exitCode).toBe(1);
        expect(built.stderr.toString()).toMatch(/not enough disk space in .*: need \d+ MiB, have \d+ MiB\n.*Free some/);
        expect((await readdir(`${small}/images`)).filter((name) => !name.startsWith("."))).toEqual([]);
      } finally {
        await Bun.$`umount ${small}`.quiet();
      }
    },
  );
});
