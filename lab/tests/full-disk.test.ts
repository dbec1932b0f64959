import { expect, test } from "bun:test";
import { rm, statfs } from "node:fs/promises";
import { DiskWatch } from "../../packages/host/src/disk-watch.ts";
import { DmSnapshot } from "../../packages/host/src/drivers/dm/dm-snapshot.ts";
import { quiet } from "../../packages/host/test/support/host.ts";
import { firecrackerDrivers, jailer, networks, noFirecracker } from "../support/bench.ts";
import { RealHost } from "../support/real-host.ts";

/** A small file system, so that a guest can fill the disk under its layer. */
const image = "/lab/out/small.img";

const title = "a guest that fills the host's disk is paused before its layer is lost, and goes on when there is room";
(noFirecracker ? test.skip : test)(
  noFirecracker ? `${title} — skipped: ${noFirecracker}` : title,
  async () => {
    const nets = await networks("full", 0);
    await using host = await RealHost.start(() => firecrackerDrivers(nets, { jailed: !!jailer }));
    const layers = `${host.dir}/layers`;
    await Bun.$`truncate -s 1200M ${image} && mkfs.ext4 -q -m 0 ${image} && mount -o loop ${image} ${layers}`.quiet();
    await using _mounted = { [Symbol.asyncDispose]: async () => void (await Bun.$`umount -l ${layers}; rm ${image}`) };
    const { id } = await host.create();
    await host.sh(id, "echo kept >/root/word; sync");
    const { bavail, bsize } = await statfs(layers);
    await Bun.$`fallocate -l ${bavail * bsize - (700 << 20)} ${layers}/ballast`.quiet();
    await using _ = new DiskWatch(host.sandboxes, quiet);
    const state = () => host.sandboxes.find(id).record;
    // The pause takes its guest away, so nobody ends this connection.
    void host.sh(id, "cat /dev/zero >/root/much; sync").catch(() => {});
    for (let left = 1_200; left > 0 && state().state !== "paused"; left--) await Bun.sleep(100);
    expect(state()).toMatchObject({ state: "paused", reason: expect.stringContaining("nearly full") });
    await rm(`${layers}/ballast`);
    await host.sandboxes.resume(id, 2);
    const { layer } = state();
    expect(new DmSnapshot().fill(`${layers}/${layer}.cow`).isLost).toBe(false);
    expect(
      (await host.sh(id, "cat /root/word; rm /root/much; echo more >>/root/word && sync && tail -1 /root/word")).out,
    ).toBe("kept\nmore\n");
    await host.sandboxes.destroy(id);
  },
  900_000,
);
