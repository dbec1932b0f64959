import { type AddressInfo, createServer } from "node:net";
import { create } from "@bufbuild/protobuf";
import { createConnectRouter, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { universalServerRequestFromFetch, universalServerResponseToFetch } from "@connectrpc/connect/protocol";
import { headers, hostagent, randomId, toConnectError, WrennError } from "@wrenn/contract";
import { failpoint } from "./failpoint.ts";

const { SandboxState, SandboxSchema, SnapshotSchema } = hostagent;
type Step =
  | "host"
  | "create"
  | "created"
  | "pause"
  | "paused"
  | "resume"
  | "resumed"
  | "destroy"
  | "hibernate"
  | "bring"
  | "discard"
  | "checkpoint"
  | "rollback"
  | "snapshots"
  | "drop"
  | "get"
  | "ping"
  | "timeout"
  | "watch"
  | "metrics"
  | "wait"
  | "logs"
  | "network"
  | "proxy"
  | "volume";

/** A host agent in memory that serves the real protocol over HTTP; its guests are one agent at `guest`. */
export class FakeHost {
  token = "host-token";
  /** Called when a call comes in, with its step and the sandbox. */
  heard: (step: string, id: string) => void = () => {};
  readonly sandboxes = new Map<string, hostagent.Sandbox>();
  readonly snapshots = new Map<string, hostagent.Snapshot>();
  /** Address of what listens at a port of every guest. */
  readonly apps = new Map<number, string>();
  /** Calls received, in order: `create cl...`. */
  readonly calls: string[] = [];
  /** Headers of the last request of each path. */
  readonly seen = new Map<string, Headers>();
  readonly envs = new Map<string, Record<string, string>>();
  /** What each guest agent was told to ask for. */
  readonly tokens = new Map<string, string>();
  /** What commands get in each sandbox that was made with such. */
  readonly defaults = new Map<string, hostagent.Defaults>();
  /** Volumes by id, with their content. */
  readonly volumes = new Map<string, string>();
  /** What each may reach. */
  readonly networks = new Map<string, hostagent.NetworkPolicy>();
  /** How often each has reached the one place that it reaches. */
  reached = 2n;
  /** What each sandbox was asked to mount. */
  readonly mounts = new Map<string, { volume: string; path: string }[]>();
  readonly #points = new Map<Step, () => Promise<void>>();
  readonly #watchers = new Set<() => void>();
  readonly #log: hostagent.Sandbox[] = [];
  #server: Bun.Server<string> | undefined;
  #port = 0;
  /** How often a control plane has been told all there is. */
  #meetings = 0;
  /** Requests that reached a guest. */
  proxied = 0;
  /** Makes every stream of a guest break off after its head. */
  cut = false;
  readonly #aborts: (() => void)[] = [];
  /** The load of every sandbox. */
  points: hostagent.MetricPoint[] = [];
  /** The log of every sandbox. */
  entries: hostagent.LogEntry[] = [];
  /** What it tells of its store; hosts of one store have its parcels in common. */
  storeId = "";
  moveClass = "class";
  parcels = new Map<string, hostagent.Sandbox>();
  /** The keys of the store that it was given last. */
  vaults: hostagent.Vaults | undefined;
  /** Milliseconds each life-cycle step takes. */
  delayMs = 0;

  constructor(
    public guest: string,
    readonly tls?: Pick<Bun.TLSOptions, "cert" | "key" | "ca" | "requestCert" | "rejectUnauthorized">,
    port = 0,
  ) {
    this.#port = port;
    this.up();
  }

  get address(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Scripts what a step does from now on. */
  script(step: Step, script: string): void {
    this.#points.set(step, failpoint(script));
  }

  /** Keeps calls of a step waiting until what this answers is called. */
  hold(step: Step): () => void {
    const gate = Promise.withResolvers<void>();
    this.#points.set(step, () => gate.promise);
    return () => {
      this.#points.delete(step);
      gate.resolve();
    };
  }

  /** Forgets every script. */
  heal(): void {
    this.#points.clear();
  }

  /** Listens, on the same port as before. */
  up(): void {
    const router = createConnectRouter({ interceptors: [] });
    router.service(hostagent.HostAgentService, this.#service());
    const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
    this.#server = Bun.serve<string>({
      port: this.#port,
      hostname: "127.0.0.1",
      ...(this.tls && { tls: this.tls }),
      idleTimeout: 0,
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      websocket: talk,
      fetch: async (request, server) => {
        const path = new URL(request.url).pathname;
        this.seen.set(path, request.headers);
        if (request.headers.get(headers.hostToken) !== this.token)
          return refusal(new WrennError("unauthorized", "bad token"));
        if (request.headers.has("upgrade") && path.startsWith("/proxy/")) {
          const protocol = request.headers.get("sec-websocket-protocol")?.split(",")[0];
          const headers = protocol ? { "sec-websocket-protocol": protocol } : {};
          if (!path.endsWith("/refuse") && server.upgrade(request, { data: path, headers })) return undefined;
          return refusal(new WrennError("agent_error", "the guest refused the WebSocket"));
        }
        if (path.startsWith("/volumes/")) return await this.#volume(request).catch((e) => refusal(WrennError.from(e)));
        if (path.startsWith("/proxy/")) return await this.#proxy(request).catch((e) => refusal(WrennError.from(e)));
        const handler = handlers.get(path);
        if (!handler) return new Response(null, { status: 404 });
        return universalServerResponseToFetch(await handler(universalServerRequestFromFetch(request, {})));
      },
    });
    this.#port = this.#server.port!;
  }

  /** Listens again, and resolves when a control plane has met it again: until then it may yet be given up. */
  async comesBack(): Promise<void> {
    const before = this.#meetings;
    this.up();
    while (this.#meetings === before) await Bun.sleep(10);
  }

  /** Drops every connection and stops listening. */
  async down(): Promise<void> {
    await this.#server?.stop(true);
    for (const wake of this.#watchers) wake();
  }

  /** A change that the host makes by itself, such as a pause by time-out. */
  change(id: string, state: hostagent.SandboxState, reason = ""): hostagent.Sandbox {
    const old = this.sandboxes.get(id)!;
    return this.#put({ ...old, state, reason });
  }

  /** What the host forgot, without telling anyone. */
  forget(id: string): void {
    this.sandboxes.delete(id);
  }

  /** Resolves when the next proxied request is given up by its client. */
  nextAbort(): Promise<void> {
    return new Promise((resolve) => this.#aborts.push(resolve));
  }

  /** A change that no watcher is told of. */
  quietly(id: string, state: hostagent.SandboxState): void {
    const old = this.sandboxes.get(id)!;
    this.sandboxes.set(id, create(SandboxSchema, { ...old, state, version: old.version + 1n }));
  }

  /** Sends an old report again. */
  replay(report: hostagent.Sandbox): void {
    this.#log.push(report);
    for (const wake of this.#watchers) wake();
  }

  /** Adds a sandbox that nobody asked for. */
  plant(id: string, fields: Partial<hostagent.Sandbox> = {}): void {
    this.#put({ ...blank(id), state: SandboxState.RUNNING, run: 1n, ...fields } as hostagent.Sandbox);
  }

  #put(fields: Omit<hostagent.Sandbox, "$typeName"> & { $typeName?: unknown }): hostagent.Sandbox {
    const version = (this.sandboxes.get(fields.id)?.version ?? 0n) + 1n;
    const { $typeName: _, ...rest } = fields;
    const next = create(SandboxSchema, { ...rest, version });
    this.sandboxes.set(next.id, next);
    this.#log.push(next);
    for (const wake of this.#watchers) wake();
    return next;
  }

  async #step(step: Step): Promise<void> {
    await this.#points.get(step)?.();
  }

  #need(id: string): hostagent.Sandbox {
    const found = this.sandboxes.get(id);
    if (!found) throw new WrennError("not_found", "no such sandbox", { details: { kind: "sandbox", id } });
    return found;
  }

  #service(): Partial<ServiceImpl<typeof hostagent.HostAgentService>> {
    const wrap =
      <I, O>(step: Step, act: (request: I) => Promise<O>) =>
      async (request: I): Promise<O> => {
        this.heard(step, (request as { id?: string }).id ?? "");
        const { id = "", diskOnly = false } = request as { id?: string; diskOnly?: boolean };
        this.calls.push(`${step} ${id}${diskOnly ? " disk only" : ""}`.trim());
        try {
          await this.#step(step);
          return await act(request);
        } catch (thrown) {
          throw toConnectError(thrown);
        }
      };
    return {
      getHost: wrap("host", async () => ({
        moveClass: this.moveClass,
        store: this.storeId,
        templates: [{ name: "minimal", sizeBytes: 1n, createdAtMs: 1_700_000_000_000n, ready: true }],
      })),
      createSandbox: wrap("create", (request: hostagent.CreateSandboxRequest) => this.#create(request)),
      pauseSandbox: wrap("pause", ({ id, diskOnly }: hostagent.PauseSandboxRequest) =>
        this.#move(id, "pause", { diskOnly }),
      ),
      resumeSandbox: wrap("resume", async ({ id, run, parcel, network }: hostagent.ResumeSandboxRequest) => {
        if (network) this.networks.set(id, network);
        if (parcel) await this.#bring(parcel);
        return this.#move(id, "resume", { run, diskOnly: false });
      }),
      hibernateSandbox: wrap("hibernate", async ({ id, vaults }: hostagent.HibernateSandboxRequest) => {
        const found = this.#need(id);
        if (found.state !== SandboxState.PAUSED) throw new WrennError("invalid_state", "wrong state");
        await Bun.sleep(this.delayMs);
        const name = `parcel-${id}-${found.run}`;
        this.vaults = vaults;
        this.parcels.set(name, found);
        return { parcel: { id: name, moveClass: this.moveClass, store: this.storeId, bytes: 1_000n } };
      }),
      discardParcels: wrap("discard", async ({ parcels }: hostagent.DiscardParcelsRequest) => {
        for (const parcel of parcels) this.parcels.delete(parcel);
        return {};
      }),
      destroySandbox: wrap("destroy", async ({ id, pausedRun }: hostagent.DestroySandboxRequest) => {
        const found = this.sandboxes.get(id);
        const isOther = found?.state !== SandboxState.PAUSED || found.run !== pausedRun;
        if (pausedRun !== undefined && isOther) return {};
        if (this.sandboxes.has(id)) this.change(id, SandboxState.STOPPED);
        this.sandboxes.delete(id);
        return {};
      }),
      checkpointSandbox: wrap("checkpoint", ({ id }: { id: string }) => this.#checkpoint(id)),
      rollbackSandbox: wrap("rollback", (request: hostagent.RollbackSandboxRequest) => this.#rollback(request)),
      listSnapshots: wrap("snapshots", async () => ({ snapshots: [...this.snapshots.values()] })),
      deleteSnapshot: wrap("drop", async ({ id }: { id: string }) => {
        this.snapshots.delete(id);
        return {};
      }),
      setSandboxNetwork: wrap("network", async ({ id, network }: hostagent.SetSandboxNetworkRequest) => {
        this.#need(id);
        this.networks.set(id, network!);
        return {};
      }),
      getSandboxNetwork: wrap("network", async ({ id }: hostagent.GetSandboxNetworkRequest) => {
        this.#need(id);
        const flow = {
          host: "api.test",
          ip: "203.0.113.1",
          port: 443,
          protocol: "tcp",
          count: this.reached,
          lastAtMs: 1_000n,
        };
        return { connections: [{ ...flow, sentBytes: 3n }], denials: [{ ...flow, host: "" }], detail: "fake" };
      }),
      getSandbox: wrap("get", async ({ id }: { id: string }) => ({ sandbox: this.#need(id) })),
      pingSandbox: wrap("ping", async ({ id }: { id: string }) => {
        this.#need(id);
        return {};
      }),
      setSandboxTimeout: wrap("timeout", async ({ id, timeoutSec }: { id: string; timeoutSec: number }) => ({
        sandbox: this.#put({ ...this.#need(id), timeoutSec }),
      })),
      waitForPort: wrap("wait", async ({ id, port }: hostagent.WaitForPortRequest) => {
        this.#need(id);
        if (!this.apps.has(port)) throw new WrennError("timeout", "nothing listened");
        return {};
      }),
      getSandboxLogs: wrap("logs", async ({ id, after, limit, newest }: hostagent.GetSandboxLogsRequest) => {
        this.#need(id);
        const entries = this.entries.filter((entry) => entry.cursor > after);
        return { entries: newest ? entries.slice(-limit) : entries.slice(0, limit) };
      }),
      getSandboxMetrics: wrap("metrics", async ({ id, startMs }: hostagent.GetSandboxMetricsRequest) => {
        this.#need(id);
        return { cpuCount: 2, points: this.points.filter((point) => point.timestampMs >= startMs) };
      }),
      listSandboxes: wrap("get", async () => ({ sandboxes: [...this.sandboxes.values()] })),
      watchSandboxes: (_: unknown, context: HandlerContext) => this.#watch(context.signal),
    };
  }

  async #create(request: hostagent.CreateSandboxRequest) {
    this.envs.set(request.id, request.envs);
    this.tokens.set(request.id, request.accessToken);
    if (request.defaults) this.defaults.set(request.id, request.defaults);
    if (request.network) this.networks.set(request.id, request.network);
    this.mounts.set(
      request.id,
      request.mounts.map(({ volume, path }) => ({ volume, path })),
    );
    if (request.template !== "minimal") throw new WrennError("not_found", "no such template");
    const from = request.snapshot ? this.#needSnapshot(request.snapshot) : undefined;
    await Bun.sleep(this.delayMs);
    this.#put({
      ...blank(request.id),
      run: request.run,
      state: SandboxState.RUNNING,
      vcpus: from?.vcpus ?? (request.vcpus || 1),
      memoryMib: from?.memoryMib ?? (request.memoryMib || 512),
      diskMib: from?.diskMib ?? (request.diskMib || 1024),
      timeoutSec: request.timeoutSec,
      origin: request.snapshot,
    });
    await this.#step("created");
    return { sandbox: this.#need(request.id) };
  }

  #needSnapshot(id: string): hostagent.Snapshot {
    const found = this.snapshots.get(id);
    if (!found) throw new WrennError("not_found", "no such snapshot");
    return found;
  }

  /** As the real host, it notes the new origin of a running sandbox without a report of its own. */
  async #checkpoint(id: string) {
    const found = this.#need(id);
    if (found.state !== SandboxState.RUNNING && found.state !== SandboxState.PAUSED)
      throw new WrennError("invalid_state", "wrong state");
    await Bun.sleep(this.delayMs);
    const { template, vcpus, memoryMib, diskMib, origin: parent } = found;
    const sizes = { vcpus, memoryMib, diskMib, memoryBytes: 1_000n, diskBytes: 200n };
    const defaults = this.defaults.get(id);
    const facts = { id: randomId(), sandboxId: id, parent, template, ...sizes, ...(defaults && { defaults }) };
    const snapshot = create(SnapshotSchema, facts);
    this.snapshots.set(snapshot.id, snapshot);
    if (found.state === SandboxState.RUNNING)
      this.sandboxes.set(id, create(SandboxSchema, { ...found, origin: snapshot.id }));
    return { snapshot };
  }

  async #rollback({ id, run, snapshot }: hostagent.RollbackSandboxRequest) {
    const found = this.#need(id);
    this.#needSnapshot(snapshot);
    this.#put({ ...found, state: SandboxState.RESUMING, run });
    await Bun.sleep(this.delayMs);
    return { sandbox: this.#put({ ...found, state: SandboxState.RUNNING, run, origin: snapshot }) };
  }

  async #bring(parcel: string): Promise<void> {
    await this.#step("bring");
    const found = this.parcels.get(parcel);
    if (!found) throw new WrennError("not_found", "no such parcel");
    if (!this.sandboxes.has(found.id)) this.sandboxes.set(found.id, found);
  }

  async #move(id: string, how: "pause" | "resume", facts: { run?: bigint; diskOnly: boolean }) {
    const from = how === "pause" ? SandboxState.RUNNING : SandboxState.PAUSED;
    const [via, to, after] =
      how === "pause"
        ? ([SandboxState.PAUSING, SandboxState.PAUSED, "paused"] as const)
        : ([SandboxState.RESUMING, SandboxState.RUNNING, "resumed"] as const);
    const found = this.#need(id);
    if (found.state !== from) throw new WrennError("invalid_state", "wrong state");
    this.#put({ ...found, state: via, ...facts });
    await Bun.sleep(this.delayMs);
    const done = this.#put({ ...this.#need(id), state: to });
    await this.#step(after);
    return { sandbox: done };
  }

  async *#watch(
    signal: AbortSignal,
  ): AsyncGenerator<{ event: { case: "changed"; value: hostagent.Sandbox } | { case: "synced"; value: object } }> {
    await this.#step("watch");
    let next = this.#log.length;
    for (const value of this.sandboxes.values()) yield { event: { case: "changed", value } };
    yield { event: { case: "synced", value: {} } };
    this.#meetings++;
    while (!signal.aborted) {
      while (next < this.#log.length) yield { event: { case: "changed", value: this.#log[next++]! } };
      await new Promise<void>((wake) => {
        const done = () => {
          this.#watchers.delete(done);
          wake();
        };
        this.#watchers.add(done);
        signal.addEventListener("abort", done, { once: true });
      });
    }
  }

  /** Volumes are names here; their content is what was sent last. */
  async #volume(request: Request): Promise<Response> {
    await this.#step("volume");
    const { pathname, search } = new URL(request.url);
    const [, , id = "", part] = pathname.split("/");
    this.calls.push(`${request.method} ${part ?? "volume"}${search}`);
    const text = await request.text();
    if (part === undefined && request.method === "PUT") this.volumes.set(id, "");
    if (part === undefined && request.method === "DELETE") this.volumes.delete(id);
    if (part === undefined) return new Response(null, { status: 204 });
    if (!this.volumes.has(id)) throw new WrennError("not_found", "no such volume");
    if (request.method === "PUT") this.volumes.set(id, text);
    return request.method === "PUT"
      ? Response.json({ name: "f" }, { status: 201 })
      : new Response(this.volumes.get(id));
  }

  async #proxy(request: Request): Promise<Response> {
    await this.#step("proxy");
    const url = new URL(request.url);
    const [, id, port, path] = /^\/proxy\/([^/]+)\/(\d+)(\/.*)$/.exec(url.pathname)!;
    if (this.#need(id!).state !== SandboxState.RUNNING)
      throw new WrennError("invalid_state", "The sandbox is paused.", { details: { id: id!, state: "paused" } });
    this.proxied++;
    request.signal.addEventListener("abort", () => this.#aborts.shift()?.());
    const app = port === "49983" ? this.guest : this.apps.get(Number(port));
    if (!app) throw new WrennError("agent_error", "the port is not open", { details: { port: port! } });
    const broken = this.cut || path!.startsWith("/cut-") ? await brokenServer(path === "/cut-length") : undefined;
    const answer = await fetch((broken?.address ?? app) + path + url.search, {
      method: request.method,
      headers: request.headers,
      body: request.body,
      signal: request.signal,
      decompress: false,
      redirect: "manual",
    } as RequestInit);
    // Later than the head is on its way to the client, or it would learn of the end first.
    if (broken) setTimeout(broken.cut, 100);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }
}

/** A server that answers one request with the begin of a body, and drops the connection when it is told to. */
async function brokenServer(withLength: boolean): Promise<{ address: string; cut(): void }> {
  let cut = () => {};
  const server = createServer((socket) => {
    cut = () => void socket.destroy();
    socket.on("error", () => {});
    socket.once("data", () => {
      const framing = withLength ? "content-length: 200000" : "transfer-encoding: chunked";
      const type = "content-type: application/connect+proto";
      const body = withLength ? "x".repeat(70_000) : "1\r\n\0\r\n";
      socket.write(`HTTP/1.1 200 OK\r\n${framing}\r\n${type}\r\n\r\n${body}`);
      server.close();
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, cut: () => cut() };
}

/** The WebSockets of every guest: each speaks first, repeats what it hears, and ends when told to. */
const talk: Bun.WebSocketHandler<string> = {
  open: (ws) => void ws.send(`hello ${ws.data}`),
  message: (ws, message) => (message === "end" ? ws.close(4001, "over") : void ws.send(message)),
};

const refusal = (error: WrennError) => Response.json(error, { status: error.status });

const blank = (id: string) =>
  create(SandboxSchema, {
    id,
    template: "minimal",
    createdAtMs: BigInt(Date.now()),
    startedAtMs: BigInt(Date.now()),
    lastActiveAtMs: BigInt(Date.now()),
    guestIp: "169.254.0.21",
    hostIp: "127.0.0.1",
    versions: { agent_version: "0.0.0", envd_version: "0.6.4" },
  });
