import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { Screen } from "../support/screen.ts";
import { nothingLeft, System, wrennProgram } from "../support/system.ts";

type Ended = { code: number; stdout: string; stderr: string };

let system: System;
let id: string;
let local: string;

beforeAll(async () => {
  system = await System.start("cli");
  local = `${system.dir}/local`;
  await mkdir(local);
});

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** Runs the compiled program as a person would: address and key come from the profile that `wrenn up` wrote. */
async function wrenn(args: readonly string[], stdin: string | Uint8Array | undefined = undefined): Promise<Ended> {
  const child = Bun.spawn([wrennProgram, ...args], {
    cwd: local,
    env: system.env,
    stdin: stdin === undefined ? "ignore" : new Blob([stdin as BlobPart]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

/** What a command that must succeed prints with `--json`. */
async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await wrenn([...args, "--json"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as T;
}

describe("a sandbox's life", () => {
  test("create, ls, info and templates agree, as text and as JSON", async () => {
    const made = await wrenn(["create", "-t", "base", "--metadata", "made=by a test", "-e", "WORD=of create"]);
    expect(made).toMatchObject({ code: 0, stderr: "" });
    expect(made.stdout).toMatch(/^cl-[0-9a-z]{25}\n$/);
    id = made.stdout.trim();
    expect(await json<object>("info", id.slice(0, 12))).toMatchObject({
      ...{ id, status: "running", template: "base", metadata: { made: "by a test" } },
    });
    expect((await json<{ id: string }[]>("ls")).map((one) => one.id)).toEqual([id]);
    expect((await wrenn(["ls"])).stdout).toMatch(new RegExp(`${id} +running +base`));
    expect((await wrenn(["ls", "-q"])).stdout).toBe(`${id}\n`);
    expect((await json<{ name: string }[]>("templates")).map(({ name }) => name)).toContain("base");
  });

  test("pause and resume keep what is in memory, rm removes", async () => {
    expect((await wrenn(["exec", id, "--", "sh", "-c", "echo kept > /dev/shm/word"])).code).toBe(0);
    expect(await json<object>("pause", id)).toEqual({ id, status: "paused" });
    expect((await wrenn(["pause", id])).stderr).toMatch(/^error: .*paused/);
    expect(await json<object>("resume", id)).toEqual({ id, status: "running" });
    expect((await wrenn(["exec", id, "--", "cat", "/dev/shm/word"])).stdout).toBe("kept\n");

    const other = await json<{ id: string }>("create", "-t", "base");
    expect(await wrenn(["rm", other.id])).toMatchObject({ code: 0, stdout: `${other.id} removed\n` });
    expect((await wrenn(["ls", "-q"])).stdout).toBe(`${id}\n`);
  });

  test("run makes a sandbox for one command and leaves none", async () => {
    const ran = await wrenn(["run", "--", "sh", "-c", "echo from $(hostname); exit 4"]);
    expect(ran.stdout).toMatch(/^from wrenn-/);
    expect(ran.code).toBe(4);
    expect((await wrenn(["ls", "-q"])).stdout).toBe(`${id}\n`);
  });
});

describe("exec", () => {
  test("keeps both outputs apart and passes the exit code on", async () => {
    const ended = await wrenn(["exec", id, "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    expect(ended).toEqual({ code: 3, stdout: "out\n", stderr: "err\n" });
    expect((await wrenn(["exec", id, "--", "sh", "-c", "kill -9 $$"])).code).toBe(137);
    const asJson = await wrenn(["exec", "--json", id, "--", "sh", "-c", "echo out; exit 3"]);
    expect({ code: asJson.code, ...JSON.parse(asJson.stdout) }).toEqual({
      ...{ code: 3, stdout: "out\n", stderr: "", exitCode: 3 },
    });
  });

  test("feeds what is piped into it, bytes unchanged, and takes user, folder and environment", async () => {
    const bytes = crypto.getRandomValues(new Uint8Array(60_000));
    const piped = await wrenn(["exec", id, "--", "sha256sum"], bytes);
    expect(piped.stdout).toBe(`${new Bun.CryptoHasher("sha256").update(bytes).digest("hex")}  -\n`);
    const told = await wrenn([
      "exec",
      id,
      "-u",
      "root",
      "-w",
      "/var",
      "-e",
      "A=b c",
      "--",
      "sh",
      "-c",
      "whoami; pwd; echo $A $WORD",
    ]);
    expect(told.stdout).toBe("root\n/var\nb c of create\n");
  });

  test("ends its command when it is interrupted", async () => {
    const child = Bun.spawn([wrennProgram, "exec", id, "--", "sh", "-c", "echo started; exec sleep 1234"], {
      ...{ env: system.env, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    });
    await child.stdout.getReader().read();
    child.kill("SIGINT");
    expect(await child.exited).toBe(143);
    expect((await wrenn(["exec", id, "--", "pgrep", "-f", "^sleep 1234"])).code).toBe(1);
  });
});

test("shell is a terminal: size that follows, Ctrl-C, exit code", async () => {
  const screen = new Screen();
  const child = Bun.spawn([wrennProgram, "shell", id], {
    env: { ...system.env, TERM: "xterm-256color" },
    terminal: { cols: 93, rows: 31, data: (_, bytes) => screen.take(bytes) },
  });
  await screen.shows(/\$ /);
  child.terminal!.write("stty size\n");
  await screen.shows(/[\r\n]31 93\r\n/);
  child.terminal!.resize(111, 44);
  child.terminal!.write("sleep 0.3; stty size\n"); // the size and what is typed travel on their own
  await screen.shows(/[\r\n]44 111\r\n/);
  child.terminal!.write("sh -c 'echo before; exec sleep 1000'\n"); // says so itself: it is in the foreground then
  await screen.shows(/[\r\n]before\r\n/);
  child.terminal!.write("\x03");
  child.terminal!.write("echo code=$?\n");
  await screen.shows(/[\r\n]code=130\r\n/);
  child.terminal!.write("exit 6\n");
  expect(await child.exited).toBe(6);
});

test("cp carries files both ways, and through pipes", async () => {
  const bytes = crypto.getRandomValues(new Uint8Array(65_536));
  await writeFile(`${local}/two words`, bytes);
  expect(await wrenn(["cp", "./two words", `${id}:/tmp/`])).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(await wrenn(["cp", `${id}:/tmp/two words`, "back"])).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(new Uint8Array(await readFile(`${local}/back`))).toEqual(bytes);
  expect((await wrenn(["cp", "-", `${id}:/tmp/piped`], "from a pipe")).code).toBe(0);
  expect((await wrenn(["cp", `${id}:/tmp/piped`, "-"])).stdout).toBe("from a pipe");
  const missing = await wrenn(["cp", `${id}:/tmp/no such file`, "nothing"]);
  expect(missing.stderr).toMatch(/^error: /);
  expect(missing.code).toBe(1);
  expect(await Bun.file(`${local}/nothing`).exists()).toBe(false);
});

test("cp -r carries a folder both ways, as cp does", async () => {
  await mkdir(`${local}/tree/inner dir`, { recursive: true });
  await writeFile(`${local}/tree/inner dir/ümläut.txt`, "deep");
  await writeFile(`${local}/tree/run.sh`, "#!/bin/sh\n", { mode: 0o755 });
  expect((await wrenn(["cp", "tree", `${id}:/tmp/`])).stderr).toMatch(/^error: .*folder\nremedy: .*cp -r/);
  expect(await wrenn(["cp", "-r", "tree", `${id}:copied`])).toEqual({ code: 0, stdout: "", stderr: "" });
  expect(await wrenn(["cp", "-r", "tree", `${id}:copied`])).toMatchObject({ code: 0 }); // it is there now: goes inside
  const found = await wrenn([
    "exec",
    id,
    "--",
    "sh",
    "-c",
    "cd ~/copied && find . -type f | sort && stat -c %U:%a run.sh",
  ]);
  const inside = ["inner dir/ümläut.txt", "run.sh", "tree/inner dir/ümläut.txt", "tree/run.sh"].map(
    (name) => `./${name}`,
  );
  expect(found.stdout.trim().split("\n")).toEqual([...inside, "user:755"]);
  expect(await json<object>("cp", "-r", `${id}:copied/tree`, "returned")).toMatchObject({ type: "directory" });
  expect(await readFile(`${local}/returned/inner dir/ümläut.txt`, "utf8")).toBe("deep");
});

test("sync sends what differs, removes when asked to, and follows changes", async () => {
  await mkdir(`${local}/app/node_modules`, { recursive: true });
  await writeFile(`${local}/app/.gitignore`, "node_modules\n");
  await writeFile(`${local}/app/node_modules/big`, "not sent");
  await writeFile(`${local}/app/a.txt`, "a");
  await writeFile(`${local}/app/b.txt`, "b");
  type Pass = { sent: string[]; removed: string[] };
  expect((await json<Pass>("sync", "app", `${id}:app`)).sent.toSorted()).toEqual([".gitignore", "a.txt", "b.txt"]);
  expect(await json<Pass>("sync", "app", `${id}:app`)).toEqual({ sent: [], removed: [] });
  await rm(`${local}/app/b.txt`);
  await writeFile(`${local}/app/a.txt`, "longer");
  expect(await json<Pass>("sync", "--delete", "app", `${id}:app`)).toEqual({ sent: ["a.txt"], removed: ["b.txt"] });

  const child = Bun.spawn([wrennProgram, "sync", "--watch", "--json", "app", `${id}:app`], {
    ...{ cwd: local, env: system.env, stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  });
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  expect(await lines.read()).toMatchObject({ value: '{"sent":[],"removed":[]}\n' });
  await mkdir(`${local}/app/new`);
  await Bun.sleep(300); // a folder made later is watched too
  await writeFile(`${local}/app/new/file.txt`, "followed");
  let seen = "";
  while (!seen.includes("new/file.txt")) seen += (await lines.read()).value;
  expect((await wrenn(["exec", id, "--", "cat", "app/new/file.txt"])).stdout).toBe("followed");
  child.kill("SIGINT");
  expect(await child.exited).toBe(0);
});

test("forward carries any protocol to a port, one on the guest's loopback too, and ends with the program", async () => {
  const server =
    "import socketserver as s\nclass H(s.StreamRequestHandler):\n  def handle(self):\n    for line in self.rfile: self.wfile.write(line.upper())\ns.ThreadingTCPServer(('127.0.0.1', 7777), H).serve_forever()";
  expect((await wrenn(["exec", "-d", id, "--", "python3", "-c", server])).code).toBe(0);
  const child = Bun.spawn([wrennProgram, "forward", "--json", id, "0:7777"], {
    ...{ env: system.env, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
  });
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { local: port } = JSON.parse((await reader.read()).value!) as { local: number };
  const text = "a line\n".repeat(20_000);
  const answers = await Promise.all([echoed(port, text), echoed(port, "another\n")]);
  expect(answers).toEqual([text.toUpperCase(), "ANOTHER\n"]);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
});

/** What the forwarded server answers to `text`, until it closes because we did. Tries again while it is starting. */
async function echoed(port: number, text: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => socket.end(text));
  let answer = "";
  socket.setEncoding("utf8").on("data", (part) => {
    answer += part;
  });
  socket.on("end", () => resolve(answer)).on("error", reject);
  return promise.catch(async () => {
    await Bun.sleep(200);
    return await echoed(port, text);
  });
}

test("logs tell of commands, and follow them", async () => {
  const shown = await wrenn(["logs", id]);
  expect(shown.stdout).toMatch(/ process +.*python3/);
  const child = Bun.spawn([wrennProgram, "logs", "-f", "-n", "1", "--json", id], {
    ...{ env: system.env, stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  });
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  await lines.read();
  expect((await wrenn(["exec", id, "--", "uname", "-o"])).code).toBe(0);
  let seen = "";
  while (!seen.includes("uname")) seen += (await lines.read()).value;
  child.kill("SIGINT");
  await child.exited;
});

test("stats and top show load that is real", async () => {
  expect((await wrenn(["exec", id, "--", "timeout", "2", "sh", "-c", "while :; do :; done"])).code).toBe(124);
  type Point = { at: string; cpuPercent: number; memoryBytes: number; guest?: { memoryTotalBytes: number } };
  const points = await json<Point[]>("stats", id, "--range", "5m");
  expect(Math.max(...points.map(({ cpuPercent }) => cpuPercent))).toBeGreaterThan(20);
  expect(points.some(({ memoryBytes, guest }) => memoryBytes > 0 && (guest?.memoryTotalBytes ?? 0) > 0)).toBe(true);
  expect((await wrenn(["stats", id])).stdout).toMatch(/processor +[\d.]+ % +[\d.]+ % +[\d.]+ %/);
  expect(
    (await json<{ id: string; now: Point }[]>("top")).find((one) => one.id === id)?.now.memoryBytes,
  ).toBeGreaterThan(0);
  expect((await wrenn(["top", "--once"])).stdout).toContain(id);
});

test("the shell is told what may come next, ids of sandboxes included", async () => {
  expect((await wrenn(["complete", "bash"])).stdout).toContain("wrenn complete --");
  expect((await wrenn(["complete", "--", "exec", ""])).stdout).toContain(id);
  expect((await wrenn(["complete", "--", "sy"])).stdout).toContain("sync");
});

test("doctor names the drivers, and every probe that fails tells what to do", async () => {
  const { stdout } = await wrenn(["doctor", "--json"]);
  type Probe = { name: string; ok: boolean; detail: string; remedy?: string };
  const report = JSON.parse(stdout) as { vmm: string; probes: Probe[] };
  expect(report.vmm).toBe("qemu");
  // Without KVM guests are emulated, on QEMU: what Firecracker needs may be missing, everything else must be there.
  const optional = ["kvm", "firecracker", "device mapper", "taps"];
  for (const { name, ok, detail, remedy } of report.probes) {
    const tells = remedy ?? /needed for Firecracker only\. (.+)/.exec(detail)?.[1];
    expect([name, ok || (optional.includes(name) && !!tells)]).toEqual([name, true]);
  }
  expect((await wrenn(["doctor"])).stdout).toContain("PostgreSQL");
});

test("what cannot be understood ends with 2, what is missing with 1, and both say what to do", async () => {
  for (const args of [
    ["frobnicate"],
    ["create", "--memory", "lots"],
    ["exec", "not an id", "--", "true"],
    ["cp", "a"],
  ]) {
    const { code, stdout, stderr } = await wrenn(args);
    expect({ args, code, stdout }).toEqual({ args, code: 2, stdout: "" });
    expect(stderr).toMatch(/^error: .+/);
    const asJson = await wrenn(["--json", ...args].toSorted((a) => (a === "--json" ? 1 : -1)));
    expect(asJson.code).toBe(2);
  }
  const absent = await wrenn(["info", "cl-0000000000000000000000000", "--json"]);
  expect(absent).toMatchObject({ code: 1, stdout: "" });
  expect(JSON.parse(absent.stderr)).toMatchObject({ error: { code: "not_found" } });
  const noTemplate = await wrenn(["create", "-t", "nonesuch"]);
  expect(noTemplate.stderr).toMatch(/^error: .*nonesuch.*\nremedy: .+/);
  expect(noTemplate.code).toBe(1);
});

test("without a server every command says how to start one", async () => {
  const env = { ...system.env, HOME: `${local}/empty`, WRENN_BASE_URL: "http://127.0.0.1:9", WRENN_API_KEY: "wrn_x" };
  const child = Bun.spawn([wrennProgram, "ls"], { env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  expect(await new Response(child.stderr).text()).toMatch(
    /^error: no answer from .*\ncause: ECONNREFUSED\nremedy: .*wrenn up/,
  );
  expect(await child.exited).toBe(1);
  await rm(`${local}/empty`, { recursive: true, force: true });
});
