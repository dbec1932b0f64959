import { readFileSync } from "node:fs";
import { headers, type VolumeHello, type VolumeReady, volumesPort } from "@wrenn/contract/core";
import { identityFile } from "../identity/environment.ts";
import { sameText } from "../identity/state.ts";
import { Line } from "./line.ts";
import { Mount } from "./mount.ts";

/**
 * Serves this guest's volumes, in a process of its own: the agent's files may lie in a volume, so the agent cannot be
 * what answers for it, and mounts outlive an agent that is killed. The host comes to it, with the sandbox's token.
 */
export function serveVolumes(): void {
  const line = new Line();
  const mounts = new Map<string, Mount>();
  Bun.serve({
    ...{ port: volumesPort, hostname: "0.0.0.0" },
    fetch: (request, server) =>
      isHost(request) && server.upgrade(request) ? undefined : new Response(null, { status: 404 }),
    websocket: {
      ...{ idleTimeout: 0, maxPayloadLength: 16 << 20, backpressureLimit: 16 << 20 },
      message(socket, message) {
        if (typeof message !== "string") return line.answered(message);
        socket.send(JSON.stringify(mountAll(mounts, JSON.parse(message) as VolumeHello, line)));
        line.open(socket);
      },
      close: (socket) => line.closed(socket),
    },
  });
}

/** Mounts what is not mounted yet; a machine that was restored has everything. */
function mountAll(mounts: Map<string, Mount>, wanted: VolumeHello, line: Line): VolumeReady {
  try {
    for (const { path, owned } of wanted.mounts) if (!mounts.has(path)) mounts.set(path, new Mount(path, line, owned));
    return { ready: true };
  } catch (thrown) {
    return { failure: thrown instanceof Error ? thrown.message : String(thrown) };
  }
}

/** Whether a request shows the token that the agent asks for at this moment; only root can read what it is. */
function isHost(request: Request): boolean {
  try {
    const { accessToken } = JSON.parse(readFileSync(identityFile, "utf8")) as { accessToken?: string };
    return !!accessToken && sameText(request.headers.get(headers.accessToken) ?? "", accessToken);
  } catch {
    return false;
  }
}
