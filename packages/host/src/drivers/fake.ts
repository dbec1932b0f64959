import { copyFile, mkdir, stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { agentPort, type InitRequest, WrennError } from "@wrenn/contract";
import type {
  BaseDisk,
  BootSpec,
  Captured,
  Disk,
  Disks,
  Frozen,
  Nets,
  Nic,
  Vm,
  VmHandle,
  Vmm,
  VmSpec,
} from "./ports.ts";

/** A guest's memory, as far as the fake has one: what `PUT /memory` stored and what `/init` gave. */
type Memory = { text: string; init: InitRequest | undefined };

type Machine = {
  spec: VmSpec;
  memory: Memory;
  disk: string;
  /** What its disk was grown to. */
  diskMib?: number;
  isStopped: boolean;
  /** The access token that the last `/init` came with. */
  presented?: string | null;
  server: Bun.Server<undefined>;
  end: (how: string) => void;
};

/**
 * Machines that live in this process and serve a real guest port: they pass the suites of the ports, so that recipes,
 * faults and fleets can be exercised where thousands of real VMs have no room. A world outlives the agents that use it,
 * as the kernel does.
 */
export class FakeWorld {
  readonly machines = new Map<number, Machine>();
  /** Called before each effect with its name, such as `vmm.restore`; what it throws, the effect throws. */
  before: (effect: string) => void | Promise<void> = () => {};
  /** Whether guests acknowledge their identity. */
  acknowledges = true;
  /** What every guest says of its load, and how often one was asked. */
  load: Record<string, number> = { mem_used: 1_000, disk_total: 2_000 };
  asked = 0;
  /** Ports of every guest on which nothing listens. */
  readonly closed = new Set<number>();
  /** Mounts a guest's volumes, over the connection on which it asks for their files; gives what it says of that. */
  mount: (hello: string, host: Bun.ServerWebSocket<undefined>) => string = () => JSON.stringify({ ready: true });
  /** Hears what a guest's volume server is answered, which is sent back otherwise. */
  heard: ((answer: Uint8Array) => void) | undefined;
  /** What every guest says has happened in it. */
  history: unknown = {};
  #nextPid = 1 << 23; // beyond the kernel's highest process id

  readonly vmm: Vmm = new FakeVmm(this);
  readonly disks: Disks = new FakeDisks(this);
  readonly nets: Nets = new FakeNets(this);

  /** Starts a machine and gives its process id. */
  start(spec: VmSpec, memory: Memory, isStopped: boolean): { pid: number; exited: Promise<string> } {
    const pid = this.#nextPid++;
    const { promise: exited, resolve: end } = Promise.withResolvers<string>();
    const machine: Machine = { spec, memory, disk: spec.disk.path, isStopped, end, server: undefined as never };
    machine.server = Bun.serve({
      ...{ port: 0, hostname: "127.0.0.1" },
      websocket: {
        message: (socket, frame) => {
          if (typeof frame !== "string" && this.heard) this.heard(frame);
          else socket.send(isHello(frame) ? this.mount(frame, socket) : frame);
        },
      },
      fetch: (request, server) => (server.upgrade(request) ? undefined : this.#answer(machine, request)),
    });
    this.machines.set(pid, machine);
    return { pid, exited };
  }

  /** Ends a machine, as `kill -9` does. */
  async kill(pid: number, how = "killed by SIGKILL"): Promise<void> {
    const machine = this.machines.get(pid);
    this.machines.delete(pid);
    await machine?.server.stop(true);
    machine?.end(how);
  }

  async #answer(machine: Machine, request: Request): Promise<Response> {
    while (machine.isStopped && !request.signal.aborted) await Bun.sleep(1); // a stopped guest answers when it runs again
    const { pathname } = new URL(request.url);
    if (pathname === "/init") {
      try {
        await this.before("guest.init");
      } catch {
        return new Response(null, { status: 500 });
      }
      machine.memory.init = (await request.json()) as InitRequest;
      machine.presented = request.headers.get("x-access-token");
      return Response.json({ reseeded: this.acknowledges, timestamp: "", hostname: "", version: "fake" });
    }
    if (pathname === "/memory" && request.method === "PUT") machine.memory.text = await request.text();
    if (pathname === "/memory") return new Response(machine.memory.text);
    if (pathname === "/slow") return slowly(Number(new URL(request.url).search.slice(1)));
    if (pathname.startsWith("/ports/"))
      return new Response(null, { status: this.closed.has(Number(pathname.slice(7))) ? 404 : 204 });
    if (pathname === "/logs") return Response.json(this.history);
    if (pathname === "/metrics") {
      this.asked++;
      return Response.json(this.load);
    }
    if (pathname === "/headers") return Response.json(Object.fromEntries(request.headers));
    if (pathname.startsWith("/filesystem.Filesystem/"))
      return new Response(null, { headers: { "content-type": "application/proto" } });
    if (pathname === "/process.Process/Start" && request.headers.get("content-type") === "application/connect+proto")
      return connectStream([hex("0a041a021001")], "proto");
    if (pathname === "/process.Process/Start") return connectStream([{ event: { end: { exited: true } } }]);
    return Response.json({ version: "fake" });
  }
}

/** The first message to a guest's volume server, which is no answer to it. */
const isHello = (frame: string | Buffer): frame is string => typeof frame === "string" && frame.startsWith('{"mounts"');

/** An answer that takes `ms`: a head at once, and one byte at the end. */
function slowly(ms: number): Response {
  async function* body() {
    yield new Uint8Array(1);
    await Bun.sleep(ms);
    yield new Uint8Array(1);
  }
  return new Response(body() as unknown as BodyInit);
}

/** A Connect stream and its end (Connect protocol, "Streaming responses"); messages are JSON values, or encoded ones. */
function connectStream(messages: readonly unknown[], format: "json" | "proto" = "json"): Response {
  const frame = (flags: number, message: unknown) => {
    const body = message instanceof Uint8Array ? message : new TextEncoder().encode(JSON.stringify(message));
    const head = new Uint8Array(5);
    head[0] = flags;
    new DataView(head.buffer).setUint32(1, body.length);
    return [head, body];
  };
  const parts = [...messages.flatMap((message) => frame(0, message)), ...frame(2, {})];
  return new Response(new Blob(parts as BlobPart[]), { headers: { "content-type": `application/connect+${format}` } });
}

const hex = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));

