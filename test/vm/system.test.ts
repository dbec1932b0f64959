import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { headers } from "@wrenn/contract";
import { CommandExitError, Sandbox, WrennError } from "wrenn";
import { until } from "../support/processes.ts";
import { Screen } from "../support/screen.ts";
import { nothingLeft, System } from "../support/system.ts";

let system: System;
let box: Sandbox;

beforeAll(async () => {
  system = await System.start("system");
  box = await system.create({ envs: { FROM_CREATE: "of the sandbox", BOTH: "of the sandbox" } });
});

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** Standard output of a line of shell, without the newline at its end. */
const sh = async (line: string, sandbox = box) => (await sandbox.commands.run(line)).stdout.trimEnd();
const sha256 = (bytes: Uint8Array) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
const refused = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable(),
    (thrown) => thrown as WrennError,
  );

describe("commands", () => {
  test("real Python runs on a kernel of the guest's own", async () => {
    const told = await sh("python3 -c 'import platform, sys; print(platform.release(), 6 * 7, file=sys.stdout)'");
    expect(told).toMatch(/^\d+\.\d+\.\S+ 42$/);
    expect(told.split(" ")[0]).not.toBe(release());
    expect(await sh("cat /proc/sys/kernel/random/boot_id")).not.toBe(
      readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    );
  });

  test("input, both outputs, exit codes and signals pass", async () => {
    const echoed = await box.commands.exec("cat", [], { stdin: "eins\nzwei ☃\n" });
    expect(echoed.stdout).toBe("eins\nzwei ☃\n");
    const failed = await box.commands.run("echo out; echo err >&2; exit 7").catch((thrown) => thrown);
    expect(failed).toBeInstanceOf(CommandExitError);
    expect(failed).toMatchObject({ exitCode: 7, stdout: "out\n", stderr: "err\n" });
    const killed = await box.commands.run("kill -TERM $$").catch((thrown) => thrown);
    expect(killed).toMatchObject({ exitCode: -1, status: "signal: terminated" });
  });

  test("user, environment and folder are those asked for", async () => {
    expect(await sh("whoami; pwd")).toBe("user\n/home/user");
    const { stdout } = await box.commands.run("whoami; pwd; echo $FROM_CREATE; echo $BOTH", {
      ...{ user: "root", cwd: "/var/tmp", envs: { BOTH: "of the command" } },
    });
    expect(stdout).toBe("root\n/var/tmp\nof the sandbox\nof the command\n");
    const missing = await refused(box.commands.run("pwd", { cwd: "/no/such/folder" }));
    expect(missing.code).toBe("invalid_request");
    expect(await refused(box.commands.run("id", { user: "nobody-here" }))).toBeInstanceOf(WrennError);
  });

  test("one in the background is listed, fed, attached to and killed", async () => {
    const seen = new Screen();
    const loop = "while read line; do echo got $line; done";
    const handle = await box.commands.run(loop, { background: true, stdin: true, timeoutMs: 0, tag: "loop" });
    expect(await box.commands.list()).toContainEqual(expect.objectContaining({ pid: handle.pid, tag: "loop" }));
    const attached = await box.commands.connect(handle.pid, { onOutput: ({ bytes }) => seen.take(bytes) });
    await handle.sendStdin("one\n");
    await seen.shows(/got one/);
    expect(await box.commands.kill(handle.pid, "SIGTERM")).toBe(true);
    expect(await attached.ended()).toMatchObject({ exitCode: -1, status: "signal: terminated" });
    expect(await box.commands.kill(handle.pid)).toBe(false);
  });

  test("one that takes longer than allowed is killed and says so", async () => {
    const late = await refused(box.commands.run("sleep 61", { timeoutMs: 500 }));
    expect(late.code).toBe("timeout");
    await until("the end of the sleep", async () => (await sh("pgrep -cx sleep || true")) === "0");
  });
});

