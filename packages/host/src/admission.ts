import { WrennError } from "@wrenn/contract";
import type { SandboxSpec } from "./record.ts";
import { minFreeDiskMib, needDisk } from "./room.ts";

const mib = 2 ** 20;

/** What must stay free for this agent and the system: below it the kernel begins to kill. */
const reserveMib = 256;

/** Memory that new processes can have now, in this agent's control group too, MiB. */
const availableMib = (): number => Math.floor(process.availableMemory() / mib);

/**
 * Decides whether this machine takes one more running sandbox: by what is there at this moment, since sandboxes share
 * most of their memory and the sum of their sizes says little. Machines that are being started count with all they may
 * come to use, because what they will take does not show yet.
 */
export class Admission {
  #startingMib = 0;

  constructor(
    readonly root: string,
    readonly available: () => number = availableMib,
  ) {}

  /**
   * Lets a sandbox in; dispose what it gives when the sandbox runs, or failed to. Throws `no_hosts_available` for memory
   * and `insufficient_storage` for disk, before anything was started. `extraDiskMib` is what its disk has beyond its
   * template's, which nobody else has on this host yet.
   */
  async admit(spec: Pick<SandboxSpec, "memoryMib">, extraDiskMib = 0): Promise<Disposable> {
    const free = this.available() - this.#startingMib - reserveMib;
    if (spec.memoryMib > free)
      throw new WrennError(
        "no_hosts_available",
        `the host has ${Math.max(0, free)} MiB of memory to give, ${spec.memoryMib} are asked for`,
        { remedy: "Ask for less memory, pause or remove sandboxes, or add a host." },
      );
    this.#startingMib += spec.memoryMib;
    let isHeld = true;
    const release = () => {
      if (isHeld) this.#startingMib -= spec.memoryMib;
      isHeld = false;
    };
    try {
      await needDisk(this.root, minFreeDiskMib + extraDiskMib);
    } catch (thrown) {
      release();
      throw thrown;
    }
    return { [Symbol.dispose]: release };
  }
}
