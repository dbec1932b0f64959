import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFile, rm, writeFile } from "node:fs/promises";
import { startServer, type TestServer, testKey } from "../../sdk/test/server.ts";
import { type Ended, emptyHome, envFor, program, spawn, wrenn } from "./cli.ts";

// Each command is a process; a busy machine starts few of them a second.
setDefaultTimeout(60_000);

let server: TestServer;
let home: string;
let env: Record<string, string>;
beforeAll(async () => {
  server = await startServer();
  home = emptyHome();
  env = envFor(server.url, testKey, home);
});
afterEach(() => server.capsules.clear());
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(home, { recursive: true });
});

const run = (...args: string[]) => wrenn(args, env);
const json = ({ stdout }: Ended) => JSON.parse(stdout);
const create = async (...flags: string[]) => (await run("create", ...flags)).stdout.trim();

describe("life cycle", () => {
  test("create prints the id alone into a pipe, and the sandbox as JSON", async () => {
    expect(await create()).toMatch(/^cl-[0-9a-z]{25}$/);
    const flags = ["--memory", "1G", "--timeout", "5m", "--metadata", "a=b=c", "-t", "minimal"];
    const made = json(await run("create", "--json", ...flags));
    expect(made).toMatchObject({ memoryMiB: 1024, timeoutMs: 300_000, metadata: { a: "b=c" }, template: "minimal" });
  });

  test("pause, resume, info and ls show one sandbox through its life", async () => {
    const id = await create();
    expect(await run("pause", id)).toMatchObject({ code: 0, stdout: `${id} paused\n` });
    expect(json(await run("info", id, "--json"))).toMatchObject({ id, status: "paused" });
    expect((await run("resume", id)).stdout).toBe(`${id} running\n`);
    const listed = await run("ls");
    expect(listed.stdout.split("\n")[0]).toMatch(/^ID +NAME +STATUS +TEMPLATE/);
    expect(listed.stdout).toMatch(new RegExp(`^${id} +running`, "m"));
  });

  test("rm takes several, says which one is unknown, and --all takes the rest", async () => {
    const ids = [await create(), await create(), await create()];
    const removed = await run("rm", ids[0]!, "cl-zzz");
    expect(removed).toMatchObject({ code: 1, stdout: `${ids[0]} removed\n` });
    expect(removed.stderr).toContain('error: no sandbox is called, or begins with, "cl-zzz"');
    expect((await run("rm", "--all")).code).toBe(0);
    expect(server.capsules.size).toBe(0);
    expect((await run("rm")).code).toBe(2);
  });

  test("a name stands for its sandbox in every command, one that ended included; rename gives another", async () => {
    const id = await create("--name", "build");
    expect(json(await run("info", "build", "--json"))).toMatchObject({ id, name: "build" });
    expect((await run("exec", "build", "--", "echo", "hi")).stdout).toBe("hi\n");
    expect((await run("rename", "build", "other")).stdout).toBe(`${id} is other\n`);
    expect((await run("ls")).stdout).toMatch(new RegExp(`^${id} +other +running`, "m"));
    server.capsules.get(id)!.status = "stopped";
    expect(json(await run("info", "other", "--json"))).toMatchObject({ id, status: "stopped" });
    expect((await run("info", "build")).stderr).toContain('no sandbox is called, or begins with, "build"');
  });

  test("a unique beginning of an id is enough, an ambiguous one is refused with its choices", async () => {
    const [first, second] = [await create(), await create()];
    expect(json(await run("info", second, "--json")).id).toBe(second);
    const ambiguous = await run("info", "cl-0");
    expect(ambiguous.code).toBe(1);
    expect(ambiguous.stderr).toContain(`${first}, ${second}`);
    server.capsules.delete(first);
    expect(json(await run("info", "0", "--json")).id).toBe(second);
  });
});

