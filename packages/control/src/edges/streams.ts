import { capsuleId, headers, type rest, type SandboxId, WrennError } from "@wrenn/contract";
import type { Server } from "bun";
import type { Log } from "../log.ts";
import { needAdmin } from "../services/access.ts";
import type { Caller } from "../services/caller.ts";
import { selectorOf } from "../services/commands.ts";
import type { Services } from "../services/index.ts";
import type { Live } from "../services/terminals.ts";
import { asWrennError } from "../store/database.ts";
import { localTeam } from "../store/keys.ts";
import { type App, describe, readId } from "./endpoint.ts";
import { notUpgraded, requestIdOf } from "./request-id.ts";
import { signIn, unauthenticated } from "./sign-in.ts";
import { type Connection, framed, type Socket } from "./socket.ts";

/** Keeps proxies between from closing a terminal that nobody types in. */
const pingMs = 30_000;

const path = /^\/v1\/(admin\/)?capsules\/([^/]+)\/(?:(exec)\/stream|(pty)|processes\/([^/]+)\/stream)$/;

type Target = {
  id: SandboxId;
  kind: "exec" | "pty" | "process";
  selector: string;
  requestId: string;
  isAdmin: boolean;
};
/** Who a request says it is from, with the request that says so. */
type Shown = { known: Caller; request: Request };
type Start = Extract<rest.StreamClientFrame, { type: "start" }>;

/** Puts the three WebSocket routes into the OpenAPI document. */
export function describeStreams(app: App): void {
  const shared = { methods: ["get"], status: 101 } as const;
  const base = "/v1/capsules/{id}";
  const how = "WebSocket of JSON text frames; without credentials the first is {type: auth, token}, within 5 s.";
  describe(app, { ...shared, path: `${base}/exec/stream`, summary: `Run a command and follow its output. ${how}` });
  describe(app, {
    ...shared,
    path: `${base}/processes/{selector}/stream`,
    summary: `Follow a running process. ${how}`,
  });
  describe(app, { ...shared, path: `${base}/pty`, summary: `A terminal. ${how}` });
}

/** The three WebSocket routes. */
export class Streams {
  readonly #open = new Set<Socket>();

  constructor(
    readonly services: Services,
    readonly authMs: number,
    readonly log: Log,
  ) {}

  /** Upgrades a request for a stream; answers `undefined` when it is something else, `true` when it was upgraded. */
  async upgrade(request: Request, server: Server<Connection>): Promise<Response | true | undefined> {
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") return undefined;
    const match = path.exec(new URL(request.url).pathname);
    if (!match) return undefined;
    const [, admin, id, exec, pty, selector = ""] = match;
    const requestId = requestIdOf(request);
    try {
      const kind = exec ? "exec" : pty ? "pty" : "process";
      const target: Target = { id: readId(id!), kind, selector: readSelector(selector), requestId, isAdmin: !!admin };
      const known = await this.services.access.known(request, requestId);
      const isBinary = kind === "pty" && speaksBytes(request);
      const data = framed((socket) => {
        socket.isBinary = isBinary;
        return this.#serve(socket, target, known && { known, request });
      });
      if (server.upgrade(request, { data, headers: { [headers.requestId]: requestId } })) return true;
      throw new WrennError("invalid_request", "The upgrade to a WebSocket is malformed.", {
        remedy: "Use a WebSocket client.",
      });
    } catch (thrown) {
      return notUpgraded(thrown, requestId);
    }
  }

  /** Ends every stream; the processes go on. */
  close(): void {
    for (const socket of this.#open) socket.close();
  }

  async #serve(socket: Socket, target: Target, shown: Shown | undefined): Promise<void> {
    const started = performance.now();
    let code: string | undefined;
    let told: Caller | undefined;
    let unwatch = () => {};
    this.#open.add(socket);
    try {
      const open = shown
        ? () => this.services.access.open(shown.request, target.requestId)
        : await signIn(socket, this.services.access, { ...target, withinMs: this.authMs, scopes: ["sandboxes:exec"] });
      const caller = inTeam(shown?.known ?? (await open()), target);
      told = caller;
      // Who loses access loses what is open too.
      unwatch = this.services.access.watch(open, () => void socket.fail(unauthenticated(), true));
      await this.services.guests.locate(caller, target.id);
      const live = await this.#begin(socket, target, caller);
      if (live) await show(socket, live, target.kind);
    } catch (thrown) {
      const error = asWrennError(thrown);
      code = error.code;
      if (error.status >= 500) this.log.error({ requestId: target.requestId, err: error }, "stream failed");
      await socket.fail(error, true);
    } finally {
      unwatch();
      socket.close();
      this.#open.delete(socket);
      if (told) {
        const action = target.kind === "pty" ? "terminal" : target.kind === "exec" ? "exec" : "attach";
        const resource = { type: "sandbox", id: capsuleId(target.id) };
        this.services.audit.note(told, {
          resource,
          action,
          status: code ? "error" : "success",
          metadata: code ? { code } : {},
        });
      }
      const ms = Math.round(performance.now() - started);
      this.log.info({ requestId: target.requestId, stream: target.kind, sandbox: target.id, code, ms }, "stream");
    }
  }