describe("files", () => {
  test("text and 64 MiB of bytes arrive whole, both ways", async () => {
    await box.files.write("~/folder/of mine/hello.txt", "grüße\n");
    expect(await box.files.read("/home/user/folder/of mine/hello.txt")).toBe("grüße\n");
    expect(await box.files.stat("~/folder")).toMatchObject({ type: "directory", owner: "user" });

    const bytes = new Uint8Array(64 << 20);
    for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
    await box.files.write("/home/user/big", new Blob([bytes]).stream());
    expect(await sh("sha256sum < big")).toBe(`${sha256(bytes)}  -`);
    const back = await box.files.read("/home/user/big", { format: "bytes" });
    expect(sha256(back)).toBe(sha256(bytes));
  });

  test("any name a file can have is carried", async () => {
    const names = ["two words", "line\nbreak", "☃ naïve 🦊", "-rf", "quote'\"`$(id)", "a%2Fb?c#d&e=f", "\t tab"];
    for (const name of names) await box.files.write(`/home/user/names/${name}`, `in ${name}`);
    const listed = await box.files.list("/home/user/names");
    expect(listed.map((entry) => entry.name).sort()).toEqual(names.toSorted());
    for (const name of names) expect(await box.files.read(`/home/user/names/${name}`)).toBe(`in ${name}`);
    await box.files.rename("/home/user/names/line\nbreak", "/home/user/names/new\nline");
    expect(await sh("ls -b names | grep -c 'new.nline'")).toBe("1");
    await box.files.remove("/home/user/names");
    expect(await box.files.exists("/home/user/names")).toBe(false);
  });

  test("a folder of 10,000 files is listed whole", async () => {
    await sh("mkdir many && cd many && seq 10000 | xargs touch");
    const listed = await box.files.list("/home/user/many");
    expect(listed.length).toBe(10_000);
    expect(new Set(listed.map((entry) => entry.name)).size).toBe(10_000);
  });

  test("a watcher hears of what changes in a folder", async () => {
    const heard: string[] = [];
    const watch = await box.files.watchDir("/tmp", ({ type, name }) => heard.push(`${type} ${name}`));
    await sh("echo x > /tmp/seen; mv /tmp/seen /tmp/moved; rm /tmp/moved");
    await until("the last event", () => heard.includes("remove moved"));
    watch.stop();
    for (const event of ["create seen", "write seen", "rename seen", "create moved"]) expect(heard).toContain(event);
  });
});

