import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rm } from "node:fs/promises";
import { apiKey, Plane } from "../../control/test/support/plane.ts";
import { type Ended, emptyHome, envFor, spawn, wrenn } from "./cli.ts";

// Each command is a process; a busy machine starts few of them a second.
setDefaultTimeout(60_000);

let plane: Plane;
let home: string;
let env: Record<string, string>;
beforeAll(async () => {
  plane = await Plane.start();
  home = emptyHome();
  env = envFor(plane.address, apiKey, home);
});
afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  await rm(home, { recursive: true });
});

const run = (...args: string[]) => wrenn(args, env);
const json = ({ stdout }: Ended) => JSON.parse(stdout);
const create = async () => (await plane.create()).id;

describe("points in time", () => {
  test("checkpoint prints the name, rollback goes back to it, and both speak JSON", async () => {
    const id = await create();
    expect(await run("checkpoint", id, "--name", "before")).toEqual({ code: 0, stdout: "before\n", stderr: "" });
    const after = json(await run("checkpoint", id, "--json", "--metadata", "a=b"));
    expect(after).toMatchObject({ sandboxId: id, parent: "before", metadata: { a: "b" } });
    expect((await run("rollback", id, "before")).stdout).toBe(`${id} is back at before\n`);
    expect(json(await run("info", id, "--json"))).toMatchObject({ status: "running", origin: "before" });
    expect(json(await run("rollback", id, after.name, "--json"))).toEqual({
      id,
      status: "running",
      snapshot: after.name,
    });
    const unknown = await run("rollback", id, "never", "--json");
    expect(unknown).toMatchObject({ code: 1, stdout: "" });
    expect(JSON.parse(unknown.stderr).error).toMatchObject({ code: "not_found", remedy: expect.any(String) });
  });

  test("fork prints an id a line, or the copies as JSON, and refuses to make none", async () => {
    const id = await create();
    const { stdout, code } = await run("fork", id, "-n", "2");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^(cl-[0-9a-z]{25}\n){2}$/);
    const [copy] = json(await run("fork", id, "--json", "--timeout", "1m", "--metadata", "k=v"));
    expect(copy).toMatchObject({ status: "running", timeoutMs: 60_000, metadata: { k: "v" } });
    expect((await run("fork", id, "-n", "0")).code).toBe(2);
    expect((await run("fork")).code).toBe(2);
  });

  test("snapshots are listed and removed, and an unknown one does not stop the others", async () => {
    const id = await create();
    for (const name of ["one", "two"]) await run("checkpoint", id, "-n", name);
    const listed = await run("snapshots", "ls");
    expect(listed.stdout).toMatch(/^NAME +SANDBOX +PARENT +SIZE +AGE\n/);
    expect(listed.stdout).toMatch(new RegExp(`two +${id} +one +1\\.2 KiB +\\d`));
    const removed = await run("snapshot", "rm", "two", "nothing");
    expect(removed).toMatchObject({ code: 1, stdout: "two removed\n" });
    expect(removed.stderr).toContain('error: no snapshot "nothing"\nremedy: ');
    expect(json(await run("snapshots", "rm", "one", "--json"))).toEqual({ name: "one", status: "removed" });
    const names = json(await run("snapshots", "ls", "--json")).map(({ name }: { name: string }) => name);
    expect(names).not.toContain("one");
    expect((await run("snapshots", "lst")).code).toBe(2);
    expect((await run("snapshots")).code).toBe(2);
  });

  test("tree draws a line with ages and sizes, and gives it as JSON", async () => {
    const [id, other] = [await create(), await create()];
    await run("checkpoint", id, "-n", "root");
    const copy = (await run("fork", id)).stdout.trim();
    const drawn = (await run("tree", id)).stdout.split("\n");
    expect(drawn[0]).toMatch(/^NAME +STATE +SIZE +AGE/);
    expect(drawn[1]).toMatch(/^minimal +template/);
    expect(drawn[2]).toMatch(/^└── root +snapshot +1\.2 KiB +\d/);
    expect(drawn[3]).toMatch(/^ {4}└── template-[0-9a-f]{8} +snapshot +1\.2 KiB +\d/);
    expect(drawn[4]).toMatch(new RegExp(`^ {8}├── ${id} +running +\\S+( \\S+)? +\\d`));
    expect(drawn[5]).toMatch(new RegExp(`^ {8}└── ${copy} +running`));
    const [top] = json(await run("tree", "root", "--json"));
    expect(top).toMatchObject({ kind: "template", name: "minimal", children: [{ kind: "snapshot", name: "root" }] });
    expect(top.children[0].children[0].children.map((one: { id: string }) => one.id)).toEqual([id, copy]);
    expect((await run("tree")).stdout).toContain(`── ${other}`);
    expect(await run("tree", "cl-zzzz")).toMatchObject({ code: 1, stderr: expect.stringContaining("remedy:") });
  });
});

