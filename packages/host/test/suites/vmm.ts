import { afterAll, describe, expect, test } from "bun:test";
import { link, mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { agentPort } from "@wrenn/contract";
import type { Captured, Drivers, Frozen, Kernel, Nic, Vm, VmSpec } from "../../src/drivers/ports.ts";
import { agentOf } from "../../src/guest-agent.ts";

/** A machine to try a VMM on: drivers that fit, something to boot, and how to keep a word in a guest's memory. */
export type VmmBench = {
  drivers: Drivers;
  /** Where folders may be made that the VMM can reach. */
  root: string;
  kernel: Kernel;
  rootfs: string;
  remember(address: string, word: string): Promise<void>;
  recall(address: string): Promise<string>;
};

const size = { vcpus: 1, memoryMib: 512 };

/** A template that was booted and frozen; disposing removes it. */
export type Booted = AsyncDisposable & { readonly frozen: Frozen };

/** Boots and freezes what a bench has to boot. */
export async function bootTemplate(bench: VmmBench): Promise<Booted> {
  const lab = await Lab.open(bench);
  return { frozen: await lab.makeFrozen(), [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose]() };
}

/** What of the suite is left out, and why; and where the template comes from. */
export type VmmSuiteOptions = {
  readonly skip?: string | undefined;
  /** A template of another driver that this one can restore. */
  readonly booted?: () => Promise<Frozen>;
  /** Why no machine is booted over a template. */
  readonly skipBoots?: string | undefined;
};

/** The promises of `Vmm`, for every driver. */
export function vmmSuite(
  name: string,
  bench: () => Promise<VmmBench>,
  { skip, booted, skipBoots }: VmmSuiteOptions = {},
): void {
  // One template for all rules: none of them changes it, and a boot takes longer than everything else.
  let own: Booted | undefined;
  const rule = (title: string, run: (lab: Lab) => Promise<void>, why = skip) =>
    (why ? test.skip : test)(
      why ? `${title} — skipped: ${why}` : title,
      async () => {
        await using lab = await Lab.open(await bench(), async () => {
          if (booted) return booted();
          own ??= await bootTemplate(await bench());
          return own.frozen;
        });
        await run(lab);
      },
      360_000, // real KVM that is emulated itself, on a busy machine
    );
  afterAll(() => own?.[Symbol.asyncDispose]());

  describe(`Vmm ${name}`, () => {
    rule("a restored machine answers once it was told to run, two at once do not disturb each other", async (lab) => {
      const frozen = await lab.freeze();
      await using a = await lab.restore("a", frozen);
      await using b = await lab.restore("b", frozen);
      await Promise.all([a.vm.cont(), b.vm.cont()]);
      await Promise.all([a.ready(), b.ready()]);
      await lab.bench.remember(a.address(), "of a");
      await lab.bench.remember(b.address(), "of b");
      expect(await lab.bench.recall(a.address())).toBe("of a");
    });

    rule("stopped, saved and restored again, a machine has its memory; the template does not", async (lab) => {
      const frozen = await lab.freeze();
      const saved = `${lab.dir}/saved`;
      await mkdir(saved);
      {
        await using first = await lab.restore("first", frozen);
        await first.vm.cont();
        await first.ready();
        await lab.bench.remember(first.address(), "kept");
        await first.vm.stop();
        await (await first.vm.capture(saved)).write();
      }
      await using again = await lab.restore("again", frozen, saved);
      await again.vm.cont();
      await again.ready();
      expect(await lab.bench.recall(again.address())).toBe("kept");
      await using other = await lab.restore("other", frozen);
      await other.vm.cont();
      await other.ready();
      expect(await lab.bench.recall(other.address())).not.toBe("kept");
    });

    rule("what is captured of a machine starts another one before it is in any file", async (lab) => {
      if (!lab.bench.drivers.vmm.restoreFrom) return console.info("skipped: this VMM starts from files only");
      const frozen = await lab.freeze();
      const never = `${lab.dir}/never-written`;
      await mkdir(never);
      await using source = await lab.restore("source", frozen);
      await source.vm.cont();
      await source.ready();
      await lab.bench.remember(source.address(), "alive");
      const capturing = Promise.withResolvers<Captured>();
      const starting = lab.restoreFrom("child", frozen, capturing.promise);
      await source.vm.stop();
      capturing.resolve(await source.vm.capture(never, { runsOn: true }));
      await using child = await starting;
      await source.vm.cont();
      await lab.bench.remember(source.address(), "gone on");
      await child.vm.cont();
      await child.ready();
      expect(await lab.bench.recall(child.address())).toBe("alive");
      expect(await lab.bench.recall(source.address())).toBe("gone on");
    });

    rule("saved over what it was restored from, a machine has both, and writes only what is new", async (lab) => {
      const frozen = await lab.freeze();
      const [first, second] = [`${lab.dir}/first-saved`, `${lab.dir}/second-saved`];
      const save = async (machine: Machine, into: string, base?: string) => {
        await machine.vm.stop();
        await mkdir(into);
        return (await machine.vm.capture(into, { base })).write();
      };
      const run = async (name: string, saved?: string) => {
        const machine = await lab.restore(name, frozen, saved);
        await machine.vm.cont();
        await machine.ready();
        return machine;
      };
      let whole: number;
      {
        await using machine = await run("one");
        await lab.bench.remember(machine.address(), "once");
        whole = await save(machine, first);
      }
      {
        await using machine = await run("two", first);
        expect(await lab.bench.recall(machine.address())).toBe("once");
        await lab.bench.remember(machine.address(), "twice");
        expect(await save(machine, second, first)).toBeLessThan(Math.max(whole, 200));
      }
      await rm(first, { recursive: true }); // takes nothing from what was saved over it
      await using machine = await run("three", second);
      expect(await lab.bench.recall(machine.address())).toBe("twice");
    });

    rule(
      "booted over a template, a machine starts afresh; what its memory becomes is saved and restored",
      async (lab) => {
        const frozen = await lab.freeze();
        const saved = `${lab.dir}/saved`;
        await mkdir(saved);
        {
          await using booted = await lab.bootOver("booted", frozen);
          await booted.vm.cont();
          await booted.ready();
          await lab.bench.remember(booted.address(), "since it booted");
          await booted.vm.stop();
          expect(await (await booted.vm.capture(saved)).write()).toBeGreaterThan(0);
        }
        await using again = await lab.restore("again", frozen, saved);
        await again.vm.cont();
        await again.ready();
        expect(await lab.bench.recall(again.address())).toBe("since it booted");
        await using other = await lab.restore("other", frozen);
        await other.vm.cont();
        await other.ready();
        expect(await lab.bench.recall(other.address())).not.toBe("since it booted");
      },
      skip ?? skipBoots,
    );

    rule("disposing twice is harmless, and `exited` settles", async (lab) => {
      await using machine = await lab.restore("a", await lab.freeze());
      await machine.vm[Symbol.asyncDispose]();
      await machine.vm[Symbol.asyncDispose]();
      expect(typeof (await machine.vm.exited)).toBe("string");
    });

    rule("a machine is adopted by its handle, and not by another folder's", async (lab) => {
      const frozen = await lab.freeze();
      await using a = await lab.restore("a", frozen);
      await a.vm.cont();
      await a.ready();
      await lab.bench.remember(a.address(), "mine");
      const nic = await lab.bench.drivers.nets.attach("a");
      await a.vm.detach();
      const vm = await lab.bench.drivers.vmm.adopt({ ...a.spec, nic }, frozen, a.vm.handle);
      expect(vm?.pid).toBe(a.vm.pid);
      expect(await lab.bench.recall(nic.reach(agentPort)!)).toBe("mine");
      await vm![Symbol.asyncDispose]();
      const stale = { ...a.vm.handle, startTime: "1" };
      const wrong = await lab.bench.drivers.vmm.adopt({ ...a.spec, nic, dir: `${lab.dir}/none` }, frozen, stale);
      expect(wrong).toBeUndefined();
    });

    rule("a sweep kills what nobody keeps below its folder, and nothing else", async (lab) => {
      const frozen = await lab.freeze();
      await using kept = await lab.restore("kept", frozen);
      await using stray = await lab.restore("stray", frozen);
      const { vmm } = lab.bench.drivers;
      expect(await vmm.sweep(`${lab.dir}/none`, new Set())).toEqual([]);
      expect(await vmm.sweep(lab.dir, new Set([kept.vm.pid]))).toEqual([stray.vm.pid]);
      await stray.vm.exited;
      await kept.vm.cont();
      await kept.ready();
    });

    rule("a restore from a damaged snapshot is refused and leaves no machine", async (lab) => {
      const frozen = await lab.freeze();
      const saved = `${lab.dir}/saved`;
      await mkdir(saved);
      {
        await using first = await lab.restore("first", frozen);
        await first.vm.cont();
        await first.ready();
        await first.vm.stop();
        await (await first.vm.capture(saved)).write();
      }
      for (const file of await Array.fromAsync(new Bun.Glob("*").scan(saved))) await flipLastByte(`${saved}/${file}`);
      expect(lab.restore("again", frozen, saved)).rejects.toThrow();
      await lab.restore("again", frozen, saved).catch(() => {});
      expect(await lab.bench.drivers.vmm.sweep(lab.dir, new Set())).toEqual([]);
    });
  });
}

type Machine = AsyncDisposable & { vm: Vm; nic: Nic; spec: VmSpec; address(): string; ready(): Promise<void> };

class Lab implements AsyncDisposable {
  private constructor(
    readonly bench: VmmBench,
    readonly dir: string,
    /** A template that was booted and frozen. */
    readonly freeze: () => Promise<Frozen>,
  ) {}

  static async open(bench: VmmBench, freeze = (): Promise<Frozen> => Promise.reject()): Promise<Lab> {
    const dir = await mkdtemp(`${bench.root}/vmm-`);
    await Bun.$`chmod 755 ${dir}`;
    return new Lab(bench, dir, freeze);
  }

  /** Boots and freezes, into a folder of this lab. */
  async makeFrozen(): Promise<Frozen> {
    const { vmm, disks, nets } = this.bench.drivers;
    const dir = `${this.dir}/frozen`;
    await mkdir(dir);
    await link(this.bench.rootfs, `${dir}/rootfs.ext4`);
    const base = { path: `${dir}/rootfs.ext4`, format: "raw" } as const;
    await using disk = await disks.create(base, `${dir}/disk.${disks.extension}`);
    await using nic = await nets.attach("template");
    const memory = await open(`${dir}/memory`, "w");
    await memory.truncate(size.memoryMib * 2 ** 20);
    await memory.close();
    const { kernel } = this.bench;
    await using vm = await vmm.boot({ name: "template", dir, ...size, disk, nic, memory: `${dir}/memory`, kernel });
    await agentOf({ nic }).ready(300_000, vm.exited);
    await vm.stop();
    await vmm.freeze(vm, dir);
    return { dir, ...size, disk: { path: disk.path, format: disk.format } };
  }

  restore(name: string, frozen: Frozen, saved?: string): Promise<Machine> {
    return this.#start(name, frozen, (spec) => this.bench.drivers.vmm.restore(spec, frozen, saved));
  }

  restoreFrom(name: string, frozen: Frozen, capturing: Promise<Captured>): Promise<Machine> {
    return this.#start(name, frozen, (spec) => this.bench.drivers.vmm.restoreFrom!(spec, frozen, capturing));
  }

  bootOver(name: string, frozen: Frozen): Promise<Machine> {
    return this.#start(name, frozen, (spec) => this.bench.drivers.vmm.bootOver(spec, frozen, this.bench.kernel));
  }

  async #start(name: string, frozen: Frozen, start: (spec: VmSpec) => Promise<Vm>): Promise<Machine> {
    const { disks, nets } = this.bench.drivers;
    const dir = `${this.dir}/${name}`;
    await mkdir(dir, { recursive: true });
    await using undo = new AsyncDisposableStack();
    const disk = undo.use(await disks.create(frozen.disk, `${dir}/disk-0.${disks.extension}`));
    const nic = undo.use(await nets.attach(name));
    const spec: VmSpec = { name, dir, ...size, disk, nic };
    const vm = undo.use(await start(spec));
    const held = undo.move();
    return {
      ...{ vm, nic, spec, address: () => nic.reach(agentPort)! },
      ready: () => agentOf({ nic }).ready(120_000, vm.exited),
      [Symbol.asyncDispose]: () => (held.disposed ? Promise.resolve() : held.disposeAsync()),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bench.drivers.vmm.sweep(this.dir, new Set());
    await rm(this.dir, { recursive: true, force: true });
  }
}

async function flipLastByte(path: string): Promise<void> {
  const bytes = await Bun.file(path).bytes();
  bytes[bytes.length - 1]! ^= 0xff;
  await writeFile(path, bytes);
}