  /** What the client wants to look at; `undefined` when it left before it said so. */
  async #begin(socket: Socket, { kind, id, selector }: Target, caller: Caller): Promise<Live | undefined> {
    const { terminals } = this.services;
    if (kind === "process") return terminals.attach(caller, id, selectorOf(selector), socket.closed);
    const first = await socket.next();
    if (!first) return undefined;
    if (kind === "pty" && first.type === "connect")
      return terminals.attach(caller, id, { case: "tag", value: first.tag }, socket.closed);
    if (first.type !== "start") throw outOfPlace(first.type);
    if (kind === "pty")
      return terminals.terminal(caller, id, { ...first, cmd: first.cmd || "/bin/bash" }, socket.closed);
    return terminals.run(caller, id, { ...first, cmd: needCommand(first) }, socket.closed);
  }
}

/** Administrators reach the sandboxes of the installation's own team. Throws `unauthorized`, `forbidden`. */
const inTeam = (caller: Caller, { isAdmin }: Target): Caller =>
  isAdmin ? { ...needAdmin(caller), team: localTeam.id } : caller;

/** The published Python client (0.3.0) reads and writes a terminal's bytes in binary messages, and says no other way who it is. */
const speaksBytes = (request: Request): boolean => /^python-httpx\//.test(request.headers.get("user-agent") ?? "");

function readSelector(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch (cause) {
    throw new WrennError("invalid_request", "The process in the path is not well encoded.", {
      remedy: "Name it by its pid or tag, percent-encoded.",
      cause,
    });
  }
}

function needCommand(start: Start): string {
  if (start.cmd) return start.cmd;
  throw new WrennError("invalid_request", "The start frame has no cmd.", { remedy: "Name the program to run." });
}

const outOfPlace = (type: string) =>
  new WrennError("invalid_request", `A frame of type "${type}" cannot come here.`, {
    remedy: "Begin with a start frame.",
  });

/** Shows a process to a client until one of them ends. */
async function show(socket: Socket, live: Live, kind: Target["kind"]): Promise<void> {
  const ping = kind === "pty" ? setInterval(() => void socket.send({ type: "ping" }), pingMs) : undefined;
  void obey(socket, live, kind);
  const texts = { stdout: new TextDecoder(), stderr: new TextDecoder(), pty: new TextDecoder() };
  try {
    for await (const happened of live.happenings()) {
      if (happened.case === "start") await socket.send(startFrame(kind, live, happened.value.pid));
      else if (happened.case === "end") await socket.send({ type: "exit", exit_code: happened.value.exitCode });
      else if (happened.case === "data" && happened.value.output.case) {
        const { case: from, value } = happened.value.output;
        if (kind === "pty") await socket.sendBytes(value);
        // A character may be cut between two chunks: the decoder keeps its first half.
        else
          await socket.send({
            type: from === "stderr" ? from : "stdout",
            data: texts[from].decode(value, { stream: true }),
          });
      }
    }
  } catch (thrown) {
    if (!socket.closed.aborted) throw thrown;
  } finally {
    clearInterval(ping);
  }
}

const startFrame = (kind: Target["kind"], live: Live, pid: number): rest.StreamServerFrame =>
  kind === "pty" ? { type: "started", tag: live.known.tag ?? "", pid } : { type: "start", pid };

/** Carries out what the client asks of the process; what makes no sense here is answered and skipped. */
async function obey(socket: Socket, live: Live, kind: Target["kind"]): Promise<void> {
  const tell = (thrown: unknown) => void socket.fail(asWrennError(thrown), false);
  while (!socket.closed.aborted) {
    try {
      const frame = await socket.next();
      if (!frame || kind === "process") continue;
      if (frame.type === "stop" || frame.type === "kill") live.act({ kill: true }, tell);
      else if (kind === "pty" && frame.type === "input") live.act({ input: Buffer.from(frame.data, "base64") }, tell);
      else if (kind === "pty" && frame.type === "resize")
        live.act({ resize: { cols: frame.cols, rows: frame.rows } }, tell);
      else throw outOfPlace(frame.type);
    } catch (thrown) {
      await socket.fail(asWrennError(thrown), thrown instanceof WrennError && thrown.code === "too_large");
    }
  }
}
