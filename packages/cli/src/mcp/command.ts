import { Command } from "commander";

/** `wrenn mcp`. */
export const mcpCommand = (): Command =>
  new Command("mcp")
    .description("serve sandboxes as tools of the Model Context Protocol, on standard input and output")
    .option("--http <host:port>", "serve streamable HTTP at /mcp instead; callers send Authorization: Bearer API-KEY")
    .addHelpText(
      "after",
      "\nExample:\n  wrenn mcp                        # in an agent's list of servers\n  wrenn mcp --http 127.0.0.1:9730",
    )
    .action(async ({ http }: { http?: string }) => {
      const { overHttp, overStdio } = await import("./serve.ts"); // other commands start without it
      if (http === undefined) await overStdio();
      else await overHttp(http);
    });
