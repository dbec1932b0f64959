import { expect, test } from "bun:test";
import { mkdtemp } from "node:fs/promises";
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
