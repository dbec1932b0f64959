import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rm } from "node:fs/promises";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import { apiKey, Plane } from "../../control/test/support/plane.ts";
import { emptyHome, envFor, program, spawn } from "./cli.ts";

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

async function connect(transport: Transport): Promise<Client> {
  const client = new Client({ name: "test", version: "1" });
  await client.connect(transport);
  return client;
}

async function call(client: Client, name: string, given: Record<string, unknown>): Promise<string> {
  const { content, isError } = await client.callTool({ name, arguments: given });
  const { text } = (content as { text: string }[])[0]!;
  if (isError) throw new Error(text);
  return text;
}

/** What an agent does: work, remember, try something else, come back. */
async function work(client: Client): Promise<void> {
  const sandbox = await call(client, "create_sandbox", { template: "minimal" });
  expect(sandbox).toMatch(/^cl-[0-9a-z]{25}$/);
  const ran = await call(client, "run_command", { sandbox, command: "echo out; echo err >&2; exit 3" });
  expect(JSON.parse(ran)).toEqual({ exit_code: 3, stdout: "out\n", stderr: "err\n" });
  const path = `${plane.guest.dir}/notes.txt`;
  expect(await call(client, "write_file", { sandbox, path, content: "remember" })).toBe(path);
  expect(await call(client, "read_file", { sandbox, path })).toBe("remember");
  const snapshot = await call(client, "checkpoint", { sandbox });
  const copies = (await call(client, "fork_sandbox", { sandbox, count: 2 })).split("\n");
  expect(new Set([sandbox, ...copies]).size).toBe(3);
  expect(await call(client, "roll_back", { sandbox, snapshot })).toBe(`${sandbox} is back at ${snapshot}`);
  for (const each of [sandbox, ...copies])
    expect(await call(client, "remove_sandbox", { sandbox: each })).toBe("removed");
  await expect(call(client, "read_file", { sandbox: "nonsense", path })).rejects.toThrow();
}

describe("wrenn mcp", () => {
  test("gives an agent its tools over standard input and output", async () => {
    const client = await connect(new StdioClientTransport({ command: program, args: ["mcp"], env, stderr: "inherit" }));
    const { tools } = await client.listTools();
    expect(tools.every(({ description }) => description)).toBe(true);
    await work(client);
    await client.close();
  });

  test("gives them over HTTP to who has a key", async () => {
    const child = spawn(["mcp", "--http", "127.0.0.1:0"], env);
    const { value } = await child.stderr.getReader().read();
    const url = new URL(new TextDecoder().decode(value).trim());
    expect((await fetch(url, { method: "POST" })).status).toBe(401);
    const headers = { authorization: `Bearer ${apiKey}` };
    const client = await connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
    await work(client);
    await client.close();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
  });
});
