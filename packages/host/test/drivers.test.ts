import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { agentPort } from "@wrenn/contract";
import { FakeWorld } from "../src/drivers/fake.ts";
import { type Drivers, fitting } from "../src/drivers/ports.ts";
import { Qcow2 } from "../src/drivers/qcow2.ts";
import { UserMode } from "../src/drivers/user-mode.ts";
import { disksSuite } from "./suites/disks.ts";
import { vmmSuite } from "./suites/vmm.ts";

const qemuImg = Bun.which("qemu-img");

disksSuite("fake", () => new FakeWorld().disks);
disksSuite("qcow2", () => new Qcow2(qemuImg!), qemuImg ? undefined : "qemu-img is not installed");

const forLayers = qemuImg ? test : test.skip;

forLayers(
  `empty qcow2 layers are what qemu-img makes${qemuImg ? "" : " — skipped: qemu-img is not installed"}`,
  async () => {
    const dir = await mkdtemp(`${tmpdir()}/wrenn-layers-`);
    try {
      const run = async (...args: string[]) => (await Bun.$`${qemuImg} ${args}`.quiet()).text();
      const disks = new Qcow2(qemuImg!);
      const facts = async (path: string) => {
        const { "backing-filename": base, ...found } = JSON.parse(await run("info", "--output=json", path));
        const size = found["virtual-size"] as number;
        return { base, size, format: found["backing-filename-format"] as string };
      };
      for (const [name, bytes] of [
        ["small", 1 << 20],
        ["odd", 512 * 3],
        ["large", 3 * 2 ** 30 + 4096],
      ] as const) {
        const base = { path: `${dir}/${name}.raw`, format: "raw" } as const;
        await run("create", "-q", "-f", "raw", base.path, `${bytes}`);
        await Bun.$`mkdir -p ${dir}/${name}`;
        await disks.create(base, `${dir}/${name}/ours.qcow2`);
        await disks.create({ path: `${dir}/${name}/ours.qcow2`, format: "qcow2" }, `${dir}/${name}/over.qcow2`);
        await run("create", "-q", "-f", "qcow2", "-b", base.path, "-F", "raw", `${dir}/${name}/theirs.qcow2`);
        expect(await facts(`${dir}/${name}/ours.qcow2`)).toEqual(await facts(`${dir}/${name}/theirs.qcow2`));
        expect(await facts(`${dir}/${name}/over.qcow2`)).toEqual({ base: "ours.qcow2", size: bytes, format: "qcow2" });
        for (const layer of ["ours", "over"]) {
          expect(await run("check", `${dir}/${name}/${layer}.qcow2`)).toContain("No errors were found");
          await run("compare", base.path, `${dir}/${name}/${layer}.qcow2`); // throws unless they are the same disk
        }
        await run("resize", "-q", `${dir}/${name}/ours.qcow2`, `${4 * 2 ** 30}`);
        await disks.create({ path: `${dir}/${name}/ours.qcow2`, format: "qcow2" }, `${dir}/${name}/grown.qcow2`);
        expect((await facts(`${dir}/${name}/grown.qcow2`)).size).toBe(4 * 2 ** 30);
      }
    } finally {
      await rm(dir, { recursive: true });
    }
  },
);

vmmSuite("fake", async () => {
  const root = await mkdtemp(`${tmpdir()}/wrenn-fake-`);
  await Bun.write(`${root}/rootfs.ext4`, "");
  const { vmm, disks, nets } = new FakeWorld();
  return {
    ...{ drivers: { vmm, disks, nets }, root, rootfs: `${root}/rootfs.ext4` },
    kernel: { version: "1", path: "", initrd: undefined },
    remember: async (address, word) => void (await fetch(`http://${address}/memory`, { method: "PUT", body: word })),
    recall: async (address) => (await fetch(`http://${address}/memory`)).text(),
  };
});

for (const [name, nets] of Object.entries({
  fake: new FakeWorld().nets,
  "user-mode": new UserMode({ isOpen: false, hasFirewall: false, detail: "" }),
}))
  test(`Nets ${name}: an attached network knows the guest's address and reaches only what is forwarded`, async () => {
    await using nic = await nets.attach("a");
    expect(nic.guestIp).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
    expect(nic.reach(agentPort)).toBeUndefined();
    nic.forwarded(new Map([[agentPort, 4711]]));
    expect(nic.reach(agentPort)).toBe("127.0.0.1:4711");
    nic.forwarded(new Map([[80, 4712]]));
    expect([nic.reach(agentPort), nic.reach(80), nic.reach(81)]).toEqual([
      "127.0.0.1:4711",
      "127.0.0.1:4712",
      undefined,
    ]);
  });

test("drivers that do not fit are refused by name when the host starts", () => {
  const { vmm, disks, nets } = new FakeWorld();
  const tap = { ...nets, gives: "tap" as const, name: "some-tap" };
  expect(() => fitting({ vmm, disks, nets: tap } as Drivers)).toThrow("some-tap gives tap");
  expect(fitting({ vmm, disks, nets })).toEqual({ vmm, disks, nets });
});
