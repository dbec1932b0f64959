import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { Sandbox, Wrenn } from "wrenn";
import { freshDatabase } from "../../packages/control/test/support/postgres.ts";
import { TestFleet } from "../fleet/fleet.ts";
import { dataFolder, keepTemplates } from "../support/data-folder.ts";

/** Two host agents with real VMs and folders of their own, a control plane, and a store that both reach. */
let dirs: string[];
let store: string;
let fleet: TestFleet;
let client: Wrenn;

beforeAll(async () => {
  dirs = await Promise.all([dataFolder("move-one"), dataFolder("move-two")]);
  // The second host has the images, and no template that was frozen where the sandbox comes from.
  for (const key of await readdir(`${dirs[1]}/templates`)) await rm(`${dirs[1]}/templates/${key}`, { recursive: true });
  store = await mkdtemp(`${tmpdir()}/wrenn-vm-store-`);
  const env = { WRENN_STORE: store, WRENN_POOL: "0" };
  fleet = await TestFleet.start({ databaseUrl: await freshDatabase(), planes: 1, agents: 2, vmDirs: dirs, env });
  client = new Wrenn({ baseUrl: fleet.planes[0]!.address, apiKey: fleet.key });
  for (let told = 0; told < 2; await Bun.sleep(100))
    told = (await fleet.json<{ store?: string }[]>(0, "GET", "/v1/hosts")).filter((host) => host.store).length;
});

afterAll(async () => {
  if (!fleet) return;
  for (const { id } of await Sandbox.list({ client })) await Sandbox.kill(id, { client });
  await Promise.all(fleet.agents.map((agent) => agent.stop()));
  await fleet[Symbol.asyncDispose]();
  await keepTemplates(dirs[0]!);
  for (const dir of [...dirs, store]) await rm(dir, { recursive: true, force: true });
});

/** A process that counts in its memory alone, and says how far it is when it is asked. */
const counter = "n=0; trap 'echo $n > /tmp/count' USR1; while :; do n=$((n+1)); sleep 0.1; done";

async function counted(sandbox: Sandbox, pid: number): Promise<number> {
  const { stdout } = await sandbox.commands.run(
    `rm -f /tmp/count; kill -USR1 ${pid}; until [ -s /tmp/count ]; do sleep 0.1; done; cat /tmp/count`,
    { timeoutMs: 240_000 },
  );
  return Number(stdout);
}

describe("a sandbox that moves between hosts", () => {
  test("hibernated on one, which then dies, it resumes on the other: the same processes, memory and files", async () => {
    const [one, two] = fleet.hosts as [string, string];
    await client.hosts.cordon(two);
    const sandbox = await Sandbox.create({ client, template: "minimal" });
    const random = crypto.getRandomValues(new Uint8Array(3 << 20));
    await sandbox.files.write("/root/kept.bin", random);
    await sandbox.commands.run("mount -t tmpfs none /mnt && head -c 5000000 /dev/urandom > /mnt/memory");
    const { pid } = await sandbox.commands.run(counter, { background: true, timeoutMs: 0 });
    const before = await counted(sandbox, pid);
    const sum = (await sandbox.commands.run("sha256sum /mnt/memory /root/kept.bin")).stdout;

    await sandbox.pause({ hibernate: true });
    expect(await sandbox.info()).toMatchObject({ status: "paused", hibernated: true });
    await fleet.agents[0]!.kill();
    await client.hosts.uncordon(two);
    await sandbox.resume();

    expect((await sandbox.commands.run("sha256sum /mnt/memory /root/kept.bin")).stdout).toBe(sum);
    expect(await counted(sandbox, pid)).toBeGreaterThan(before);
    expect(Buffer.compare(await sandbox.files.read("/root/kept.bin", { format: "bytes" }), random)).toBe(0);
    expect((await readdir(`${dirs[1]}/templates`)).some((name) => name.startsWith("moved-"))).toBe(true);

    // And back, by a drain, to the host that froze the template itself.
    await fleet.agents[0]!.start();
    for (let isUp = false; !isUp; await Bun.sleep(100))
      isUp = (await client.hosts.list()).find(({ id }) => id === one)!.status === "online";
    const drain = await client.hosts.drain(two);
    expect(drain).toMatchObject({ moved: [sandbox.id], failed: {}, isDone: true });
    expect((await sandbox.commands.run("sha256sum /mnt/memory /root/kept.bin")).stdout).toBe(sum);
    expect(await counted(sandbox, pid)).toBeGreaterThan(before);
    expect((await readdir(`${dirs[0]}/templates`)).some((name) => name.startsWith("moved-"))).toBe(false);
    await client.hosts.uncordon(two);
  });
});
