import { headers } from "@wrenn/contract";
import type { Server } from "bun";
import type { Log } from "../../log.ts";
import type { Services } from "../../services/index.ts";
import { asWrennError } from "../../store/database.ts";
import { notUpgraded, requestIdOf } from "../request-id.ts";
import { signIn, unauthenticated } from "../sign-in.ts";
import { type Connection, framed, type Socket } from "../socket.ts";
import { reading } from "./builds.ts";
import { followBuild } from "./follow.ts";

const path = /^\/v1\/builds\/([^/]+)\/logs$/;

/** Logs of builds over WebSockets: `log` frames, then one `end`. Without credentials the first frame is {type: auth, token}. */
export class BuildStreams {
  readonly #open = new Set<Socket>();

  constructor(
    readonly services: Services,
    readonly timings: { readonly authMs: number; readonly keepAliveMs: number },
    readonly log: Log,
  ) {}

  /** Upgrades a request for a build's log; answers `undefined` when it is something else, `true` when it was upgraded. */
  async upgrade(request: Request, server: Server<Connection>): Promise<Response | true | undefined> {
    const { pathname, searchParams } = new URL(request.url);
    const id = path.exec(pathname)?.[1];
    if (id === undefined || request.headers.get("upgrade")?.toLowerCase() !== "websocket") return undefined;
    const requestId = requestIdOf(request);
    try {
      const isKnown = (await this.services.access.known(request, requestId)) !== undefined;
      const after = Number(searchParams.get("after") ?? 0) || 0;
      const target = { id, after, requestId, request: isKnown ? request : undefined };
      const data = framed((socket) => this.#serve(socket, target));
      if (server.upgrade(request, { data, headers: { [headers.requestId]: requestId } })) return true;
      return undefined;
    } catch (thrown) {
      return notUpgraded(thrown, requestId);
    }
  }

  /** Ends every stream; the builds go on. */
  close(): void {
    for (const socket of this.#open) socket.close();
  }

  async #serve(
    socket: Socket,
    { id, after, requestId, request }: { id: string; after: number; requestId: string; request: Request | undefined },
  ): Promise<void> {
    const { access, builds } = this.services;
    const { authMs: withinMs, keepAliveMs } = this.timings;
    let unwatch = () => {};
    this.#open.add(socket);
    try {
      const open = request
        ? () => access.open(request, requestId)
        : await signIn(socket, access, { requestId, withinMs, scopes: ["templates:read"] });
      const caller = await open();
      unwatch = access.watch(open, () => void socket.fail(unauthenticated(), true));
      await builds.get(caller, id);
      const course = { after, keepAliveMs, signal: socket.closed };
      for await (const frame of followBuild(reading(builds, caller, id), course)) await socket.send(frame);
    } catch (thrown) {
      const error = asWrennError(thrown);
      if (error.status >= 500) this.log.error({ requestId, err: error }, "the log of a build failed");
      await socket.fail(error, true);
    } finally {
      unwatch();
      socket.close();
      this.#open.delete(socket);
    }
  }
}
