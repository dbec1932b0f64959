import { readdirSync } from "node:fs";

const run = (...argv: string[]): string[] => Bun.spawnSync(argv).stdout.toString().split("\n").filter(Boolean);

/** Everything of ours that exists in the lab's host: what a test could leave behind. */
export function left() {
  const list = (path: string) => {
    try {
      return readdirSync(path);
    } catch {
      return [];
    }
  };
  return {
    devices: run("dmsetup", "ls").filter((line) => line.startsWith("wrenn-")),
    // A file system that a test mounts for itself is none of what the drivers attach.
    loops: run("losetup", "-nO", "BACK-FILE", "-l").filter((file) => !/^\/lab\/out\/\w+\.img$/.test(file)),
    networks: [
      ...list("/run/netns").filter((name) => name.startsWith("wrenn-")),
      ...list("/sys/class/net").filter(
        (name) => name.startsWith("wrenn-") && !list("/run/netns").includes(name.replace("-v-", "-ns-")),
      ),
    ],
    slots: list("/run/wrenn/net"),
    vmms: run("pgrep", "-a", "firecracker|qemu-system"),
    groups: list("/sys/fs/cgroup/wrenn").filter((name) => !name.includes(".")),
  };
}

/** How long the kernel may take to drop what its last user has closed: devices below devices, one after the other. */
const patienceMs = 20_000;

/** What is left once the kernel had time for the removals that it does by itself; `kinds` are those to wait for. */
export async function leftInTheEnd(...kinds: (keyof ReturnType<typeof left>)[]): Promise<ReturnType<typeof left>> {
  const deadline = performance.now() + patienceMs;
  let found = left();
  const awaited = (kind: string) => kinds.length === 0 || kinds.some((one) => one === kind);
  const isThere = () => Object.entries(found).some(([kind, all]) => awaited(kind) && all.length > 0);
  while (isThere() && performance.now() < deadline) {
    await Bun.sleep(100);
    found = left();
  }
  return found;
}
