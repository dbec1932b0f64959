import type { Sandbox } from "wrenn";
import { followScript } from "./script.ts";

/** A port on which something in the sandbox listens. */
export type Listening = { port: number; local: boolean };

/** The guest agent's own: nobody opens it from outside. */
const agentPort = 49983;
const listen = "0A";

/** The kernel's own tables: no tool but a shell is needed in the sandbox. */
const script = "while cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; echo --; do sleep 2; done";

/** Follows the ports on which something listens, until the signal ends it. */
export async function followPorts(
  sandbox: Sandbox,
  signal: AbortSignal,
  show: (ports: Listening[]) => unknown,
): Promise<void> {
  await followScript(sandbox, signal, { text: script, tag: "dashboard-ports", show: (look) => show(read(look)) });
}

function read(text: string): Listening[] {
  const found = new Map<number, boolean>();
  for (const line of text.split("\n")) {
    const [, address, hexPort, state] = /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ ([0-9A-F]{2})/.exec(line) ?? [];
    if (!hexPort || state !== listen) continue;
    const port = Number.parseInt(hexPort, 16);
    // 127.0.0.1 and ::1 as the kernel writes them: bytes of each word reversed.
    const local = address === "0100007F" || address === "00000000000000000000000001000000";
    if (port !== agentPort) found.set(port, (found.get(port) ?? true) && local);
  }
  return [...found].map(([port, local]) => ({ port, local })).sort((a, b) => a.port - b.port);
}
