import { statfsSync } from "node:fs";
import {
  decodeVolumeMessage,
  encodeVolumeMessage,
  headers,
  type VolumeHello,
  type VolumeReady,
  type VolumeRequest,
  volumesPort,
  WrennError,
} from "@wrenn/contract";
import type { Logger } from "pino";
import { agentOf } from "../guest-agent.ts";
import type { Machine } from "../machine.ts";
import type { VolumeMount } from "../record.ts";
import { minFreeDiskMib } from "../room.ts";
import type { Sandbox } from "../sandbox.ts";
import { Share } from "./share.ts";
import { isRoot } from "./tree.ts";
import type { Volumes } from "./volumes.ts";

/** An emulated guest needs seconds to start its volume server, and more when others start at once. */
const openTimeoutMs = 60_000;
/** Between two tries to reach a server that is starting, or that was lost. */
const shortestWaitMs = 20;
const longestWaitMs = 1_000;
/** How long it is believed that there is room: less than it takes to write what is kept free. */
const roomMs = 100;

/** Volumes in sandboxes: for each machine a connection to its guest, on which the guest asks for its files. */
export class Mounts {
  constructor(
    readonly volumes: Volumes,
    /** Folder of the kernels, and of what belongs to them. */
    readonly kernels: string,
    readonly log: Logger,
  ) {}

  /**
   * Gives a running machine the volumes of its sandbox; answers when the guest has mounted them, or at once when there are
   * none. The connection is opened again when it breaks, and ends with the machine. Throws `agent_error` with the cause,
   * `unimplemented` for a kernel that cannot mount.
   */
  async attach(sandbox: Sandbox, machine: Machine, kernel: string): Promise<void> {
    const link = this.#link(sandbox, machine, kernel);
    await link?.open();
    void link?.keep();
  }

  /** As {@link Mounts.attach}, of a machine that had them from a former agent: keeps nobody waiting. */
  reattach(sandbox: Sandbox, machine: Machine, kernel: string): void {
    const link = this.#link(sandbox, machine, kernel);
    link?.lose();
    void link?.keep();
  }

  #link(sandbox: Sandbox, machine: Machine, kernel: string): Link | undefined {
    const { mounts = [] } = sandbox.record.spec;
    return mounts.length === 0 ? undefined : machine.held.use(new Link({ sandbox, machine, mounts, kernel }, this));
  }
}

/** Whose machine it is, and what it mounts. */
type Attached = {
  readonly sandbox: Sandbox;
  readonly machine: Machine;
  readonly mounts: readonly VolumeMount[];
  readonly kernel: string;
};

/** The connection to one machine. */
class Link implements AsyncDisposable {
  #socket: WebSocket | undefined;
  #lost = Promise.withResolvers<void>();
  #isClosed = false;

  constructor(
    readonly attached: Attached,
    readonly ground: Mounts,
  ) {}

  /** Connects, and has everything mounted. */
  async open(): Promise<void> {
    const { sandbox, machine, kernel } = this.attached;
    const { token } = sandbox.record;
    await agentOf(machine).startVolumes(token, `${this.ground.kernels}/fuse-${kernel}.ko`);
    const socket = await this.#connected(token);
    const hello: VolumeHello = { mounts: this.attached.mounts.map(({ path }) => ({ path, owned: isRoot })) };
    socket.send(JSON.stringify(hello));
    const ready = await firstMessage(socket);
    if (!("ready" in ready)) {
      socket.close();
      throw new WrennError("agent_error", `the volumes could not be mounted: ${ready.failure}`, {
        remedy: "Choose a path that is an empty folder, or none yet.",
      });
    }
    this.#serve(socket);
  }

  /** There is no connection (any more). */
  lose(): void {
    this.#lost.resolve();
  }

