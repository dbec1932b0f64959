import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { findPostgres } from "../src/up/postgres.ts";
import { processesIn, startTimeOf } from "../src/up/processes.ts";
import { emptyHome, envFor, spawn, wrenn } from "./cli.ts";

/**
 * `wrenn up` with the real PostgreSQL and small programs in place of the other two: they listen where they are told,
 * say so, write down their environment, and end when asked. SLOW and FAIL files in their folder change that.
 */
const program = (name: string) => `#!${process.execPath}
import { appendFileSync, existsSync } from "node:fs";
const here = import.meta.dir;
appendFileSync(here + "/started", JSON.stringify({ name: "${name}", pid: process.pid, env: process.env }) + "\\n");
if (existsSync(here + "/FAIL-${name}")) { console.error("the reason it failed"); process.exit(9); }
const [hostname, port] = (process.env.${name === "wrenn-cp" ? "WRENN_CP_LISTEN_ADDR" : "WRENN_HOST_LISTEN_ADDR"} ?? "").split(":");
const server = Bun.serve({ hostname, port: Number(port), fetch: () => Response.json({ status: "ok", version: "0.1.0" }) });
process.on("SIGTERM", () => { appendFileSync(here + "/stopped", "${name}\\n"); process.exit(0); });
console.log(JSON.stringify({ ready: true, address: "http://127.0.0.1:" + server.port }));
`;

// A cluster is made in a second on an idle machine, in many on a busy one.
setDefaultTimeout(60_000);

let home: string;
let dir: string;
let bin: string;
let withDatabase: Record<string, string>;
let env: Record<string, string>;
const started: Bun.Subprocess[] = [];

beforeEach(async () => {
  home = emptyHome();
  await chmod(home, 0o755); // the database's user must pass through when root runs the tests
  dir = `${home}/data`;
  bin = `${home}/bin`;
  await mkdir(bin);
  for (const name of ["wrenn-cp", "wrenn-agent"]) await writeFile(`${bin}/${name}`, program(name), { mode: 0o755 });
  const { WRENN_BASE_URL: _url, WRENN_API_KEY: _key, ...rest } = envFor("", "", home);
  const postgres = await findPostgres();
  withDatabase = { ...rest, WRENN_DIR: dir, WRENN_BIN_DIR: bin, WRENN_POSTGRES_DIR: postgres! };
  env = { ...withDatabase, DATABASE_URL: "postgres://elsewhere.test/given" };
});

afterEach(async () => {
  for (const child of started.splice(0)) {
    if (child.exitCode === null) child.kill("SIGTERM");
    await child.exited;
  }
  await rm(home, { recursive: true, force: true });
});

type Launched = { pid: number; started: { name: string; pid: number; env: Record<string, string> }[] };

function up(environment = env) {
  const child = spawn(["up", "--listen", "127.0.0.1:0", "--json"], environment);
  started.push(child);
  return child;
}

/** The line a ready `up --json` prints. */
async function ready(
  child: ReturnType<typeof up>,
): Promise<{ url: string; httpsPort: number; apiKey: string; pid: number }> {
  const { value } = await child.stdout.getReader().read();
  if (!value) throw new Error(await new Response(child.stderr).text());
  return JSON.parse(new TextDecoder().decode(value));
}

/** Asks the database of the data folder. */
async function sql(ask: (db: Bun.SQL) => Promise<unknown[]>): Promise<unknown[]> {
  await using db = new Bun.SQL("postgres://wrenn@localhost/postgres", { path: `${dir}/postgres/socket/.s.PGSQL.5432` });
  return [...(await ask(db))];
}

const launches = async (): Promise<Launched["started"]> =>
  (await readFile(`${bin}/started`, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

const noneLeft = async () => {
  const pids = (await launches()).map((one) => one.pid);
  return pids.every((pid) => startTimeOf(pid) === undefined) && processesIn(`${dir}/postgres/data`).length === 0;
};

async function until(what: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await what())) await Bun.sleep(10);
}

