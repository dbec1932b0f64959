import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { version } from "@wrenn/contract";
import { compile, fromEnvironment } from "../src/config.ts";
import { freshDatabase } from "./support/postgres.ts";

const main = join(import.meta.dir, "../src/main.ts");
const good = { CP_HOST_AGENT_ADDR: "http://127.0.0.1:1", WRENN_HOST_TOKEN: "t", WRENN_CP_LISTEN_ADDR: "127.0.0.1:0" };

async function run(env: Record<string, string>, ...args: string[]) {
  const child = Bun.spawn([process.execPath, main, ...args], {
    env: { PATH: process.env.PATH!, ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, stdout, stderr };
}

describe("the program", () => {
  test("prints its version and help on stdout", async () => {
    const [shown, help, short] = await Promise.all([run({}, "--version"), run({}, "--help"), run({}, "-h")]);
    expect(shown).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
    expect(help.stdout).toContain("DATABASE_URL");
    expect(short).toEqual(help);
  });

  test("without DATABASE_URL exits 2 with a remedy, and nothing on stdout", async () => {
    const { code, stdout, stderr } = await run(good);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/^error: DATABASE_URL is not set\.\nremedy: .*wrenn up.*\n$/);
  });

  test("an unknown argument exits 2", async () => expect((await run(good, "--nope")).code).toBe(2));

  test("announces its address in one line, logs JSON lines, and ends with 0 on SIGTERM", async () => {
    const DATABASE_URL = await freshDatabase();
    const child = Bun.spawn([process.execPath, main], {
      env: { PATH: process.env.PATH!, DATABASE_URL, ...good },
      stdout: "pipe",
      stderr: "pipe",
    });
    const reader = child.stdout.getReader();
    const line = new TextDecoder().decode((await reader.read()).value);
    const { ready, address } = JSON.parse(line);
    expect(ready).toBe(true);
    const health = await fetch(`${address}/health`, { headers: { "x-request-id": "one-line" } });
    expect(health.status).toBe(200);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    expect((await reader.read()).done).toBe(true);
    const lines = (await new Response(child.stderr).text())
      .trim()
      .split("\n")
      .map((text) => JSON.parse(text));
    expect(lines.filter((entry) => entry.requestId === "one-line")).toMatchObject([
      { method: "GET", path: "/health", status: 200, msg: "request" },
    ]);
  }, 120_000); // it waits seconds for a host that is not there, on a machine that may be busy
});

describe("configuration", () => {
  const options = { databaseUrl: "postgres://x", fleet: { localAddress: "http://h:1/", localToken: "t" } };

  test("is completed, and an empty host listens everywhere", () => {
    expect(compile(options)).toMatchObject({
      hostname: "127.0.0.1",
      port: 9725,
      fleet: { local: { address: "http://h:1", token: "t" }, strategy: "least-loaded" },
      logLevel: "info",
    });
    expect(compile({ ...options, listen: ":80" }).hostname).toBe("0.0.0.0");
    expect(compile({ ...options, listen: "[::1]:80" }).hostname).toBe("::1");
  });

  for (const bad of [
    { listen: "nonsense" },
    { listen: "h:99999" },
    { fleet: { localAddress: "ftp://h:1", localToken: "t" } },
    { fleet: { localAddress: "http://h:1" } },
    { fleet: { strategy: "hope" } },
    { fleet: { memoryOvercommit: Number.NaN } },
  ])
    test(`${JSON.stringify(bad)} is refused with a remedy`, () => {
      expect(() => compile({ ...options, ...bad })).toThrow(
        expect.objectContaining({ code: "invalid_request", remedy: expect.any(String) }) as unknown as Error,
      );
    });

  test("DATABASE_URL must be set", () => {
    expect(() => fromEnvironment({ ...good, DATABASE_URL: "" })).toThrow("DATABASE_URL is not set.");
  });

  test("the local host is named by HOST:PORT or a URL, and needs its secret; without one hosts register themselves", () => {
    const env = { ...good, DATABASE_URL: "postgres://x" };
    const local = (changes: Record<string, string>) => compile(fromEnvironment({ ...env, ...changes })).fleet.local;
    expect(local({ CP_HOST_AGENT_ADDR: "h:50051" })?.address).toBe("http://h:50051");
    expect(local({ CP_HOST_AGENT_ADDR: "" })).toBeUndefined();
    expect(() => local({ WRENN_HOST_TOKEN: "" })).toThrow("WRENN_HOST_TOKEN is not set.");
  });
});