class FakeVm implements Vm {
  constructor(
    readonly world: FakeWorld,
    readonly handle: VmHandle,
    readonly exited: Promise<string>,
  ) {}

  get pid(): number {
    return this.handle.pid;
  }

  get machine(): Machine {
    const machine = this.world.machines.get(this.pid);
    if (!machine) throw new WrennError("agent_error", "the VM has ended");
    return machine;
  }

  async stop(): Promise<void> {
    await this.world.before("vm.stop");
    this.machine.isStopped = true;
  }

  async cont(): Promise<void> {
    await this.world.before("vm.cont");
    this.machine.isStopped = false;
  }

  async detach(): Promise<void> {}

  async forward(guestPort: number): Promise<void> {
    await this.world.before("vm.forward");
    const { nic } = this.machine.spec;
    if (nic.reach(guestPort) === undefined) nic.forwarded(new Map([[guestPort, this.machine.server.port!]]));
  }

  async switchDisk(next: Disk): Promise<void> {
    await this.world.before("vm.switchDisk");
    this.machine.disk = next.path;
  }

  async growDisk(mib: number): Promise<void> {
    await this.world.before("vm.growDisk");
    this.machine.diskMib = mib;
  }

  async writesTo(disk: Disk): Promise<boolean> {
    return this.machine.disk === disk.path;
  }

  async capture(dir: string): Promise<Captured> {
    await this.world.before("vm.capture");
    const taken = JSON.stringify(this.machine.memory);
    return {
      state: { device: Buffer.from(taken), pages: [] },
      write: async () => {
        await this.world.before("vm.write");
        return Bun.write(`${dir}/memory.json`, taken);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world.kill(this.pid);
  }
}

class FakeVmm implements Vmm {
  readonly name = "fake";
  readonly version = "1";
  readonly accelerator = "none";
  readonly fingerprint = "fake";
  readonly group = 0;
  readonly takes = { disk: ["raw", "qcow2"], link: ["user"] } as const;

  constructor(readonly world: FakeWorld) {}

  async boot(spec: BootSpec): Promise<Vm> {
    await this.world.before("vmm.boot");
    return this.#run(spec, { text: "", init: undefined }, false);
  }

  async freeze(vm: Vm, dir: string): Promise<void> {
    await this.world.before("vmm.freeze");
    await (await vm.capture(dir)).write();
    await vm[Symbol.asyncDispose]();
  }

  async bootOver(spec: VmSpec, _: Frozen): Promise<Vm> {
    await this.world.before("vmm.bootOver");
    await readThrough(spec.disk.path);
    return this.#run(spec, { text: "", init: undefined }, true);
  }

  async restore(spec: VmSpec, frozen: Frozen, saved?: string): Promise<Vm> {
    await this.world.before("vmm.restore");
    const memory = (await Bun.file(`${saved ?? frozen.dir}/memory.json`).json()) as Memory;
    await readThrough(spec.disk.path);
    return this.#run(spec, memory, true);
  }

  async restoreFrom(spec: VmSpec, _: Frozen, capturing: Promise<Captured>): Promise<Vm> {
    await this.world.before("vmm.restoreFrom");
    await readThrough(spec.disk.path);
    const { device } = (await capturing).state!;
    return this.#run(spec, JSON.parse(Buffer.from(device).toString()) as Memory, true);
  }

  async adopt(spec: VmSpec, _: Frozen, handle: VmHandle): Promise<Vm | undefined> {
    const machine = this.world.machines.get(handle.pid);
    if (!machine || machine.spec.dir !== spec.dir) return undefined;
    spec.nic.forwarded(new Map(handle.ports));
    machine.spec = spec; // its network is this agent's now
    const { promise, resolve } = Promise.withResolvers<string>();
    machine.end = resolve;
    return new FakeVm(this.world, handle, promise);
  }

  async sweep(root: string, keep: ReadonlySet<number>): Promise<number[]> {
    const strays = [...this.world.machines].filter(
      ([pid, { spec }]) => `${spec.dir}/`.startsWith(`${root}/`) && !keep.has(pid),
    );
    for (const [pid] of strays) await this.world.kill(pid);
    return strays.map(([pid]) => pid);
  }

  #run(spec: VmSpec, memory: Memory, isStopped: boolean): Vm {
    const { pid, exited } = this.world.start(spec, memory, isStopped);
    const ports: VmHandle["ports"] = [[agentPort, this.world.machines.get(pid)!.server.port!]];
    spec.nic.forwarded(new Map(ports));
    return new FakeVm(this.world, { pid, startTime: "0", ports }, exited);
  }
}

class FakeDisks implements Disks {
  readonly name = "fake";
  readonly gives = "raw" as const;
  readonly extension = "raw";