  /** Opens it again whenever it breaks, as when the guest's server was killed. */
  async keep(): Promise<void> {
    const { sandbox } = this.attached;
    for (let waitMs = shortestWaitMs; ; waitMs = Math.min(waitMs * 2, longestWaitMs)) {
      await this.#lost.promise;
      if (this.#isClosed) return;
      await Bun.sleep(waitMs);
      this.#lost = Promise.withResolvers<void>();
      try {
        await this.open();
        waitMs = shortestWaitMs;
      } catch (error) {
        if (this.#isClosed) return;
        this.ground.log.warn({ id: sandbox.id, error }, "the guest's volumes are not reached; tried again");
        this.lose();
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.lose();
    this.#socket?.close();
  }

  /** A connection to the guest's server, which may be starting. */
  async #connected(token: string): Promise<WebSocket> {
    const { nic, vm } = this.attached.machine;
    if (nic.reach(volumesPort) === undefined) await vm.forward(volumesPort);
    const url = `ws://${nic.reach(volumesPort)}/`;
    const deadline = performance.now() + openTimeoutMs;
    for (let waitMs = shortestWaitMs; !this.#isClosed; waitMs = Math.min(waitMs * 1.5, longestWaitMs / 4)) {
      const socket = await connect(url, token);
      if (socket) return socket;
      if (performance.now() > deadline) break;
      await Bun.sleep(waitMs);
    }
    throw new WrennError("agent_error", "the guest's volume server did not start", {
      remedy: "The guest may have too little memory for it (about 64 MiB); give it more, or try again.",
    });
  }

  #serve(socket: WebSocket): void {
    this.#socket = socket;
    const shares = new Map<string, Share | undefined>();
    for (const { path, volume } of this.attached.mounts) shares.set(path, this.#share(volume));
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) void answer(socket, new Uint8Array(data), shares);
    };
    socket.onclose = () => {
      for (const share of shares.values()) share?.tree[Symbol.dispose]();
      this.lose();
    };
    if (socket.readyState !== WebSocket.OPEN) socket.onclose(new CloseEvent("close"));
  }

  /** `undefined` for a volume that was removed: its guests are told so. */
  #share(id: string): Share | undefined {
    const { volumes } = this.ground;
    try {
      return new Share(volumes.open(id), roomIn(volumes.root));
    } catch {
      return undefined;
    }
  }
}

const stale = 116; // ESTALE

async function answer(socket: WebSocket, message: Uint8Array, shares: Map<string, Share | undefined>): Promise<void> {
  try {
    const { head, body } = decodeVolumeMessage<VolumeRequest>(message);
    const result = (await shares.get(head.mount)?.answer(head, body)) ?? { errno: stale };
    const { body: bytes, ...rest } = result;
    if (socket.readyState === WebSocket.OPEN) socket.send(encodeVolumeMessage({ ...rest, id: head.id }, bytes));
  } catch {
    socket.close(); // no message of ours: whoever has the token is not the server that is meant to be there
  }
}

/** `undefined` when nobody listens there yet. */
async function connect(url: string, token: string): Promise<WebSocket | undefined> {
  // Bun takes options where browsers, whose types are in force here, take protocols.
  const options = { headers: { [headers.accessToken]: token } } as unknown as string[];
  const socket = new WebSocket(url, options);
  socket.binaryType = "arraybuffer";
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.onopen = () => resolve(true);
  socket.onerror = () => resolve(false);
  socket.onclose = () => resolve(false);
  return (await promise) ? socket : undefined;
}

async function firstMessage(socket: WebSocket): Promise<VolumeReady> {
  const { promise, resolve } = Promise.withResolvers<VolumeReady>();
  socket.onmessage = ({ data }) => resolve(JSON.parse(String(data)) as VolumeReady);
  socket.onclose = () => resolve({ failure: "the guest's volume server ended" });
  return await promise;
}

/** Whether a disk has more room than what is kept free of guests. */
function roomIn(path: string): () => boolean {
  let [known, until] = [true, 0];
  return () => {
    const now = performance.now();
    if (now < until) return known;
    const { bavail, bsize } = statfsSync(path);
    until = now + roomMs;
    known = (bavail * bsize) / 2 ** 20 > minFreeDiskMib;
    return known;
  };
}