describe("wrenn up", () => {
  test("one JSON line when ready, a profile for the other commands, an orderly end", async () => {
    const child = up();
    const line = await ready(child);
    expect(line).toEqual({
      url: expect.stringMatching(/^http:/),
      apiKey: expect.stringMatching(/^wrn_[0-9a-f]{32}$/),
      httpsPort: expect.any(Number),
      pid: child.pid,
    });
    expect((await fetch(line.url)).ok).toBe(true);

    const profile = `${home}/.config/wrenn/profile.json`;
    expect(JSON.parse(await readFile(profile, "utf8"))).toEqual({ url: line.url, apiKey: line.apiKey });
    for (const secret of [profile, `${dir}/secrets.json`]) expect((await stat(secret)).mode & 0o777).toBe(0o600);

    const [agent, server] = (await launches()).sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(server?.env.DATABASE_URL).toBe(env.DATABASE_URL!);
    expect(server?.env.WRENN_HOST_TOKEN).toBe(String(agent?.env.WRENN_HOST_TOKEN));

    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect(await readFile(`${bin}/stopped`, "utf8")).toBe("wrenn-cp\nwrenn-agent\n");
    expect(await noneLeft()).toBe(true);
    expect(await readdir(dir)).not.toContain("up.lock");
  });

  test("killed outright, it leaves nothing running, and the next start keeps data, key and host address", async () => {
    const first = up(withDatabase);
    const before = await ready(first);
    const second = await wrenn(["up", "--listen", "127.0.0.1:0"], env);
    expect(second.code).toBe(1);
    expect(second.stderr).toContain(`already runs on this data folder, as process ${first.pid}`);
    const server = (await launches()).find((one) => one.name === "wrenn-cp")!;
    const socket = encodeURIComponent(`${dir}/postgres/socket`);
    expect(server.env.DATABASE_URL).toBe(`postgres://wrenn@/postgres?host=${socket}`);
    expect(await sql((db) => db`show data_checksums`)).toEqual([{ data_checksums: "on" }]);
    await sql((db) => db`create table kept as select 42 as answer`);

    const agent = (await launches()).find((one) => one.name === "wrenn-agent")!;

    first.kill("SIGKILL");
    await first.exited;
    await until(noneLeft);
    const third = up(withDatabase);
    expect((await ready(third)).apiKey).toBe(before.apiKey);
    expect(await sql((db) => db`select answer from kept`)).toEqual([{ answer: 42 }]);
    const again = (await launches()).findLast((one) => one.name === "wrenn-agent")!;
    expect(again.env.WRENN_HOST_LISTEN_ADDR).toBe(agent.env.WRENN_HOST_LISTEN_ADDR!);
    third.kill("SIGINT");
    expect(await third.exited).toBe(0);
    expect(await noneLeft()).toBe(true);
  });

  test("what outlived its parent is stopped by the next start", async () => {
    const orphan = Bun.spawn(["sleep", "65"]);
    const startTime = startTimeOf(orphan.pid)!;
    const child = { pid: orphan.pid, startTime, name: "wrenn-agent", stopSignal: "SIGTERM" };
    const reused = { pid: process.pid, startTime: "1", name: "wrenn-cp", stopSignal: "SIGTERM" };
    await mkdir(dir);
    await writeFile(`${dir}/up.lock`, JSON.stringify({ pid: process.pid, startTime: "1", children: [reused, child] }));
    await ready(up());
    expect(await orphan.exited).toBe(143);
  });

  test("a child that dies is started again at its address", async () => {
    const { url } = await ready(up());
    const agent = (await launches()).find((one) => one.name === "wrenn-agent")!;
    const server = (await launches()).find((one) => one.name === "wrenn-cp")!;
    process.kill(agent.pid, "SIGKILL");
    process.kill(server.pid, "SIGKILL");
    await until(async () => (await launches()).length === 4);
    await until(() =>
      fetch(url).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    const again = (await launches()).slice(2).find((one) => one.name === "wrenn-agent")!;
    expect(`http://${again.env.WRENN_HOST_LISTEN_ADDR}`).toBe(server.env.CP_HOST_AGENT_ADDR!);
  });
});

describe("wrenn up refuses", () => {
  test("a busy port, and leaves nothing running", async () => {
    const busy = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const ended = await wrenn(["up", "--listen", `127.0.0.1:${busy.port}`], env);
    busy.stop();
    expect(ended).toMatchObject({ code: 1, stdout: "" });
    expect(ended.stderr).toMatch(/^error: port \d+ of 127\.0\.0\.1 is in use\nremedy: .*--listen/);
    expect(await readdir(bin)).not.toContain("started");
  });

  test("a data folder of a newer version, and changes nothing in it", async () => {
    await mkdir(dir);
    await writeFile(`${dir}/version`, "2\n");
    const ended = await wrenn(["up", "--listen", "127.0.0.1:0"], env);
    expect(ended).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("has layout version 2, this program knows 1"),
    });
    expect(await readdir(dir)).toEqual(["version"]);
  });

  test("a program that cannot start, with the end of its log, and stops the rest", async () => {
    await writeFile(`${bin}/FAIL-wrenn-cp`, "");
    const ended = await wrenn(["up", "--listen", "127.0.0.1:0", "--json"], env);
    expect(ended).toMatchObject({ code: 1, stdout: "" });
    expect(ended.stderr).toContain("wrenn-cp ended with exit code 9 before it was ready");
    expect(ended.stderr).toContain("the reason it failed");
    expect(await noneLeft()).toBe(true);
  });

  test("to go on when a child dies again and again", async () => {
    const child = up();
    await ready(child);
    await writeFile(`${bin}/FAIL-wrenn-agent`, "");
    process.kill((await launches()).find((one) => one.name === "wrenn-agent")!.pid, "SIGKILL");
    expect(await child.exited).toBe(1);
    expect(await new Response(child.stderr).text()).toContain("wrenn-agent ended 5 times in a row");
    expect(await noneLeft()).toBe(true);
  });

  test("an address that is none, and missing programs", async () => {
    expect((await wrenn(["up", "--listen", "9725"], env)).code).toBe(2);
    await rm(`${bin}/wrenn-cp`);
    const ended = await wrenn(["up", "--listen", "127.0.0.1:0"], env);
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining("make build") });
  });
});
