import { headers, WrennError } from "@wrenn/contract";
import { tunnelTaken } from "@wrenn/contract/tunnel";
import type { Server, ServerWebSocket } from "bun";
import type { Line, Tunnels } from "../../hosts/tunnels.ts";
import type { Hosts } from "../../services/fleet/hosts.ts";
import { asWrennError } from "../../store/database.ts";
import { type App, describe } from "../endpoint.ts";
import { notUpgraded, requestIdOf } from "../request-id.ts";
import type { Connection } from "../socket.ts";

const path = /^\/v1\/hosts\/([^/]+)\/tunnel$/;
/** What `ServerWebSocket.send` answers for what waits, and for what was dropped. */
const [waits, dropped] = [-1, 0];
const notWelcome = 1008;

/** Puts the route into the OpenAPI document. */
export function describeTunnel(app: App): void {
  const summary = "A host dials in: connections to its agent go over this WebSocket, so that it needs no open port.";
  const codes = ["unauthorized", "forbidden", "not_found", "conflict", "invalid_request"] as const;
  describe(app, { methods: ["get"], status: 101, access: "open", path: "/v1/hosts/{host}/tunnel", summary, codes });
}

/** `/v1/hosts/{host}/tunnel`: the lines of hosts that dial in. */
export class TunnelDoor {
  constructor(
    readonly hosts: Hosts,
    readonly tunnels: Tunnels,
  ) {}

  /** Upgrades a request for a line; answers `undefined` when it is something else, `true` when it was upgraded. */
  async upgrade(request: Request, server: Server<Connection>): Promise<Response | true | undefined> {
    const [, host] = path.exec(new URL(request.url).pathname) ?? [];
    if (host === undefined) return undefined;
    const requestId = requestIdOf(request);
    try {
      const token = request.headers.get(headers.registeredHost) ?? undefined;
      await this.hosts.dialled(host, token);
      const data = this.#line(host, () => this.hosts.dialled(host, token));
      if (server.upgrade(request, { data, headers: { [headers.requestId]: requestId } })) return true;
      throw new WrennError("invalid_request", "The upgrade to a WebSocket is malformed.", {
        remedy: "Start wrenn-agent with --dial, which opens this.",
      });
    } catch (thrown) {
      return notUpgraded(thrown, requestId);
    }
  }

  #line(host: string, look: () => Promise<void>): Connection {
    let line: DoorLine | undefined;
    let take: ((frame: Uint8Array) => void) | undefined;
    return {
      opened: (ws) => {
        line = new DoorLine(host, ws, look);
        this.tunnels.greet(line);
      },
      received: (message) => {
        if (typeof message !== "string") take?.(message);
        else if (line && message === tunnelTaken) take ??= this.tunnels.join(line);
      },
      drained: () => line?.drained(),
      ended: () => line && this.tunnels.left(line),
    };
  }
}

/** A WebSocket as a line. What its peer has not taken waits here, so that nothing is dropped; windows keep it small. */
class DoorLine implements Line {
  readonly #waiting: (string | Uint8Array<ArrayBuffer>)[] = [];
  #isFull = false;

  constructor(
    readonly host: string,
    readonly ws: ServerWebSocket<Connection>,
    readonly look: () => Promise<void>,
  ) {}

  send(frame: Uint8Array<ArrayBuffer> | string): void {
    if (this.#isFull) this.#waiting.push(frame);
    else this.#isFull = this.#put(frame);
  }

  say(replicas: object): void {
    this.send(JSON.stringify(replicas));
  }

  drained(): void {
    this.#isFull = false;
    while (!this.#isFull && this.#waiting.length > 0) this.#isFull = this.#put(this.#waiting.shift()!);
  }

  async isWelcome(): Promise<boolean> {
    try {
      await this.look();
      return true;
    } catch (thrown) {
      // A database that is away says nothing about the host.
      return asWrennError(thrown).status >= 500;
    }
  }

  close(): void {
    this.ws.close(notWelcome);
  }

  /** Writes a message; answers whether the next ones must wait. */
  #put(message: string | Uint8Array<ArrayBuffer>): boolean {
    const result = this.ws.send(message);
    if (result === dropped) this.ws.terminate(); // a hole in a connection's bytes would go unnoticed
    return result === waits;
  }
}
