import { describe, expect, test } from "bun:test";
import { copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { WrennError } from "@wrenn/contract";
import type { BaseDisk, Disk, Disks } from "../../src/drivers/ports.ts";

/** The promises of `Disks`, for every driver. */
export function disksSuite(name: string, make: () => Disks, skip?: string): void {
  const rule = (title: string, run: (disks: Disks, dir: string, base: BaseDisk) => Promise<void>) =>
    (skip ? test.skip : test)(skip ? `${title} — skipped: ${skip}` : title, async () => {
      const dir = await mkdtemp(`${tmpdir()}/wrenn-disks-`);
      for (const folder of ["base", "a", "b"]) await mkdir(`${dir}/${folder}`);
      await Bun.write(`${dir}/base/rootfs.ext4`, new Uint8Array(1 << 20));
      await run(make(), dir, { path: `${dir}/base/rootfs.ext4`, format: "raw" }).finally(() =>
        rm(dir, { recursive: true }),
      );
    });

  describe(`Disks ${name}`, () => {
    rule("an empty layer costs little beyond its base, and the base stays as it was", async (disks, dir, base) => {
      await using disk = await disks.create(base, `${dir}/a/disk-0.${disks.extension}`);
      expect(await disk.usedBytes()).toBeLessThan(1 << 20);
      expect(await Bun.file(base.path).bytes()).toEqual(new Uint8Array(1 << 20));
    });

    rule("two layers over one base are two files", async (disks, dir, base) => {
      await using a = await disks.create(base, `${dir}/a/disk-0.${disks.extension}`);
      await using b = await disks.create(base, `${dir}/b/disk-0.${disks.extension}`);
      expect(a.path).not.toBe(b.path);
    });

    rule(
      "a layer is kept when it is released, opens again, and releasing twice is harmless",
      async (disks, dir, base) => {
        const path = `${dir}/a/disk-0.${disks.extension}`;
        const first = await disks.create(base, path);
        await first[Symbol.asyncDispose]();
        await first[Symbol.asyncDispose]();
        await using again = await disks.open(path);
        expect(again).toMatchObject({ path, format: disks.gives });
      },
    );

    rule("a layer that is not there is not found", async (disks, dir) => {
      const thrown = await disks.open(`${dir}/a/none`).catch((error) => error as WrennError);
      expect((thrown as WrennError).code).toBe("not_found");
    });

    rule("a flattened layer no longer needs those between", async (disks, dir, base) => {
      const layers = [0, 1, 2].map((number) => `${dir}/a/disk-${number}.${disks.extension}`);
      const close = async (disk: Promise<Disk>) => (await disk)[Symbol.asyncDispose]();
      await close(disks.create(base, layers[0]!));
      await close(disks.create({ path: layers[0]!, format: disks.gives }, layers[1]!));
      await close(disks.create({ path: layers[1]!, format: disks.gives }, layers[2]!));
      await disks.flatten(layers[2]!, base);
      await rm(layers[0]!);
      await rm(layers[1]!);
      await using _ = await disks.open(layers[2]!);
      await disks.flatten(layers[2]!, base); // reads the whole chain
    });

    rule("a layer is copied out as a plain file with what it shows", async (disks, dir, base) => {
      const content = new Uint8Array(1 << 20);
      content.fill(7, 4_096, 8_192);
      await Bun.write(base.path, content);
      const path = `${dir}/a/disk-0.${disks.extension}`;
      await (await disks.create(base, path))[Symbol.asyncDispose]();
      await disks.copyOut(path, `${dir}/b/plain`);
      expect(Buffer.compare(await Bun.file(`${dir}/b/plain`).bytes(), content)).toBe(0);
    });

    rule("layers that came from another host lie on what is below them here", async (disks, dir, base) => {
      const extension = disks.extension;
      const close = async (disk: Promise<Disk>) => (await disk)[Symbol.asyncDispose]();
      const [low, high] = [`${dir}/a/a-rather-long-name.${extension}`, `${dir}/a/high.${extension}`];
      await close(disks.create(base, low));
      await close(disks.create({ path: low, format: disks.gives }, high));
      await mkdir(`${dir}/there`);
      const there = { path: `${dir}/there/rootfs.ext4`, format: "raw" } as const;
      await copyFile(base.path, there.path);
      const [movedLow, movedHigh] = [`${dir}/b/low.${extension}`, `${dir}/b/high.${extension}`];
      await copyFile(low, movedLow);
      await copyFile(high, movedHigh);
      for (const gone of ["base", "a"]) await rm(`${dir}/${gone}`, { recursive: true });
      await disks.rebase(movedLow, there);
      await disks.rebase(movedHigh, { path: movedLow, format: disks.gives });
      await close(disks.open(movedHigh));
      await disks.flatten(movedHigh, there); // reads the whole chain
    });
  });
}