describe("exec", () => {
  test("streams stay apart, bytes stay bytes, the exit code passes through", async () => {
    const id = await create();
    const child = spawn(["exec", id, "--", "sh", "-c", "printf '\\377\\000\\n'; echo oops >&2; exit 7"], env);
    expect(new Uint8Array(await new Response(child.stdout).arrayBuffer())).toEqual(new Uint8Array([255, 0, 10]));
    expect(await new Response(child.stderr).text()).toBe("oops\n");
    expect(await child.exited).toBe(7);
  });

  test("options stand before or behind the id, and those of the command are left alone", async () => {
    const id = await create();
    const script = 'echo "$A$B $PWD $1"';
    const ended = await run("exec", "-e", "A=1", id, "-e", "B=2", "--cwd", "/", "sh", "-c", script, "sh", "--json");
    expect(ended).toMatchObject({ code: 0, stdout: "12 / --json\n" });
  });

  test("standard input is sent when it is no terminal", async () => {
    const id = await create();
    const input = new Blob(["line\n".repeat(200_000)]);
    expect((await wrenn(["exec", id, "--", "wc", "-l"], env, input)).stdout.trim()).toBe("200000");
    expect(await wrenn(["exec", id, "--", "true"], env, input)).toMatchObject({ code: 0, stderr: "" });
  });

  test("a signal ends the remote command and the exit code says so", async () => {
    const id = await create();
    const child = spawn(["exec", id, "--", "sh", "-c", "echo ready; exec sleep 63"], env);
    const reader = child.stdout.getReader();
    await reader.read();
    child.kill("SIGINT");
    expect(await child.exited).toBe(143);
  });

  test("a reader that leaves ends the remote command", async () => {
    const id = await create();
    const line = `"$0" exec "$1" -- yes "a line again" | head -n 1; exit $PIPESTATUS`;
    const child = Bun.spawn(["bash", "-c", line, program, id], { env, stdout: "pipe", stderr: "pipe" });
    expect(await new Response(child.stdout).text()).toBe("a line again\n");
    expect(await new Response(child.stderr).text()).toBe("");
    expect(await child.exited).toBe(137);
  });

  test("-d leaves the command running and prints its pid", async () => {
    const id = await create();
    const { stdout } = await run("exec", "-d", id, "--", "sleep", "64");
    const pid = Number(stdout);
    expect(process.kill(pid, 0)).toBe(true);
    process.kill(pid, "SIGKILL");
  });

  test("--json gives both streams and the exit code", async () => {
    const id = await create();
    const ended = await run("exec", id, "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 3");
    expect(json(ended)).toEqual({ stdout: "out\n", stderr: "err\n", exitCode: 3 });
    expect(ended.code).toBe(3);
  });

  test("run creates, runs and removes, whatever the exit code", async () => {
    expect(await run("run", "--", "sh", "-c", "echo hi; exit 4")).toMatchObject({ code: 4, stdout: "hi\n" });
    expect(server.capsules.size).toBe(0);
  });
});

describe("shell", () => {
  test("is a terminal: size, resize, Ctrl-C, colours and the exit code pass, and this one is set free again", async () => {
    const id = await create();
    let screen = "";
    const terminal = { cols: 91, rows: 33, data: (_: unknown, data: Uint8Array) => (screen += Buffer.from(data)) };
    const line = '"$0" shell "$1"; code=$?; stty -a; exit $code';
    const child = Bun.spawn(["sh", "-c", line, program, id], { env: { ...env, TERM: "xterm" }, terminal });
    const shown = async (text: string) => {
      while (!screen.includes(text)) await Bun.sleep(5);
    };
    const type = (text: string) => child.terminal?.write(text);
    await shown("\u001b[?2004h"); // the shell's prompt
    type("stty size; echo $TERM\n");
    await shown("33 91");
    await shown("xterm");
    child.terminal?.resize(101, 44);
    type("trap 'stty size' WINCH; while :; do sleep 0.05; stty size; done\n");
    await shown("44 101");
    type("\u0003");
    type("echo $((40 + 2))\n");
    await shown("42");
    type("exit 6\n");
    expect(await child.exited).toBe(6);
    expect(screen).not.toContain("\r\r\n");
    for (const mode of ["icanon", "echo", "opost", "isig"]) expect(screen).toMatch(new RegExp(`[ \\n]${mode} `));
  });

  test("refuses to run without a terminal", async () => {
    expect(await run("shell", "cl-0")).toMatchObject({ code: 2, stderr: expect.stringContaining("wrenn exec") });
  });
});

