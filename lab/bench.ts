/**
 * Measures production's drivers in the lab against a bare script that drives Firecracker alone, in turns in the same run:
 * absolute times of an emulated host mean nothing, ratios do. Prints a table and writes /lab/out/bench.json.
 */
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import type { SandboxId } from "@wrenn/contract";
import { DmSnapshot } from "../packages/host/src/drivers/dm/dm-snapshot.ts";
import { FirecrackerApi } from "../packages/host/src/drivers/firecracker/api.ts";
import type { Nic } from "../packages/host/src/drivers/ports.ts";
import { killProcess, spawnVmm, startTimeOf } from "../packages/host/src/drivers/process.ts";
import { agentOf } from "../packages/host/src/machine.ts";
import type { Template } from "../packages/host/src/templates.ts";
import { firecracker, firecrackerDrivers, jailer, networks, noFirecracker } from "./support/bench.ts";
import { RealHost } from "./support/real-host.ts";

const rounds = Number(process.env.LAB_ROUNDS ?? 5);
const size = { memoryMib: 512 };
const dirtyMib = 64;

type Row = { name: string; target: string; ms: number; bareMs?: number; ratio?: number; note?: string };
const rows: Row[] = [];
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

async function timed<T>(act: () => Promise<T>): Promise<[number, T]> {
  const started = performance.now();
  const value = await act();
  return [performance.now() - started, value];
}

/** A bare Firecracker: no jail, no journal, no identity; only its API. */
class Bare implements AsyncDisposable {
  private constructor(
    readonly pid: number,
    readonly api: FirecrackerApi,
    readonly dir: string,
    readonly release: () => Promise<void>,
  ) {}

  /** Starts it and loads a snapshot; running, unless it is to be looked at first. */
  static async load(from: { device: string; memory: string; base: string }, nic: Nic, name: string): Promise<Bare> {
    const dir = `${host.dir}/bare-${name}`;
    await mkdir(dir, { recursive: true });
    const disk = await new DmSnapshot().create({ path: from.base, format: "dm" }, `${dir}/layer.cow`);
    await Bun.$`ln -s ${disk.device} ${dir}/disk`.quiet();
    const how = { link: nic.link, uid: undefined, gid: 0, cwd: dir, log: `${dir}/log` };
    const child = spawnVmm([firecracker!, "--api-sock", "s"], how);
    const api = new FirecrackerApi(`${dir}/s`);
    await api.ready(() => child.exitCode === null);
    await api.put("/snapshot/load", {
      snapshot_path: from.device,
      mem_backend: { backend_type: "File", backend_path: from.memory },
      ...{ track_dirty_pages: true, resume_vm: true },
    });
    return new Bare(child.pid, api, dir, async () => disk[Symbol.asyncDispose]());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await killProcess({ pid: this.pid, startTime: startTimeOf(this.pid) ?? "", ports: [] });
    await this.release();
    await rm(this.dir, { recursive: true, force: true });
  }
}

if (noFirecracker) {
  console.log(`bench: skipped: ${noFirecracker}`);
  process.exit(0);
}
const nets = await networks("bench", 4);
const host = await RealHost.start(() => firecrackerDrivers(nets, { jailed: !!jailer }));
const template: Template = await host.templates.ready("minimal", { vcpus: 1, ...size });
const { frozen } = template;
const ofTemplate = { device: `${frozen.dir}/device`, memory: `${frozen.dir}/memory`, base: frozen.disk.path };

/** Until a command has run in it. */
async function command(nic: Nic): Promise<void> {
  await agentOf({ nic }).ready(60_000, new Promise(() => {}));
  await agentOf({ nic }).run("/bin/true");
}

async function createAndCommand(): Promise<void> {
  const [ours, bare, attach]: number[][] = [[], [], []];
  for (let i = 0; i < rounds; i++) {
    await nets.settled();
    const [waited, nic] = await timed(() => nets.attach(`bare-${i}`));
    attach!.push(waited);
    const [bareMs, vm] = await timed(async () => {
      const loaded = await Bare.load(ofTemplate, nic, `${i}`);
      await command(nic);
      return loaded;
    });
    bare!.push(bareMs);
    await vm[Symbol.asyncDispose]();
    await nic[Symbol.asyncDispose]();
    await nets.settled();
    const [oursMs, id] = await timed(async () => {
      const { id } = await host.create(size);
      await host.sh(id, "true");
      return id;
    });
    ours!.push(oursMs);
    await host.sandboxes.destroy(id);
  }
  const [ms, bareMs] = [median(ours!), median(bare!)];
  rows.push({ name: "create to first command", target: "≤ 1.15 ×", ms, bareMs, ratio: ms / bareMs });
  rows.push({
    name: "network on the create path, with the pool",
    target: "0 ms",
    ms: median(attach!),
    note: "register only",
  });
}