  constructor(readonly world: FakeWorld) {}

  async create(base: BaseDisk, path: string): Promise<Disk> {
    await this.world.before("disk.create");
    // A layer beside its base names it relatively, so that their folder can be renamed.
    const isBeside = dirname(base.path) === dirname(path);
    await Bun.write(path, JSON.stringify({ base: isBeside ? basename(base.path) : base.path }));
    return this.#layer(path);
  }

  async open(path: string): Promise<Disk> {
    await this.world.before("disk.open");
    await stat(path).catch((cause) => {
      throw new WrennError("not_found", `the disk ${path} is missing`, { cause });
    });
    return this.#layer(path);
  }

  async flatten(path: string, base: BaseDisk): Promise<void> {
    await this.world.before("disk.flatten");
    await Bun.write(path, JSON.stringify({ base: base.path }));
  }

  async rebase(path: string, base: BaseDisk): Promise<void> {
    await this.world.before("disk.rebase");
    await Bun.write(path, JSON.stringify({ base: base.path }));
  }

  async copyOut(path: string, to: string): Promise<void> {
    await copyFile(await readThrough(path), to);
  }

  async sweep(): Promise<void> {}

  #layer(path: string): Disk {
    return {
      path,
      format: "raw",
      device: path,
      usedBytes: async () => (await stat(path)).size,
      [Symbol.asyncDispose]: async () => {},
    };
  }
}

class FakeNets implements Nets {
  readonly name = "fake";
  readonly gives = "user" as const;
  readonly egress = { holdsPolicies: true, isOpen: true, detail: "fake" };

  constructor(readonly world: FakeWorld) {}

  async sweep(): Promise<void> {}

  async attach(): Promise<Nic> {
    await this.world.before("net.attach");
    const reachable = new Map<number, number>();
    return {
      link: { kind: "user", guestPorts: [agentPort], isOpen: false },
      guestIp: "127.0.0.1",
      forwarded: (ports) => {
        for (const [guest, host] of ports) reachable.set(guest, host);
      },
      reach: (guestPort) => (reachable.has(guestPort) ? `127.0.0.1:${reachable.get(guestPort)}` : undefined),
      [Symbol.asyncDispose]: async () => {},
    };
  }
}

/** Follows a layer down to its image. Throws where one is missing, as a guest's first read would. */
async function readThrough(path: string): Promise<string> {
  if (path.endsWith(".ext4")) return path;
  const { base } = (await Bun.file(path).json()) as { base: string };
  return await readThrough(resolve(dirname(path), base));
}

/** Writes an image that fake machines boot, as `make images` writes real ones. */
export async function fakeImage(dir: string, name: string): Promise<void> {
  await mkdir(`${dir}/images/${name}`, { recursive: true });
  await mkdir(`${dir}/kernels`, { recursive: true });
  await Bun.write(`${dir}/kernels/vmlinux-1.0.0`, "kernel");
  await Bun.write(`${dir}/images/${name}/rootfs.ext4`, new Uint8Array(2 ** 20));
  const facts = {
    name,
    digest: `sha256:${name}`,
    sizeBytes: 2 ** 20,
    defaultUser: "root",
    defaultWorkdir: "/root",
    env: {},
  };
  await Bun.write(`${dir}/images/${name}/image.json`, JSON.stringify({ ...facts, createdAt: "2026-01-01T00:00:00Z" }));
}