describe("port", () => {
  test("prints a signed link, the bare address once it is public, and all of it as JSON", async () => {
    const id = await create();
    const url = `http://8000-${id}.localhost:${new URL(plane.address).port}/`;
    const signed = (await run("port", id, "8000", "--expires", "30m")).stdout;
    expect(signed).toStartWith(`${url}?`);
    expect(json(await run("port", id, "8000", "--json"))).toMatchObject({
      url,
      public: false,
      token: expect.any(String),
    });
    expect(await run("port", id, "8000", "--public")).toEqual({ code: 0, stdout: `${url}\n`, stderr: "" });
    expect((await run("port", id, "8000")).stdout).toBe(`${url}\n`);
    expect((await run("port", id, "8000", "--private")).stdout).toStartWith(`${url}?`);
  });

  test("refuses what is no port and options that contradict", async () => {
    const id = await create();
    for (const args of [
      ["0"],
      ["65536"],
      ["http"],
      ["80", "--public", "--private"],
      ["80", "--public", "--expires", "1h"],
    ])
      expect((await run("port", id, ...args)).code).toBe(2);
    expect(await run("port", id, "49983")).toMatchObject({ code: 1, stderr: expect.stringContaining("agent") });
  });
});

describe("processes", () => {
  test("ps shows what runs, kill ends it, and a second kill finds nothing", async () => {
    const id = await create();
    const pid = (await run("exec", "-d", id, "--", "sleep", "71")).stdout.trim();
    expect((await run("ps", id)).stdout).toMatch(new RegExp(`^PID +TAG +COMMAND\\n[^]*${pid} +- +sleep 71\\n`));
    const attached = spawn(["exec", id, "--", "sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done"], env);
    const { value } = await attached.stdout.getReader().read();
    const stubborn = new TextDecoder().decode(value).trim();
    expect(await run("kill", id, stubborn)).toMatchObject({ code: 0, stdout: `${stubborn} got SIGTERM\n` });
    expect(attached.exitCode).toBeNull();
    expect((await run("kill", id, stubborn, "--signal", "kill")).code).toBe(0);
    expect(await attached.exited).toBe(137);
    expect(json(await run("kill", id, pid, "-s", "KILL", "--json"))).toEqual({
      id,
      pid: Number(pid),
      signal: "SIGKILL",
    });
    while (json(await run("ps", id, "--json")).some((one: { pid: number }) => one.pid === Number(pid)));
    expect(await run("kill", id, pid)).toMatchObject({ code: 1, stderr: expect.stringContaining("wrenn ps") });
    expect((await run("kill", id, pid, "--signal", "HUP")).code).toBe(2);
    expect((await run("kill", id)).code).toBe(2);
  });

  test("looking at a paused sandbox leaves it paused", async () => {
    const id = await create();
    await run("pause", id);
    expect(await run("ps", id)).toMatchObject({ code: 1, stderr: expect.stringContaining("remedy:") });
    expect(json(await run("info", id, "--json")).status).toBe("paused");
  });
});
