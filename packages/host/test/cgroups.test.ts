import { afterAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { findLimits } from "../src/drivers/cgroups.ts";

const limits = await findLimits("a data folder of the tests");
afterAll(() => limits[Symbol.asyncDispose]());

const none = limits.detail.startsWith("none") ? limits.detail : undefined;
const rule = (title: string, run: () => Promise<void>) =>
  (none ? test.skip : test)(none ? `${title} — skipped: ${none}` : title, run);

/** A process that waits for a line and then takes `mib` of memory, and how it ended. */
function hungry(mib: number) {
  const take = `const all = []; for (let i = 0; i < ${mib}; i++) all.push(Buffer.alloc(1 << 20, 1)); console.log(all.length);`;
  const child = Bun.spawn([process.execPath, "-e", `process.stdin.once("data", () => { ${take} process.exit(0); });`], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const end = async () => {
    child.stdin.write("go\n");
    await child.stdin.end();
    await child.exited;
    return child.signalCode ?? child.exitCode;
  };
  return { pid: child.pid, end };
}

rule("memory beyond the bound kills that process and no other, and its group goes with it", async () => {
  const [greedy, modest] = [hungry(900), hungry(50)];
  await limits.confine("greedy", greedy.pid, { vcpus: 1, memoryMib: 64 });
  await limits.confine("modest", modest.pid, { vcpus: 1, memoryMib: 64 });
  const groups = readFileSync(`/proc/${greedy.pid}/cgroup`, "utf8");
  expect(groups).toContain("/greedy");
  expect(await greedy.end()).toBe("SIGKILL");
  expect(await modest.end()).toBe(0);
  await limits.release("greedy");
  await limits.release("modest");
  const folders = limits.detail.split(" in ")[1]!.split(", ");
  expect(folders.length).toBeGreaterThan(0);
  for (const folder of folders) expect([existsSync(folder), existsSync(`${folder}/greedy`)]).toEqual([true, false]);
});

rule("a sweep removes what a killed agent left and keeps what is in use", async () => {
  const used = hungry(1);
  await limits.confine("used", used.pid, { vcpus: 1, memoryMib: 64 });
  const gone = hungry(1);
  await limits.confine("gone", gone.pid, { vcpus: 1, memoryMib: 64 });
  await gone.end();
  await limits.sweep(new Set(["used"]));
  const [folder] = limits.detail.split(" in ")[1]!.split(", ");
  expect([existsSync(`${folder}/used`), existsSync(`${folder}/gone`)]).toEqual([true, false]);
  await used.end();
  await limits.release("used");
});

rule("three VMMs weigh what three processes would, not what one does", async () => {
  const folders = limits.detail.split(" in ")[1]!.split(", ");
  const weight = () => {
    const file = folders.flatMap((at) => [`${at}/cpu.weight`, `${at}/cpu.shares`]).find((path) => existsSync(path))!;
    return Number(readFileSync(file, "utf8"));
  };
  const used = ["a", "b", "c"].map((name) => ({ name, child: hungry(1) }));
  const sizes: number[] = [];
  for (const { name, child } of used) {
    await limits.confine(name, child.pid, { vcpus: 1, memoryMib: 64 });
    sizes.push(weight());
  }
  expect(sizes).toEqual([1, 2, 3].map((count) => count * sizes[0]!));
  for (const { name, child } of used) {
    await child.end();
    await limits.release(name);
  }
  expect(weight()).toBe(sizes[0]!);
});