test("a terminal has a size that follows, colours, and Ctrl-C", async () => {
  const screen = new Screen();
  const terminal = await box.pty.create({ cols: 91, rows: 33, onData: screen.take });
  await terminal.sendInput("stty size; tty; ls -d --color=auto /etc\n");
  await screen.shows(/33 91\r\n\/dev\/pts\/\d+\r\n/);
  await screen.shows(/34m\/etc.\[0m/); // blue, and back
  await terminal.resize({ cols: 120, rows: 40 });
  await terminal.sendInput("stty size\n");
  await screen.shows(/40 120\r\n/);
  await terminal.sendInput("sh -c 'echo before; exec sleep 1000'\n"); // says so itself: it is in the foreground then
  await screen.shows(/[\r\n]before\r\n/);
  await terminal.sendInput("\x03");
  await terminal.sendInput("echo code=$?\n");
  await screen.shows(/[\r\n]code=130\r\n/);
  await terminal.sendInput("exit 5\n");
  expect(await terminal.wait()).toMatchObject({ exitCode: 5 });
});

describe("identity", () => {
  test("two sandboxes of one template share no name, machine id or random bytes, and know the time", async () => {
    const other = await system.create();
    const facts =
      "hostname; cat /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid";
    const [a, b] = await Promise.all([sh(facts), sh(facts, other)]);
    const [mine, theirs] = [a.split("\n"), b.split("\n")];
    expect(mine.length).toBe(4);
    for (const [at, fact] of mine.entries()) expect(fact).not.toBe(theirs[at]!);
    expect(mine[1]).toMatch(/^[0-9a-f]{32}$/);
    await other.kill();
    expect((await other.info()).status).toBe("stopped");
    expect((await Sandbox.list({ client: system.client })).map(({ id }) => id)).not.toContain(other.id);
  });

  test("the guest's generator acknowledges a reseed", async () => {
    const { token } = system.record(box.id)!;
    const entropy = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64");
    const answer = await fetch(`${system.agentAddress(box.id)}/init`, {
      method: "POST",
      headers: { "content-type": "application/json", [headers.accessToken]: token },
      body: JSON.stringify({ accessToken: token, entropy, timestamp: new Date().toISOString() }),
    });
    expect({ status: answer.status, ...((await answer.json()) as object) }).toMatchObject({
      status: 200,
      reseeded: true,
    });
  });

  test("the guest agent answers nobody on this machine without the sandbox's token", async () => {
    const at = system.agentAddress(box.id);
    const json = { "content-type": "application/json" };
    const ask = (path: string, extra: Record<string, string> = {}) =>
      fetch(at + path, { method: "POST", headers: { ...json, ...extra }, body: "{}" }).then(({ status }) => status);
    for (const path of ["/process.Process/List", "/filesystem.Filesystem/ListDir", "/init", "/files?path=/tmp/x"]) {
      expect([path, await ask(path)]).toEqual([path, 401]);
      expect([path, await ask(path, { [headers.accessToken]: "guessed" })]).toEqual([path, 401]);
    }
    expect((await fetch(`${at}/files?path=/etc/hostname`)).status).toBe(401);
    expect(await ask("/process.Process/List", { [headers.accessToken]: system.record(box.id)!.token })).toBe(200);
  });
});

describe("what is known of a sandbox from outside", () => {
  type Points = { points: { cpu_pct: number; mem_bytes: number; mem_used_bytes?: number; net_rx_bytes?: number }[] };
  type Logs = { entries: { source: string; message: string }[]; next_cursor: number };
  const ask = async <T>(path: string) =>
    (await (await system.rest("GET", `/v1/capsules/${box.id}/${path}`)).json()) as T;

  test("its load: a guest that computes shows it, with its own figures of memory and traffic", async () => {
    await sh("timeout 3 sh -c 'while :; do :; done' || true");
    const { points } = await ask<Points>("metrics?range=5m");
    const busiest = Math.max(...points.map((point) => point.cpu_pct));
    expect(busiest).toBeGreaterThan(2); // as much as a busy machine gives it; an idle guest needs about 1
    expect(busiest).toBeLessThanOrEqual(100);
    expect(points.at(-1)!.mem_bytes).toBeGreaterThan(50 * 2 ** 20);
    expect(points.at(-1)!.mem_used_bytes).toBeGreaterThan(2 ** 20);
    expect(points.at(-1)!.net_rx_bytes).toBeGreaterThan(1_000);
  });

  test("its log: its life, what was run in it and how that ended", async () => {
    const { next_cursor } = await ask<Logs>("logs");
    await sh("exit 3").catch(() => {});
    const { entries } = await ask<Logs>(`logs?cursor=${next_cursor}`);
    const told = entries.filter(({ source }) => source === "process").map(({ message }) => message);
    expect(told).toEqual(["started: exit 3", "ended: exit 3: exit status 3"]);
    const all = await ask<Logs>("logs?cursor=0&limit=1000");
    expect(all.entries[0]).toMatchObject({ source: "host", message: "running" });
  });

  test("when a port of it opens, on its loopback too", async () => {
    const wait = (sec: number) =>
      system.rest("POST", `/v1/capsules/${box.id}/ports/8123/wait`, { timeout_sec: sec }).then(({ status }) => status);
    expect(await wait(0.2)).toBe(408);
    const waiting = wait(30);
    await sh("setsid python3 -m http.server 8123 --bind 127.0.0.1 >/dev/null 2>&1 &");
    expect(await waiting).toBe(204);
  });
});

describe("pause and resume", () => {
  test("processes go on with their memory, files stay, and the clock is right", async () => {
    const count = "import time\nn = 0\nwhile True:\n n += 1\n print(n, flush=True)\n time.sleep(0.02)";
    await box.files.write("/home/user/count.py", count);
    const counter = await box.commands.run("python3 count.py > /dev/shm/count", { background: true, timeoutMs: 0 });
    await until("a count", async () => Number(await sh("wc -l < /dev/shm/count || true")) > 10);
    await box.files.write("/home/user/kept", "on the disk");
    counter.disconnect();

    const before = Number(await sh("tail -1 /dev/shm/count"));
    await box.pause();
    expect((await box.info()).status).toBe("paused");
    expect(await refused(box.commands.run("true"))).toMatchObject({ code: "invalid_state" });
    await Bun.sleep(3_000); // a clock that only went on would now be wrong by this much
    await box.resume();

    const asked = Date.now();
    const guestMs = Number(await sh("date +%s%3N"));
    expect(guestMs).toBeGreaterThan(asked - 500);
    expect(guestMs).toBeLessThan(Date.now() + 500);
    expect(await box.files.read("/home/user/kept")).toBe("on the disk");
    expect((await box.commands.list()).map(({ pid }) => pid)).toContain(counter.pid);
    await until("a higher count", async () => Number(await sh("tail -1 /dev/shm/count")) > before + 10);
    // One number a line without a gap: it is the same process, not a new one.
    expect(await sh("awk 'NR != $1' /dev/shm/count | head -3")).toBe("");
    await box.commands.kill(counter.pid);
  });

  test("a sandbox that nobody uses is paused when its time is up, and goes on when asked for", async () => {
    const idle = await system.create({ timeoutMs: 2_000, timeoutAction: "pause" });
    await idle.files.write("/dev/shm/word", "kept in memory");
    await until("the pause", async () => (await idle.info()).status === "paused");
    const again = await Sandbox.connect(idle.id, { client: system.client });
    await again.setTimeout(0);
    expect(await again.files.read("/dev/shm/word")).toBe("kept in memory");
    await again.kill();
  });

  test("a sandbox that asked to be removed when its time is up is gone", async () => {
    const brief = await system.create({ timeoutMs: 1_000, timeoutAction: "kill" });
    const gone = async () => (await brief.info()).status === "stopped";
    await until("the end", gone);
    expect(system.record(brief.id)).toBeUndefined();
  });
});
