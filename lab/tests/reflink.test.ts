import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { canReflink, Reflink } from "../../packages/host/src/drivers/reflink.ts";
import { disksSuite } from "../../packages/host/test/suites/disks.ts";
import { firecrackerDrivers, networks, noFirecracker, wrennDir } from "../support/bench.ts";
import { left } from "../support/left.ts";
import { RealHost } from "../support/real-host.ts";

/** An XFS of its own, in a file: what a host's data folder would lie on. */
const mount = "/lab/out/xfs";

beforeAll(async () => {
  process.env.TMPDIR = mount; // where the suite makes its folders
  await mkdir(mount, { recursive: true });
  await Bun.$`truncate -s 3G ${mount}.img && mkfs.xfs -q ${mount}.img && mount -o loop ${mount}.img ${mount}`.quiet();
});
afterAll(async () => {
  delete process.env.TMPDIR;
  await Bun.$`umount --lazy ${mount} && rm ${mount}.img`.quiet(); // the kernel may still drop what used it
});

disksSuite("reflink on XFS", () => new Reflink());

test("it is told apart where files can share blocks", async () => {
  expect(await canReflink(mount)).toBe(true);
  expect(await canReflink("/lab/out")).toBe(false); // ext4
  expect(await canReflink("/nowhere")).toBe(false);
});

test("a layer takes space for what is written to it, and its base stays as it was", async () => {
  const base = { path: `${mount}/base`, format: "raw" } as const;
  await Bun.write(base.path, new Uint8Array(8 << 20).fill(1));
  const disk = await new Reflink().create(base, `${mount}/layer`);
  expect(await disk.usedBytes()).toBe(0);
  await Bun.$`dd if=/dev/zero of=${disk.path} bs=4096 seek=7 count=3 conv=notrunc,fsync`.quiet();
  expect(await disk.usedBytes()).toBe(3 * 4096);
  expect((await Bun.file(base.path).bytes())[7 * 4096]).toBe(1);
  await Bun.write(base.path, new Uint8Array(8 << 20).fill(2));
  await disk.catchUp!();
  expect((await Bun.file(disk.path).bytes())[7 * 4096]).toBe(2);
});

describe("sandboxes on Firecracker with layers that share blocks", () => {
  const title = "pause, resume, checkpoint and fork keep files, each its own";
  const why = noFirecracker ?? (process.env.LAB_FULL === "1" ? undefined : "it runs with LAB_FULL=1");
  (why ? test.skip : test)(
    why ? `${title} — skipped: ${why}` : title,
    async () => {
      await Bun.$`mkdir -p ${mount}/wrenn && cp -a ${wrennDir}/kernels ${wrennDir}/images ${mount}/wrenn/`.quiet();
      const nets = await networks("reflink", 0);
      const drivers = async () => ({ ...(await firecrackerDrivers(nets, { jailed: true })), disks: new Reflink() });
      await using host = await RealHost.start(drivers, { root: `${mount}/wrenn` });
      const { id } = await host.create();
      const write = (word: string) => host.sh(id, `echo ${word} >/root/word; sync`);
      await write("one");
      await host.sandboxes.pause(id);
      await host.sandboxes.resume(id, 2);
      await write("two");
      const { id: snapshot } = await host.sandboxes.checkpoint(id);
      await write("three");
      const fork = await host.create({ snapshot });
      expect((await host.sh(fork.id, "cat /root/word")).out).toBe("two\n");
      expect((await host.sh(id, "cat /root/word")).out).toBe("three\n");
      await host.restart();
      expect((await host.sh(id, "cat /root/word")).out).toBe("three\n");
    },
    300_000,
  );
  test("nothing is left", async () => expect(left()).toMatchObject({ devices: [], vmms: [], groups: [] }));
});
