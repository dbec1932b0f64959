import { afterAll, beforeAll, expect, test } from "bun:test";
import { pythonWith } from "../support/python.ts";
import { System } from "../support/system.ts";

/** The version whose documented examples are run; a later one may document others. */
const published = "wrenn==0.3.0";

const python = await pythonWith(published);
const reason = "missing" in python ? python.missing : undefined;
const run = reason === undefined ? test : test.skip;
let system: System;

beforeAll(async () => {
  if (reason === undefined) system = await System.start("python-sdk");
});
afterAll(async () => {
  if (system) await system.end();
});

run(
  `the Python package ${published} runs its documented examples unchanged${reason ? ` — skipped: ${reason}` : ""}`,
  async () => {
    const { url, apiKey } = system.ready;
    const child = Bun.spawn([(python as { path: string }).path, `${import.meta.dir}/python-sdk.py`], {
      env: { PATH: process.env.PATH!, HOME: system.dir, WRENN_API_KEY: apiKey, WRENN_BASE_URL: url },
      ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe" },
    });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    if ((await child.exited) !== 0) console.log(err);
    expect(child.exitCode).toBe(0);
    const { stream, url: port, async: concurrent, ...seen } = JSON.parse(out);
    const repository = "http://127.0.0.1:8000/repo.git";
    expect(seen).toEqual({
      hello: ["hello\n", "", 0, true],
      python: "42\n",
      options: "0 /app\n",
      "connected process": ["start", true, "exit"],
      ...{ listed: true, killed: true },
      ...{ read: "print('hello')", bytes: "print('hello')", exists: [true, false] },
      entries: expect.arrayContaining([
        ["data", "directory"],
        ["main.py", "file"],
      ]),
      ...{ removed: false, large: "chunk1chunk2" },
      ...{ git: ["main", true], branches: [["feature", "main"], ["main"]], "git error": true },
      ...{ cloned: ["print('hello')", repository], restored: [], reset: false, "auth error": true },
      ...{ config: "false", remotes: [repository, null], "stored credentials": true },
      ...{ terminal: true, reconnected: [true, true, true], "terminal ended": true },
      ...{ running: ["running", true], connected: "print('hello')", "in list": true },
      ...{ "not found": ["not_found", 404], event: "connected", stats: true, usage: true, metrics: true },
      ...{ snapshot: ["my-template", "my-template"], taken: 409, snapshots: ["my-template"] },
      ...{ "low level": "my-template", deleted: [], destroyed: "stopped", "old name": [true, ["FutureWarning"]] },
    });
    expect([stream[0][0], stream.at(-1)[0], stream.at(-1)[2]]).toEqual(["start", "exit", 0]);
    expect(stream.map(([type, data]: string[]) => (type === "stdout" ? data : "")).join("")).toBe("out\n");
    expect(port).toContain("8080-cl-");
    expect(concurrent).toEqual(["hello\n", ["file.txt"], "start", "exit", true, "main", "data"]);
  },
  240_000,
);
