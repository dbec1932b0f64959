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
    expect([await child.exited, err]).toEqual([0, expect.any(String)]);
    const { git, "git error": gitError, stream, url: port, ...seen } = JSON.parse(out);
    expect(seen).toEqual({
      hello: ["hello\n", "", 0, true],
      python: "42\n",
      options: "blue\n/tmp\n",
      listed: true,
      read: "print('hello')",
      bytes: "print('hello')",
      exists: true,
      absent: false,
      entries: [
        ["data", "directory"],
        ["main.py", "file"],
      ],
      removed: false,
      large: "chunk1chunk2",
      terminal: true,
      running: ["running", true],
      connected: "print('hello')",
      "in list": true,
      snapshot: "my-template",
      destroyed: "stopped",
    });
    expect([stream[0][0], stream.at(-1)[0], stream.at(-1)[2]]).toEqual(["start", "exit", 0]);
    expect(stream.map(([type, data]: string[]) => (type === "stdout" ? data : "")).join("")).toBe("out\n");
    expect(port).toContain("8080-cl-");
    if (git) expect([git, gitError]).toEqual([["main", true], true]);
  },
  240_000,
);
