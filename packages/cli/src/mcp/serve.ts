import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import { version, Wrenn } from "wrenn";
import { parseListen } from "../up/listen.ts";
import { toolServer } from "./tools.ts";

/** Serves the tools on standard input and output until the input ends. */
export async function overStdio(): Promise<void> {
  const server = toolServer(new Wrenn(), version);
  const closed = new Promise<void>((resolve) => {
    server.server.onclose = resolve;
    process.stdin.on("end", resolve);
  });
  await server.connect(new StdioServerTransport());
  await closed;
}

/**
 * Serves the tools over streamable HTTP until a signal. Nothing is kept between requests: each brings the key under which
 * its tools act.
 */
export async function overHttp(listen: string): Promise<void> {
  const { hostname, port } = parseListen(listen);
  const server = Bun.serve({ hostname: hostname.replace(/^\[|\]$/g, ""), port, idleTimeout: 0, fetch: answer });
  process.stderr.write(`http://${hostname}:${server.port}/mcp\n`);
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => resolve());
  });
  await server.stop(true);
}

async function answer(request: Request): Promise<Response> {
  if (new URL(request.url).pathname !== "/mcp") return new Response("The tools are at /mcp.\n", { status: 404 });
  const apiKey = /^Bearer (\S+)$/.exec(request.headers.get("authorization") ?? "")?.[1];
  if (!apiKey) return new Response("Send Authorization: Bearer and an API key.\n", { status: 401 });
  const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true });
  await toolServer(new Wrenn({ apiKey }), version).connect(transport);
  return await transport.handleRequest(request);
}
