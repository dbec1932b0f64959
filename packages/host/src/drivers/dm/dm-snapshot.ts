import { closeSync, existsSync, openSync, realpathSync, statSync } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { WrennError } from "@wrenn/contract";
import { errno, SystemError } from "../libc.ts";
import type { BaseDisk, Disk, Disks } from "../ports.ts";
import { attachLoop, sharedLoop } from "./loop.ts";
import { Mapper } from "./mapper.ts";
import { chunkSectors, moveBase, overlay, readLayer, writeEmpty, writeMerged } from "./store.ts";

/** Names of our devices begin so: an operator sees them, and a new agent finds what a killed one left. */
const prefix = "wrenn-";

/** A device may vanish between being found and being opened, when its last user lets go just then. */
const tries = 20;

/** A block device that this process holds open: it exists as long as somebody does. */
type Held = { readonly fd: number; readonly numbers: string; readonly device: string; readonly sectors: number };

/**
 * Disk layers by the kernel's snapshot target: 4 KiB blocks, copied to a sparse file when first written. Every device is
 * marked for removal as soon as it exists, and loop devices detach themselves, so the kernel's own counts of users are the
 * reference counts: a layer is open as long as a VM, a layer above it or this process has it open, whoever is killed when.
 */
export class DmSnapshot implements Disks {
  readonly name = "dm-snapshot";
  readonly gives = "dm" as const;
  readonly extension = "cow";
  readonly #mapper = new Mapper();

  async create(base: BaseDisk, path: string): Promise<Disk> {
    const real = { ...base, path: realpathSync(base.path) }; // not by way of a link that may go
    writeEmpty(path, real, sectorsOf(real));
    return this.open(path).catch(async (thrown) => {
      await rm(path, { force: true });
      throw thrown;
    });
  }

  async open(path: string): Promise<Disk> {
    const held = this.#hold(path);
    let isOpen = true;
    return {
      path,
      format: this.gives,
      device: held.device,
      usedBytes: async () => (await stat(path)).blocks * 512,
      [Symbol.asyncDispose]: async () => {
        if (isOpen) closeSync(held.fd);
        isOpen = false;
      },
    };
  }

  async flatten(path: string, base: BaseDisk): Promise<void> {
    const real = realpathSync(base.path);
    const chain: string[] = [];
    for (let at = path; realpathSync(at) !== real; at = readLayer(at).base.path) chain.push(at);
    const fresh = `${path}.flat`;
    await rm(fresh, { force: true });
    writeMerged(chain, fresh, { ...base, path: real });
    await rename(fresh, path);
  }

  async rebase(path: string, base: BaseDisk): Promise<void> {
    moveBase(path, { ...base, path: realpathSync(base.path) });
  }

  async copyOut(path: string, to: string): Promise<void> {
    const chain: string[] = [];
    let base: BaseDisk = { path, format: this.gives };
    for (; base.format !== "raw"; base = readLayer(base.path).base) chain.push(base.path);
    try {
      // The image with its holes, then the blocks of the layers: a device that shows both would be read from end to end.
      const child = Bun.spawn(["cp", "--sparse=always", "--reflink=auto", base.path, to], {
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...process.env, LC_ALL: "C" },
      });
      const said = (await new Response(child.stderr).text()).trim();
      if ((await child.exited) !== 0) throw new Error(said);
      await overlay(chain, to);
    } catch (cause) {
      const isFull = /No space left|ENOSPC/.test(String(cause));
      throw new WrennError(isFull ? "insufficient_storage" : "agent_error", "the disk could not be copied", { cause });
    }
  }

  async sweep(): Promise<void> {
    for (const name of this.#mapper.names()) if (name.startsWith(prefix)) this.#mapper.remove(name);
  }

  /** Whether the kernel gave the layer up, and how full its store is, in percent. */
  fill(path: string): { isLost: boolean; percent: number } {
    const status = this.#mapper.status(nameOf(path));
    const [, used, total] = /^(\d+)\/(\d+)/.exec(status) ?? [];
    return used ? { isLost: false, percent: (100 * Number(used)) / Number(total) } : { isLost: true, percent: 100 };
  }

  /** Opens the device of a layer, which is made where it does not exist yet. */
  #hold(path: string): Held {
    const layer = readLayer(path);
    const name = nameOf(path);
    for (let left = tries; left > 0; left--) {
      const present = this.#mapper.find(name);
      const held = present?.hasTable ? openDevice(present.minor, layer.sectors) : this.#make(name, path);
      if (held && this.#mapper.find(name)) return held;
      if (held) closeSync(held.fd); // removed while it was opened
    }
    throw new WrennError("agent_error", `the device of ${path} comes and goes`);
  }

  #make(name: string, path: string): Held | undefined {
    const { base, sectors, storeBytes } = readLayer(path);
    const below = base.format === "raw" ? sharedLoop(base.path) : this.#hold(base.path);
    try {
      const store = attachLoop(path, { readOnly: false, sizeLimit: storeBytes });
      try {
        const parameters = `${below.numbers} ${store.numbers} P ${chunkSectors}`;
        const { minor } = this.#mapper.create(name, { sectors, kind: "snapshot", parameters }, false);
        const held = openDevice(minor, sectors);
        this.#mapper.remove(name); // when its last user lets go
        return held;
      } catch (thrown) {
        if (thrown instanceof SystemError && thrown.errno === errno.EBUSY) return undefined; // made by another just now
        throw thrown;
      } finally {
        closeSync(store.fd);
      }
    } finally {
      closeSync(below.fd);
    }
  }
}

/** The name of a layer's device. By file, not path: a template's folder is renamed when it is whole. */
function nameOf(path: string): string {
  const { dev, ino } = statSync(path);
  return `${prefix}${dev.toString(36)}-${ino.toString(36)}`;
}

function sectorsOf(base: BaseDisk): number {
  return base.format === "raw" ? Math.floor(statSync(base.path).size / 512) : readLayer(base.path).sectors;
}

/** devtmpfs makes this node when the kernel makes the device; udev only adds names to it. */
function openDevice(minor: number, sectors: number): Held | undefined {
  const device = `/dev/dm-${minor}`;
  if (!existsSync(device)) return undefined;
  try {
    return { fd: openSync(device, "r"), numbers: `${majorOf(device)}:${minor}`, device, sectors };
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "ENXIO") return undefined; // just removed
    throw thrown;
  }
}

const majorOf = (device: string): number => Math.floor(statSync(device).rdev / 256) & 0xfff;
