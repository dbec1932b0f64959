import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { Firecracker, type GuestLimits } from "../../src/drivers/firecracker/driver.ts";
import type { BootSpec, Disk, Frozen, Nic } from "../../src/drivers/ports.ts";

/** How a call fails: the answer is no, there is none, or the process ends. */
export type Fault = "refusal" | "silence" | "death";

const size = { vcpus: 1, memoryMib: 4 };

/** The driver with a program in the place of Firecracker that has its API, and a template to restore. */
export class FakeFirecracker implements AsyncDisposable {
  #count = 0;

  private constructor(
    readonly dir: string,
    readonly vmm: Firecracker,
  ) {}

  static async make(limits: GuestLimits = {}): Promise<FakeFirecracker> {
    const dir = await mkdtemp(`${tmpdir()}/wrenn-fake-fc-`);
    await Bun.$`chmod 777 ${dir}`;
    const program = `#!/bin/sh\nexec ${process.execPath} ${import.meta.dir}/fake-firecracker.ts ${dir} "$@"\n`;
    await Bun.write(`${dir}/firecracker`, program);
    for (const file of ["requests", "faults.json"]) await Bun.write(`${dir}/${file}`, "");
    await Bun.$`chmod 755 ${dir}/firecracker && chmod 666 ${dir}/requests`;
    // Silence is noticed soon; what answers at all does so sooner, also on a busy machine.
    const machine = { ...{ binary: `${dir}/firecracker`, jailer: undefined }, gid: process.getgid!() };
    const patience = { slowMs: 3_000, quickMs: 3_000 };
    const fake = new FakeFirecracker(dir, new Firecracker({ ...machine, patience }, "1.16.1", "a processor", limits));
    await fake.fail({});
    return fake;
  }

  /** From now on these calls fail; all others work. */
  async fail(faults: Readonly<Record<string, Fault>>): Promise<void> {
    await Bun.write(`${this.dir}/faults.json`, JSON.stringify(faults));
    await Bun.write(`${this.dir}/requests`, "");
    await Bun.$`chmod 666 ${this.dir}/requests`;
  }

  /** The calls made since the last `fail`, without the questions whether it is there. */
  async calls(): Promise<{ call: string; body: unknown }[]> {
    const lines = (await readFile(`${this.dir}/requests`, "utf8")).split("\n").filter(Boolean);
    return lines.map((line) => JSON.parse(line)).filter(({ call }) => call !== "GET /");
  }

  /** A machine of its own to boot or restore. */
  async spec(): Promise<BootSpec> {
    const name = `vm-${this.#count++}`;
    const dir = `${this.dir}/${name}`;
    await mkdir(dir, { mode: 0o755 });
    await Bun.write(`${dir}/kernel`, "kernel");
    const kernel = { version: "1", path: `${dir}/kernel`, initrd: undefined };
    return { name, dir, ...size, disk: await this.disk(name), nic, memory: `${dir}/memory`, kernel };
  }

  async disk(name: string): Promise<Disk> {
    const path = `${this.dir}/${name}.raw`;
    await Bun.write(path, new Uint8Array(4096));
    return { path, device: path, format: "raw", usedBytes: async () => 4096, [Symbol.asyncDispose]: async () => {} };
  }

  async frozen(): Promise<Frozen> {
    const dir = `${this.dir}/template`;
    await mkdir(dir, { recursive: true, mode: 0o755 });
    await Bun.write(`${dir}/device`, "devices");
    await Bun.write(`${dir}/memory`, new Uint8Array(size.memoryMib * 2 ** 20));
    await Bun.$`chmod 644 ${dir}/device && chmod 666 ${dir}/memory`; // Bun maps what it may write
    return { dir, ...size, disk: { path: `${dir}/disk.raw`, format: "raw" } };
  }

  /** Ends what runs in its folders, and says what did. */
  strays(): Promise<number[]> {
    return this.vmm.sweep(this.dir, new Set());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vmm.sweep(this.dir, new Set());
    await rm(this.dir, { recursive: true, force: true });
  }
}

const nic: Nic = {
  link: { kind: "user", guestPorts: [], isOpen: false },
  guestIp: "",
  forwarded: () => {},
  reach: () => undefined,
  [Symbol.asyncDispose]: async () => {},
};
