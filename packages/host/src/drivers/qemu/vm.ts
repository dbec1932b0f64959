import { readFileSync, writeSync } from "node:fs";
import { WrennError } from "@wrenn/contract";
import { damaged } from "../../memory/data-file.ts";
import { loadGeneration, saveGeneration } from "../../memory/generation.ts";
import { pageBytes } from "../../memory/pages.ts";
import { SystemError, widenBacklog } from "../libc.ts";
import { give, takeBack } from "../owner.ts";
import type { Capture, Captured, Disk, Vm, VmHandle, VmSpec } from "../ports.ts";
import { killProcess } from "../process.ts";
import { MemoryWriter, takeChanged } from "../process-memory.ts";
import { diskId, guestNet, netId } from "./args.ts";
import type { Qmp } from "./qmp.ts";

/** A QEMU process and its control connection. */
export class QemuVm implements Vm {
  readonly handle: VmHandle;
  readonly exited: Promise<string>;

  constructor(
    readonly spec: Pick<VmSpec, "name" | "nic">,
    readonly qmp: Qmp,
    handle: VmHandle,
    exited: Promise<string>,
    /** The template's memory file that this VM maps privately; `undefined` for one that is to become a template. */
    readonly memory: string | undefined,
  ) {
    this.handle = handle;
    this.exited = exited;
  }

  get pid(): number {
    return this.handle.pid;
  }

  async stop(): Promise<void> {
    await this.qmp.call("stop"); // also flushes the disk: what the guest wrote is in the layer's file
  }

  async cont(): Promise<void> {
    await this.qmp.call("cont");
  }

  async detach(): Promise<void> {
    await this.qmp[Symbol.asyncDispose](); // QEMU serves one control connection at a time
  }

  async forward(guestPort: number): Promise<void> {
    if (this.spec.nic.reach(guestPort) !== undefined) return;
    const said = await this.qmp.human(`hostfwd_add ${netId} tcp:127.0.0.1:0-${guestNet.ip}:${guestPort}`);
    if (said.trim()) throw new WrennError("agent_error", `QEMU did not forward port ${guestPort}: ${said.trim()}`);
    this.spec.nic.forwarded(await forwardedPorts(this.qmp, this.pid));
  }

  async switchDisk(next: Disk): Promise<void> {
    await give(this.spec.name, [next.device]);
    const layer = { device: diskId, "snapshot-file": next.device, format: next.format, mode: "existing" };
    await this.qmp.call("blockdev-snapshot-sync", layer);
  }

  async growDisk(mib: number): Promise<void> {
    await this.qmp.call("block_resize", { device: diskId, size: mib * 2 ** 20 });
  }

  async writesTo(disk: Disk): Promise<boolean> {
    type Block = { device: string; inserted?: { file: string } };
    const blocks = await this.qmp.call<Block[]>("query-block");
    const file = blocks.find((block) => block.device === diskId)?.inserted?.file;
    if (!file) throw new WrennError("agent_error", "the VM has no disk");
    return file === disk.device;
  }

  async capture(dir: string, { base, runsOn = false }: Capture = {}): Promise<Captured> {
    const template = this.memory;
    if (!template) throw new WrennError("internal_error", "this VM has no template to save against");
    await give(this.spec.name, [dir]);
    await this.saveDevices(`${dir}/device`);
    const taken = takeChanged(this.pid, template, runsOn);
    const save = () => saveGeneration(dir, taken.pages, { template, base, others: "template" });
    const early = taken.isCopied ? undefined : await save();
    return {
      state: taken.isCopied ? { device: readFileSync(`${dir}/device`), pages: [...taken.pages] } : undefined,
      write: async () => {
        const { bytes } = early ?? (await save());
        await takeBack(0, { [dir]: 0o700, [`${dir}/device`]: 0o600 });
        const manifest: SavedManifest = { device: { sha256: await sha256(`${dir}/device`) } };
        await Bun.write(`${dir}/qemu.json`, JSON.stringify(manifest));
        return bytes;
      },
    };
  }

  /** Writes the state of every device, without memory, to `path`. */
  async saveDevices(path: string): Promise<void> {
    await this.qmp.call("xen-save-devices-state", { filename: path, live: false });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.detach();
    await killProcess(this.handle);
  }
}

/** As many connections as a burst of requests opens; QEMU itself lets one wait and the kernel drops the others. */
const waitingConnections = 1_024;

/**
 * The ports that the QEMU process `pid` forwards: the machine protocol has no query for them, the human monitor has.
 * Their sockets take bursts of connections afterwards.
 */
export async function forwardedPorts(qmp: Qmp, pid: number): Promise<Map<number, number>> {
  const table = await qmp.human("info usernet");
  const rows = [...table.matchAll(/TCP\[HOST_FORWARD\]\s+(\d+)\s+[\d.]+\s+(\d+)\s+[\d.]+\s+(\d+)/g)];
  for (const [, socket] of rows) widen(pid, Number(socket));
  return new Map(rows.map(([, , host, guest]) => [Number(guest), Number(host)]));
}

/** Some kernels and containers forbid it; bursts are slower there. */
function widen(pid: number, socket: number): void {
  try {
    widenBacklog(pid, socket, waitingConnections);
  } catch (thrown) {
    if (!(thrown instanceof SystemError)) throw thrown;
  }
}

/** What `Vm.capture` writes beside its files. */
type SavedManifest = { readonly device: { sha256: string } };

/** Puts the memory of a folder of `Vm.capture` into a VM that waits for it. Throws `internal_error` naming a damaged file. */
export async function loadSaved(pid: number, memory: string, dir: string): Promise<void> {
  const manifest = (await Bun.file(`${dir}/qemu.json`).json()) as SavedManifest;
  if ((await sha256(`${dir}/device`)) !== manifest.device.sha256)
    throw damaged(`${dir}/device`, "its checksum differs");
  using writer = new MemoryWriter(pid, memory);
  await loadGeneration(dir, (page, bytes) => writer.put(page, bytes));
}

/** Pages that are put into a VM before others of this process get their turn. */
const pagesATurn = 1_024;

/** Puts what was captured of another VM into one that waits for it; `device` is the descriptor that it reads devices from. */
export async function loadCaptured(
  { pid, memory }: { pid: number; memory: string },
  capturing: Promise<Captured>,
  device: number,
): Promise<void> {
  const { state } = await capturing;
  if (!state) throw new WrennError("unavailable", "too much memory was changed to be kept at hand");
  writeSync(device, state.device, 0, state.device.length, 0); // its position is the VM's, which reads from the start
  using writer = new MemoryWriter(pid, memory);
  let sinceTurn = 0;
  for (const { page, bytes } of state.pages) {
    writer.put(page, bytes);
    sinceTurn += bytes.length / pageBytes;
    if (sinceTurn < pagesATurn) continue;
    sinceTurn = 0;
    await new Promise(setImmediate);
  }
}

const sha256 = async (path: string): Promise<string> =>
  new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
