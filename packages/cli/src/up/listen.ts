import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure, usage } from "../output.ts";
import { writeWhole } from "./folder.ts";

/** Where a server listens. */
export type Listen = { hostname: string; port: number };

/** Reads HOST:PORT; a host in brackets is an IPv6 address. */
export function parseListen(text: string): Listen {
  const match = /^(\[[0-9a-fA-F:]+\]|[^:]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (!match || port > 65_535) throw usage(`"${text}" is not HOST:PORT`, "Write it as 127.0.0.1:9725.");
  return { hostname: match[1]!, port };
}

/** Why an address cannot be listened on; `undefined` when it can. */
function problemWith({ hostname, port }: Listen): string | undefined {
  try {
    const socket = { data() {} };
    Bun.listen({ hostname: hostname.replace(/^\[|\]$/g, ""), port, socket }).stop(true);
    return undefined;
  } catch (thrown) {
    const { code, message } = thrown as { code?: string; message: string };
    return code === "EADDRINUSE"
      ? `port ${port} of ${hostname} is in use`
      : `cannot listen on ${hostname}:${port}: ${message}`;
  }
}

/** Found out before anything is started, so that a busy port leaves nothing to undo. */
export function checkFree(listen: Listen): void {
  const problem = problemWith(listen);
  if (!problem) return;
  throw new Failure(
    problem,
    "Stop the program that uses it, or choose another with --listen 127.0.0.1:PORT (0 picks a free one).",
  );
}

/** Below Linux's range for outgoing connections (32768 and up), which would take the port now and then. */
const agentPorts = { first: 20_000, count: 12_000 } as const;

/**
 * The port of this data folder's host agent: drawn once and kept, because the server knows a host, and so the sandboxes
 * on it, by its address. Throws when it is in use on a later start.
 */
export async function agentPort(dir: string): Promise<number> {
  const path = join(dir, "agent.port");
  const kept = Number(await readFile(path, "utf8").catch(() => "0"));
  if (kept > 0) {
    const problem = problemWith({ hostname: "127.0.0.1", port: kept });
    if (!problem) return kept;
    throw new Failure(
      `${problem}; the host agent of ${dir} needs it`,
      "Stop the program that uses it, then start again.",
    );
  }
  for (;;) {
    const port = agentPorts.first + Math.floor(Math.random() * agentPorts.count);
    if (problemWith({ hostname: "127.0.0.1", port })) continue;
    await writeWhole(path, `${port}\n`, 0o600);
    return port;
  }
}

/**
 * Where HTTPS is served: beside HTTP, on the next port, which people can remember; where that is taken, on one that is
 * free now.
 */
export function httpsBeside({ hostname, port }: Listen): Listen {
  const next = port === 0 || port === 65_535 ? 0 : port + 1;
  if (next !== 0 && !problemWith({ hostname, port: next })) return { hostname, port: next };
  const socket = { data() {} };
  const probe = Bun.listen({ hostname: hostname.replace(/^\[|\]$/g, ""), port: 0, socket });
  const free = probe.port;
  probe.stop(true);
  return { hostname, port: free };
}
