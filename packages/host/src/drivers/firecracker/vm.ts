import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, type Stats, statSync } from "node:fs";
import { chmod, copyFile, rename } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import { loadGeneration, saveGeneration } from "../../memory/generation.ts";
import { pagesOf } from "../../memory/pages.ts";
import type { Capture, Captured, Disk, Vm, VmHandle, VmSpec } from "../ports.ts";
import { killProcess } from "../process.ts";
import { isMapped, MemoryWriter, type Taken, takeChanged } from "../process-memory.ts";
import type { FirecrackerApi } from "./api.ts";
import type { Home } from "./home.ts";
import { atOneInstant } from "./instant.ts";
import { type Launched, releaseGroup } from "./launch.ts";

/** What a VM was started from. */
type Origin = {
  /** The template's memory file, which it maps privately unless it was booted; `undefined` for a template to be. */
  readonly memory: string | undefined;
  readonly fingerprint: string;
};

/** What `Vm.capture` writes beside the memory and the device state. */
type SavedManifest = { readonly fingerprint: string; readonly device: { readonly sha256: string } };

/** A Firecracker process and its API. */
export class FirecrackerVm implements Vm {
  readonly handle: VmHandle;
  readonly exited: Promise<string>;
  readonly api: FirecrackerApi;
  readonly home: Home;

  constructor(
    readonly spec: VmSpec,
    launched: Launched,
    readonly origin: Origin,
  ) {
    this.handle = { pid: launched.pid, startTime: launched.startTime, ports: [] };
    this.exited = launched.exited;
    this.api = launched.api;
    this.home = launched.home;
  }

  get pid(): number {
    return this.handle.pid;
  }

  async stop(): Promise<void> {
    await this.api.patch("/vm", { state: "Paused" });
    // What the guest had asked of its disk by then may still be waiting: with the second answer all of it is done, since
    // Firecracker looks at its devices between two calls.
    for (let calls = 0; calls < 2; calls++) await this.api.info();
    // The device's own cache must be in the layer's file before another layer reads past it.
    const disk = openSync(this.#disk().path, "r");
    try {
      fsyncSync(disk);
    } finally {
      closeSync(disk);
    }
  }

  async cont(): Promise<void> {
    await this.api.patch("/vm", { state: "Resumed" });
  }

  async detach(): Promise<void> {} // every call is a connection of its own

  async forward(): Promise<void> {} // every port of a tap is reachable

  async switchDisk(next: Disk): Promise<void> {
    this.home.bringDisk(next.device);
    await this.api.patch("/drives/rootfs", { drive_id: "rootfs", path_on_host: "disk" });
  }

  async writesTo(disk: Disk): Promise<boolean> {
    const [its, theirs] = [this.#disk().facts, statSync(disk.device)];
    if (its.isBlockDevice()) return theirs.isBlockDevice() && its.rdev === theirs.rdev;
    return its.ino === theirs.ino && its.dev === theirs.dev;
  }

  async describe(facts: Readonly<Record<string, string>>): Promise<void> {
    await this.api.put("/mmds", facts);
  }

  async capture(dir: string, { base, runsOn = false }: Capture = {}): Promise<Captured> {
    const { memory: template, fingerprint } = this.origin;
    if (!template) throw new WrennError("internal_error", "this VM has no template to save against");
    const save = (taken: Taken) => saveGeneration(dir, taken.pages, { template, base, others: "template" });
    const take = async () => {
      const taken = takeChanged(this.pid, template, runsOn);
      return { taken, early: taken.isCopied ? undefined : await save(taken) };
    };
    const { taken, early } = isMapped(this.pid, template)
      ? await atOneInstant(this, `${dir}/device`, take)
      : { taken: await this.#takeWhole(dir), early: undefined };
    return {
      write: async () => {
        const { bytes } = early ?? (await save(taken));
        const manifest: SavedManifest = { fingerprint, device: { sha256: await sha256(`${dir}/device`) } };
        await Bun.write(`${dir}/firecracker.json`, JSON.stringify(manifest));
        return bytes;
      },
    };
  }

  /** All of the memory, which only Firecracker itself can give: from a file that goes when it has been read. */
  async #takeWhole(dir: string): Promise<Taken> {
    const names = { snapshot_path: "device.new", mem_file_path: "memory.new" };
    await this.api.put("/snapshot/create", { snapshot_type: "Full", ...names });
    for (const [name, into] of [
      [names.snapshot_path, `${dir}/device`],
      [names.mem_file_path, `${dir}/whole`],
    ] as const)
      await rename(`${this.home.root}/${name}`, into).catch(() => copyFile(`${this.home.root}/${name}`, into));
    await chmod(`${dir}/device`, 0o600);
    return { isCopied: true, pages: pagesOf(`${dir}/whole`) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await killProcess(this.handle);
    await releaseGroup(this.spec.name);
  }

  /** What the process has open as its disk: the only block device or file, beside its logs, that it may write to. */
  #disk(): { path: string; facts: Stats } {
    for (const fd of readdirSync(`/proc/${this.pid}/fd`)) {
      const path = `/proc/${this.pid}/fd/${fd}`;
      const facts = statSync(path, { throwIfNoEntry: false });
      const isDisk = facts?.isBlockDevice() || (facts?.isFile() && Number(fd) > 2 && isWritable(this.pid, fd));
      if (facts && isDisk) return { path, facts };
    }
    throw new WrennError("agent_error", "the VM has no disk");
  }
}

/** Whether a descriptor was opened for writing (proc(5), fdinfo; open(2), O_ACCMODE). */
function isWritable(pid: number, fd: string): boolean {
  const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8"))?.[1] ?? "0";
  return (Number.parseInt(flags, 8) & 3) !== 0;
}

/** Throws `conflict` when a saved folder was written by another Firecracker, processor or kernel: it would not run here. */
export async function checkSaved(dir: string, fingerprint: string): Promise<void> {
  const manifest = (await Bun.file(`${dir}/firecracker.json`).json()) as SavedManifest;
  if (manifest.fingerprint !== fingerprint)
    throw new WrennError("conflict", "the snapshot does not fit this host, and is not tried", {
      remedy: `It was taken on "${manifest.fingerprint}"; this host is "${fingerprint}". Resume it on a host like that one.`,
    });
  if ((await sha256(`${dir}/device`)) !== manifest.device.sha256)
    throw new WrennError("internal_error", `the snapshot file ${dir}/device is damaged: its checksum differs`, {
      remedy: "Restore the file from a backup; the sandbox cannot be resumed without it.",
    });
}

/** Puts the memory of a folder of `Vm.capture` into a VM that waits for it. */
export async function loadSaved(pid: number, memory: string, dir: string): Promise<void> {
  using writer = new MemoryWriter(pid, memory);
  await loadGeneration(dir, (page, bytes) => writer.put(page, bytes));
}

const sha256 = async (path: string): Promise<string> =>
  new Bun.CryptoHasher("sha256").update(await Bun.file(path).bytes()).digest("hex");
