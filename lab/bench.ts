/**
 * Measures production's drivers in the lab against a bare script that drives Firecracker alone, in turns in the same run:
 * absolute times of an emulated host mean nothing, ratios do. Prints a table and writes /lab/out/bench.json.
 */
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import type { SandboxId } from "@wrenn/contract";
import { DiskWatch } from "../packages/host/src/disk-watch.ts";
import { DmSnapshot } from "../packages/host/src/drivers/dm/dm-snapshot.ts";
import { FirecrackerApi } from "../packages/host/src/drivers/firecracker/api.ts";
import type { NetnsTap } from "../packages/host/src/drivers/netns/netns-tap.ts";
import type { Nic } from "../packages/host/src/drivers/ports.ts";
import { killProcess, spawnVmm, startTimeOf } from "../packages/host/src/drivers/process.ts";
import { agentOf } from "../packages/host/src/guest-agent.ts";
import { Sampler } from "../packages/host/src/metrics/sampler.ts";
import { quiet } from "../packages/host/test/support/host.ts";
import { firecracker, firecrackerDrivers, jailer, networks, noFirecracker } from "./support/bench.ts";
import { RealHost, shell } from "./support/real-host.ts";

const rounds = Number(process.env.LAB_ROUNDS || 5);
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
let nets: NetnsTap;
const makeDrivers = async () => {
  nets = await networks("bench", 4);
  return firecrackerDrivers(nets, { jailed: !!jailer });
};
let host = await RealHost.start(makeDrivers);
const { frozen } = await host.templates.ready("minimal", { vcpus: 1, ...size });
const ofTemplate = { device: `${frozen.dir}/device`, memory: `${frozen.dir}/memory`, base: frozen.disk.path };
let bareRestoreMs = 0;

/** A bare restore until a command has run in it, and what attaching its network took. */
async function bareRestore(round: number): Promise<{ ms: number; attachMs: number }> {
  await nets.settled();
  const [attachMs, nic] = await timed(() => nets.attach(`bare-${round}`));
  const [ms, vm] = await timed(async () => {
    const loaded = await Bare.load(ofTemplate, nic, `${round}`);
    await agentOf({ nic }).ready(60_000, new Promise(() => {}));
    await shell(nic, "true");
    return loaded;
  });
  await vm[Symbol.asyncDispose]();
  await nic[Symbol.asyncDispose]();
  await nets.settled();
  return { ms, attachMs };
}

/** Ours until a command has run in it. */
async function createMs(): Promise<number> {
  const [ms, id] = await timed(async () => {
    const { id } = await host.create(size);
    await host.sh(id, "true");
    return id;
  });
  await host.sandboxes.destroy(id);
  return ms;
}

async function createAndCommand(): Promise<void> {
  const [ours, bare, attach]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < rounds; i++) {
    const { ms, attachMs } = await bareRestore(i);
    bare.push(ms);
    attach.push(attachMs);
    ours.push(await createMs());
  }
  const [ms, bareMs] = [median(ours), median(bare)];
  bareRestoreMs = bareMs;
  rows.push({ name: "create to first command", target: "≤ 1.15 ×", ms, bareMs, ratio: ms / bareMs });
  rows.push({
    name: "network on the create path, with the pool",
    target: "0 ms",
    ms: median(attach),
    note: "register only",
  });
}

/** With one machine ready. On a host of its own, which takes the template over. */
async function pooled(): Promise<void> {
  await host[Symbol.asyncDispose]();
  host = await RealHost.start(makeDrivers, { poolSize: 1 });
  await createMs(); // the first use of a template begins to fill its shelf
  const ours: number[] = [];
  for (let i = 0; i < rounds; i++) {
    for (let left = 1_200; left > 0 && host.pool.rested === 0; left--) await Bun.sleep(50);
    await Promise.all([host.pool.settled(), nets.settled()]);
    ours.push(await createMs());
  }
  const ms = median(ours);
  const note = `against the bare restore above`;
  rows.push({
    name: "the same with a machine ready",
    target: "≤ 0.3 ×",
    ms,
    bareMs: bareRestoreMs,
    ratio: ms / bareRestoreMs,
    note,
  });
}

/** One MiB of chance, many times: an emulated guest takes minutes to make more of it. */
const dirt = `head -c 1M /dev/urandom >/dev/shm/one; for i in $(seq ${dirtyMib}); do cat /dev/shm/one; done >/dev/shm/dirt`;

const bytesOf = async (path: string): Promise<number> => (await stat(path)).blocks * 512;

