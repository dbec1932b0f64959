import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { CommandExitError, Sandbox, type Wrenn } from "wrenn";
import { z } from "zod";

/** What an agent can read of one answer; more would push what it knows out of its context. */
const maxCharacters = 100_000;
/** A command that takes longer is better started in the background by its own means. */
const defaultSeconds = 120;

const id = z.string().describe("Id of the sandbox, as create_sandbox gave it.");
const path = z.string().describe("Path in the sandbox; a relative one starts at the user's home.");

/** The tools of an agent: a sandbox to work in, and points in time to come back to. */
export function toolServer(client: Wrenn, version: string): McpServer {
  const server = new McpServer({ name: "wrenn", version });
  const of = (sandbox: string) => Sandbox.connect(sandbox, { client });
  server.registerTool(
    "create_sandbox",
    {
      description: "Start a Linux virtual machine of its own, with Python and Node.js, and answer its id.",
      inputSchema: {
        template: z.string().default("base").describe("Template or snapshot that it starts from."),
        timeout_minutes: z.number().int().min(1).max(1440).default(60).describe("It is paused after so long unused."),
      },
    },
    async ({ template, timeout_minutes: minutes }) =>
      say((await Sandbox.create({ client, template, timeoutMs: minutes * 60_000 })).id),
  );
  server.registerTool(
    "run_command",
    {
      description: "Run a line of shell in a sandbox and answer its output and exit code.",
      inputSchema: {
        sandbox: id,
        command: z.string().describe("What bash runs."),
        timeout_seconds: z.number().int().min(1).max(3_600).default(defaultSeconds),
      },
    },
    async ({ sandbox, command, timeout_seconds: seconds }) => {
      const ended = await (await of(sandbox)).commands
        .run(command, { timeoutMs: seconds * 1000 })
        .catch((thrown) => (thrown instanceof CommandExitError ? thrown : Promise.reject(thrown)));
      return say(JSON.stringify({ exit_code: ended.exitCode, stdout: cut(ended.stdout), stderr: cut(ended.stderr) }));
    },
  );
  fileTools(server, of);
  timeTools(server, client);
  return server;
}

type Open = (sandbox: string) => Promise<Sandbox>;

function fileTools(server: McpServer, of: Open): void {
  server.registerTool(
    "read_file",
    { description: "Read a text file of a sandbox.", inputSchema: { sandbox: id, path } },
    async ({ sandbox, path: file }) => say(cut(await (await of(sandbox)).files.read(file))),
  );
  server.registerTool(
    "write_file",
    {
      description: "Write a text file into a sandbox; folders on the way are made.",
      inputSchema: { sandbox: id, path, content: z.string() },
    },
    async ({ sandbox, path: file, content }) => say((await (await of(sandbox)).files.write(file, content)).path),
  );
}

function timeTools(server: McpServer, client: Wrenn): void {
  server.registerTool(
    "checkpoint",
    {
      description: "Remember a sandbox as it is, memory and processes included; answers the snapshot's name.",
      inputSchema: { sandbox: id, name: z.string().optional() },
    },
    async ({ sandbox, name }) => say((await Sandbox.checkpoint(sandbox, { client, name })).name),
  );
  server.registerTool(
    "fork_sandbox",
    {
      description: "Start copies of a sandbox, memory and processes included; answers their ids, one a line.",
      inputSchema: { sandbox: id, count: z.number().int().min(1).max(20).default(1) },
    },
    async ({ sandbox, count }) => {
      const copies = await Sandbox.fork(sandbox, { client, count });
      return say(copies.map((copy) => copy.id).join("\n"));
    },
  );
  server.registerTool(
    "roll_back",
    {
      description: "Put a sandbox back to a snapshot of it; what came after is lost.",
      inputSchema: { sandbox: id, snapshot: z.string() },
    },
    async ({ sandbox, snapshot }) => {
      await Sandbox.rollback(sandbox, snapshot, { client });
      return say(`${sandbox} is back at ${snapshot}`);
    },
  );
  server.registerTool(
    "remove_sandbox",
    { description: "Remove a sandbox with everything in it.", inputSchema: { sandbox: id } },
    async ({ sandbox }) => say((await Sandbox.kill(sandbox, { client })) ? "removed" : "there was none"),
  );
}

const say = (text: string) => ({ content: [{ type: "text" as const, text }] });

const cut = (text: string): string =>
  text.length <= maxCharacters
    ? text
    : `${text.slice(0, maxCharacters)}\n[${text.length - maxCharacters} more characters]`;