const dirty = (id: SandboxId) =>
  host.sh(id, `dd if=/dev/urandom of=/dev/shm/dirt bs=1M count=${dirtyMib} conv=notrunc 2>/dev/null`);

async function pause(): Promise<void> {
  const [ours, bare, written]: number[][] = [[], [], []];
  for (let i = 0; i < Math.min(rounds, 3); i++) {
    const { id } = await host.create(size);
    await dirty(id);
    const { vm } = host.sandboxes.find(id).machine;
    await vm.stop();
    // The bare side first: it leaves the dirty pages where they are, and its own file behind.
    const api = (vm as unknown as { api: FirecrackerApi }).api;
    const root = (vm as unknown as { home: { root: string } }).home.root;
    const [bareMs] = await timed(() =>
      api.put("/snapshot/create", {
        snapshot_type: "Diff",
        snapshot_path: "bare.device",
        mem_file_path: "bare.memory",
      }),
    );
    const bareBytes = (await stat(`${root}/bare.memory`)).blocks * 512;
    await vm.cont();
    const [oursMs] = await timed(() => host.sandboxes.pause(id));
    const folder = `${host.dir}/snapshots/${host.sandboxes.find(id).record.snapshot}`;
    let bytes = 0;
    for (const name of await readdir(folder)) bytes += (await stat(`${folder}/${name}`)).blocks * 512;
    ours!.push(oursMs);
    bare!.push(bareMs);
    written!.push(bytes / bareBytes);
    await host.sandboxes.destroy(id);
  }
  const [ms, bareMs] = [median(ours!), median(bare!)];
  rows.push({
    name: `pause, ${dirtyMib} MiB dirty of ${size.memoryMib}`,
    target: "≤ 1.2 ×",
    ms,
    bareMs,
    ratio: ms / bareMs,
  });
  rows.push({
    name: "bytes written by that pause",
    target: "≤ 1.1 ×",
    ms: 0,
    ratio: median(written!),
    note: "of the bare diff's",
  });
}

async function chain(): Promise<void> {
  const { id } = await host.create(size);
  await dirty(id);
  await host.sandboxes.pause(id);
  const [one] = await timed(() => host.sandboxes.resume(id, 2));
  for (let i = 0; i < 7; i++) {
    await host.sh(id, `head -c 1M /dev/urandom >/dev/shm/more-${i}`);
    await host.sandboxes.pause(id);
    await host.sandboxes.resume(id, 3 + i);
  }
  await host.sandboxes.pause(id);
  const [eight] = await timed(() => host.sandboxes.resume(id, 20));
  await host.sandboxes.destroy(id);
  rows.push({
    name: "resume of the eighth in a chain",
    target: "≤ 1.15 ×",
    ms: eight,
    bareMs: one,
    ratio: eight / one,
    note: "against the first",
  });
}

async function overhead(): Promise<void> {
  const rss = () => process.memoryUsage.rss() / 2 ** 20;
  Bun.gc(true);
  const before = rss();
  const ids: SandboxId[] = [];
  for (let i = 0; i < 4; i++) ids.push((await host.create({ memoryMib: 512 })).id);
  Bun.gc(true);
  const each = (rss() - before) / ids.length;
  const cpu = process.cpuUsage();
  await Bun.sleep(10_000);
  const used = process.cpuUsage(cpu);
  const percent = ((used.user + used.system) / 1e6 / 10 / ids.length) * 100;
  for (const id of ids) await host.sandboxes.destroy(id);
  rows.push({ name: "agent's memory for each sandbox", target: "≤ 1 MB", ms: 0, note: `${each.toFixed(2)} MiB` });
  rows.push({
    name: "agent's processor for each idle sandbox",
    target: "≤ 0.1 %",
    ms: 0,
    note: `${percent.toFixed(2)} %`,
  });
}

for (const part of [createAndCommand, pause, chain, overhead]) {
  await part();
  console.error(`bench: ${part.name} done`);
}
await host[Symbol.asyncDispose]();
const cell = (value: number | undefined, unit: string) => (value ? `${value.toFixed(unit ? 0 : 2)}${unit}` : "");
console.log("| what | target | ours | bare | ratio | |\n|---|---|---|---|---|---|");
for (const { name, target, ms, bareMs, ratio, note } of rows)
  console.log(
    `| ${name} | ${target} | ${cell(ms, " ms")} | ${cell(bareMs, " ms")} | ${cell(ratio, "")} | ${note ?? ""} |`,
  );
await Bun.write("/lab/out/bench.json", JSON.stringify(rows, null, 2));
process.exit(0);