/** Firecracker's own diff of a machine that it tracks: until it has answered, which is when its file is durable. */
async function bareDiff(round: number): Promise<{ ms: number; bytes: number }> {
  await nets.settled();
  const nic = await nets.attach(`diff-${round}`);
  const vm = await Bare.load(ofTemplate, nic, `diff-${round}`);
  await agentOf({ nic }).ready(60_000, new Promise(() => {}));
  await shell(nic, dirt);
  await vm.api.patch("/vm", { state: "Paused" });
  const names = { snapshot_path: "device", mem_file_path: "memory" };
  const [ms] = await timed(() => vm.api.put("/snapshot/create", { snapshot_type: "Diff", ...names }));
  const bytes = (await bytesOf(`${vm.dir}/memory`)) + (await bytesOf(`${vm.dir}/device`));
  await vm[Symbol.asyncDispose]();
  await nic[Symbol.asyncDispose]();
  return { ms, bytes };
}

async function pause(): Promise<void> {
  const [ours, bare, written]: [number[], number[], number[]] = [[], [], []];
  for (let i = 0; i < Math.min(rounds, 3); i++) {
    const diff = await bareDiff(i);
    bare.push(diff.ms);
    const { id } = await host.create(size);
    await host.sh(id, dirt);
    const [oursMs] = await timed(() => host.sandboxes.pause(id));
    ours.push(oursMs);
    const folder = `${host.dir}/snapshots/${host.sandboxes.find(id).record.snapshot}`;
    let bytes = 0;
    for (const name of await readdir(folder)) bytes += await bytesOf(`${folder}/${name}`);
    written.push(bytes / diff.bytes);
    await host.sandboxes.destroy(id);
  }
  const [ms, bareMs] = [median(ours), median(bare)];
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
    ratio: median(written),
    note: "of the bare diff's",
  });
}

async function chain(): Promise<void> {
  const { id } = await host.create(size);
  await host.sh(id, dirt);
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

/** Sandboxes that nobody uses, beside what an agent does for none; after the time in which it still asks their guests. */
const idle = { sandboxes: 4, settleMs: 35_000, measureMs: 10_000 };

async function processorPercent(): Promise<number> {
  const cpu = process.cpuUsage();
  await Bun.sleep(idle.measureMs);
  const { user, system } = process.cpuUsage(cpu);
  return (user + system) / idle.measureMs / 10;
}

/** On a host without a pool, which would be filled meanwhile, but with all that an agent does for its sandboxes. */
async function overhead(): Promise<void> {
  await host[Symbol.asyncDispose]();
  host = await RealHost.start(makeDrivers);
  await using _sampler = await Sampler.start(host.sandboxes, quiet);
  await using _watch = new DiskWatch(host.sandboxes, quiet);
  const rss = () => process.memoryUsage.rss() / 2 ** 20;
  await host.sandboxes.destroy((await host.create(size)).id); // what the first one loads
  await Bun.sleep(idle.measureMs);
  Bun.gc(true);
  const [before, without] = [rss(), await processorPercent()];
  const ids: SandboxId[] = [];
  for (let i = 0; i < idle.sandboxes; i++) ids.push((await host.create(size)).id);
  await Bun.sleep(idle.settleMs);
  Bun.gc(true);
  const each = (rss() - before) / ids.length;
  const percent = ((await processorPercent()) - without) / ids.length;
  for (const id of ids) await host.sandboxes.destroy(id);
  rows.push({ name: "agent's memory for each sandbox", target: "≤ 1 MB", ms: 0, note: `${each.toFixed(2)} MiB` });
  rows.push({
    name: "agent's processor for each idle sandbox",
    target: "≤ 0.1 %",
    ms: 0,
    note: `${percent.toFixed(2)} %, beside ${without.toFixed(2)} % for none`,
  });
}

const cell = (value: number | undefined, unit: string) => (value ? `${value.toFixed(unit ? 0 : 2)}${unit}` : "");
console.log("| what | target | ours | bare | ratio | |\n|---|---|---|---|---|---|");
for (const part of [createAndCommand, pause, chain, pooled, overhead]) {
  const before = rows.length;
  await part();
  // At once: a host that is lost later takes no figures with it.
  for (const { name, target, ms, bareMs, ratio, note } of rows.slice(before))
    console.log(
      `| ${name} | ${target} | ${cell(ms, " ms")} | ${cell(bareMs, " ms")} | ${cell(ratio, "")} | ${note ?? ""} |`,
    );
}
await host[Symbol.asyncDispose]();
await Bun.write("/lab/out/bench.json", JSON.stringify(rows, null, 2));
process.exit(0);
