import type { Sandbox } from "wrenn";

/** A port on which something in the sandbox listens. */
export type Listening = { port: number; local: boolean };

/** The guest agent's own: nobody opens it from outside. */
const agentPort = 49983;
const listen = "0A";

/** The ports on which something listens, from the kernel's own tables: no tool is needed in the sandbox. */
export async function listening(sandbox: Sandbox): Promise<Listening[]> {
  const { stdout } = await sandbox.commands.exec("cat", ["/proc/net/tcp", "/proc/net/tcp6"], { collect: true }).catch(
    async () => sandbox.commands.exec("cat", ["/proc/net/tcp"]),
  );
  const found = new Map<number, boolean>();
  for (const line of stdout.split("\n")) {
    const [, address, hexPort, state] = /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) \S+ ([0-9A-F]{2})/.exec(line) ?? [];
    if (!hexPort || state !== listen) continue;
    const port = Number.parseInt(hexPort, 16);
    // 127.0.0.1 and ::1 as the kernel writes them: bytes of each word reversed.
    const local = address === "0100007F" || address === "00000000000000000000000001000000";
    if (port !== agentPort) found.set(port, (found.get(port) ?? true) && local);
  }
  return [...found].map(([port, local]) => ({ port, local })).sort((a, b) => a.port - b.port);
}