describe("cp", () => {
  test("files go in and out, into folders by their own name, and through pipes", async () => {
    const id = await create();
    await writeFile(`${home}/a.bin`, new Uint8Array([1, 0, 255]));
    const made = await run("cp", "--json", `${home}/a.bin`, `${id}:${server.guest.home}/`);
    expect(json(made).path).toBe(`${server.guest.home}/a.bin`);
    expect((await run("cp", `${id}:${server.guest.home}/a.bin`, `${home}/b.bin`)).code).toBe(0);
    expect(new Uint8Array(await readFile(`${home}/b.bin`))).toEqual(new Uint8Array([1, 0, 255]));
    expect((await wrenn(["cp", "-", `${id}:${server.guest.home}/piped`], env, new Blob(["text"]))).code).toBe(0);
    expect((await run("cp", `${id}:${server.guest.home}/piped`, "-")).stdout).toBe("text");
  });

  test("folders are refused with the command that copies them, and two local sides are bad usage", async () => {
    const id = await create();
    const refused = await run("cp", home, `${id}:/tmp`);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/is a folder\nremedy: .*cp -r/) });
    expect((await run("cp", "a", "b")).code).toBe(2);
    expect((await run("cp", `${home}/none`, `${id}:/tmp`)).stderr).toContain("no such file");
    expect((await run("cp", `${id}:nowhere`, home)).stderr).toStartWith("error: ");
  });
});

describe("errors", () => {
  test("a wrong command line ends with 2 and names the nearest command", async () => {
    const ended = await run("creat");
    expect(ended).toEqual({
      code: 2,
      stdout: "",
      stderr: "error: unknown command 'creat'\nremedy: Did you mean create?\n",
    });
    const helps = { "create --vcpus many": "create", "template build --bogus": "template build", exec: "exec" };
    for (const [line, command] of Object.entries(helps)) {
      const { code, stderr } = await run(...line.split(" "));
      expect([code, stderr]).toEqual([2, expect.stringContaining(`remedy: See \`wrenn ${command} --help\`.`)]);
    }
    expect((await run("port", "cl-0", "99999")).stderr).toContain("error: '99999' is no 'port': Give a number");
    expect((await run("create", "--vcpus", "0")).stderr).toContain("Give a whole number of at least 1.");
    expect((await run("exec", "cl-0")).code).toBe(2);
    expect((await run("info", "no/id")).code).toBe(2);
  });

  test("a list without rows tells a person at a terminal how to get one, and a program its head alone", async () => {
    expect((await run("ls")).stdout).toMatch(/^ID +NAME[^\n]*\n$/);
    const seen: Uint8Array[] = [];
    const terminal = { cols: 120, rows: 30, data: (_: unknown, bytes: Uint8Array) => void seen.push(bytes) };
    await Bun.spawn([program, "ls"], { env: { ...env, NO_COLOR: "1" }, terminal }).exited;
    expect(Buffer.concat(seen).toString().trim()).toBe("There is no sandbox. `wrenn create` starts one.");
  });

  test("a failure ends with 1, its cause and its remedy, or as JSON", async () => {
    const lost = { ...env, WRENN_BASE_URL: "http://127.0.0.1:1" };
    const plain = await wrenn(["ls"], lost);
    expect(plain.code).toBe(1);
    expect(plain.stderr).toMatch(
      /^error: no answer from http:\/\/127\.0\.0\.1:1\ncause: ECONNREFUSED\nremedy: Start the server/,
    );
    const asJson = await wrenn(["ls", "--json"], lost);
    expect(JSON.parse(asJson.stderr).error).toMatchObject({ code: "host_unavailable", remedy: expect.any(String) });
    expect(asJson.stdout).toBe("");
  });

  test("every command has help with an example", async () => {
    const { stdout } = await run("--help");
    const names = [...stdout.matchAll(/^ {2}([a-z]+)(?:\|[a-z]+)? [ [<]/gm)].map((match) => match[1]!);
    const inner = ["snapshots ls", "snapshots rm"];
    const lines = [...names.filter((name) => name !== "help"), ...inner];
    expect(lines.length).toBeGreaterThanOrEqual(26); // the pattern above found them
    for (const group of ["This machine:", "Sandboxes:", "Points in time:", "Inside a sandbox:"])
      expect(stdout).toContain(`\n${group}\n`);
    const helps = await Promise.all(lines.map((line) => run(...line.split(" "), "--help")));
    for (const help of helps) expect(help.stdout).toMatch(/Examples?:\n {2}.*wrenn /);
  });
});
