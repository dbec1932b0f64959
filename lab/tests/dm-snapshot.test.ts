import { afterEach, expect, test } from "bun:test";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { DmSnapshot } from "../../packages/host/src/drivers/dm/dm-snapshot.ts";
import { disksSuite } from "../../packages/host/test/suites/disks.ts";
import { left as everything, leftInTheEnd } from "../support/left.ts";

disksSuite("dm-snapshot", () => new DmSnapshot());

const root = "/lab/out";

afterEach(async () => expect(await remaining()).toEqual([]));

/** Mapped devices and loop devices of ours that exist. */
const left = (): string[] => [...everything().devices, ...everything().loops];

/** The same once the kernel had time for the removals that it does by itself. */
async function remaining(): Promise<string[]> {
  const { devices, loops } = await leftInTheEnd("devices", "loops");
  return [...devices, ...loops];
}

const block = (text: string): Uint8Array => {
  const bytes = new Uint8Array(4096);
  bytes.set(new TextEncoder().encode(text));
  return bytes;
};

function write(device: string, at: number, text: string): void {
  const fd = openSync(device, "rs+"); // rs: past the cache of this device, which another layer's does not share
  writeSync(fd, block(text), 0, 4096, at * 4096);
  closeSync(fd);
}

function read(device: string, at: number): string {
  const fd = openSync(device, "r");
  const bytes = new Uint8Array(4096);
  readSync(fd, bytes, 0, 4096, at * 4096);
  closeSync(fd);
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

async function folder(): Promise<AsyncDisposable & { dir: string; base: { path: string; format: "raw" } }> {
  const dir = await mkdtemp(`${root}/dm-`);
  const path = `${dir}/rootfs.ext4`;
  await Bun.write(path, new Uint8Array(16 << 20));
  write(path, 0, "base 0");
  return { dir, base: { path, format: "raw" }, [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) };
}

test("a layer shows its base until a block is written, keeps what was written, and takes space for that only", async () => {
  await using at = await folder();
  const disks = new DmSnapshot();
  {
    await using disk = await disks.create(at.base, `${at.dir}/a.cow`);
    expect(read(disk.device, 0)).toBe("base 0");
    write(disk.device, 1, "a 1");
  }
  await using again = await disks.open(`${at.dir}/a.cow`);
  expect([read(again.device, 0), read(again.device, 1)]).toEqual(["base 0", "a 1"]);
  expect(read(at.base.path, 1)).toBe("");
  expect(await again.usedBytes()).toBeLessThan(64 << 10);
});

test("many layers share one loop device of their base; the last one takes it along", async () => {
  await using at = await folder();
  const disks = new DmSnapshot();
  const layers = [];
  for (const name of ["a", "b", "c"]) layers.push(await disks.create(at.base, `${at.dir}/${name}.cow`));
  expect(left().filter((line) => line === at.base.path)).toHaveLength(1);
  for (const layer of layers) await layer[Symbol.asyncDispose]();
  expect(await remaining()).toEqual([]);
});

test("a layer on a layer keeps the lower one open, and a flattened one shows the same without it", async () => {
  await using at = await folder();
  const disks = new DmSnapshot();
  const [lower, upper] = [`${at.dir}/lower.cow`, `${at.dir}/upper.cow`];
  {
    await using disk = await disks.create(at.base, lower);
    for (let i = 1; i < 600; i++) write(disk.device, i, `lower ${i}`); // more than two areas of places
  }
  {
    await using disk = await disks.create({ path: lower, format: "dm" }, upper);
    write(disk.device, 2, "upper 2");
    expect(read(disk.device, 3)).toBe("lower 3");
  }
  await disks.copyOut(upper, `${at.dir}/plain`);
  expect([0, 1, 2, 3, 599, 600].map((i) => read(`${at.dir}/plain`, i))).toEqual([
    ...["base 0", "lower 1", "upper 2", "lower 3", "lower 599", ""],
  ]);
  await disks.flatten(upper, at.base);
  await rm(lower);
  await using flat = await disks.open(upper);
  expect([0, 1, 2, 3, 599, 600].map((i) => read(flat.device, i))).toEqual([
    ...["base 0", "lower 1", "upper 2", "lower 3", "lower 599", ""],
  ]);
});

test("every block of a disk can be rewritten: the store does not overflow", async () => {
  await using at = await folder();
  const disks = new DmSnapshot();
  await using disk = await disks.create(at.base, `${at.dir}/full.cow`);
  const fd = openSync(disk.device, "rs+");
  const piece = new Uint8Array(1 << 20).fill(7);
  for (let i = 0; i < 16; i++) writeSync(fd, piece, 0, piece.length, i << 20);
  closeSync(fd);
  expect(disks.fill(disk.path)).toMatchObject({ isLost: false });
  expect(disks.fill(disk.path).percent).toBeLessThanOrEqual(100);
});

test("a template's folder is renamed: its layer still finds the base beside it", async () => {
  await using at = await folder();
  const disks = new DmSnapshot();
  await mkdir(`${at.dir}/making`);
  const base = { path: `${at.dir}/making/rootfs.ext4`, format: "raw" } as const;
  await Bun.write(base.path, new Uint8Array(1 << 20));
  await (await disks.create(base, `${at.dir}/making/disk.cow`))[Symbol.asyncDispose]();
  await Bun.$`mv ${at.dir}/making ${at.dir}/made`;
  await using _ = await disks.open(`${at.dir}/made/disk.cow`);
});

test("an agent killed with open layers leaves no device behind", async () => {
  await using at = await folder();
  const script = `
    const { DmSnapshot } = await import("/lab/repo/packages/host/src/drivers/dm/dm-snapshot.ts");
    await new DmSnapshot().create({ path: "${at.base.path}", format: "raw" }, "${at.dir}/k.cow");
    process.kill(process.pid, "SIGKILL");`;
  await Bun.spawn(["bun", "-e", script]).exited;
  expect(await Bun.file(`${at.dir}/k.cow`).exists()).toBe(true);
  expect(await remaining()).toEqual([]);
});
