import { describe, expect, test } from "bun:test";
import { mkdir } from "node:fs/promises";
import { crc64, isWholeState } from "../../src/drivers/firecracker/device-state.ts";
import { Firecracker } from "../../src/drivers/firecracker/driver.ts";
import { atOneInstant } from "../../src/drivers/firecracker/instant.ts";
import type { FirecrackerVm } from "../../src/drivers/firecracker/vm.ts";
import type { Vm } from "../../src/drivers/ports.ts";
import { loadGeneration } from "../../src/memory/generation.ts";
import { FakeFirecracker, type Fault } from "./fake.ts";

const limits = { diskMibPerSecond: 10, diskOpsPerSecond: 100, netMbitPerSecond: 8 };

/** A machine that was restored and runs. */
async function restored(fake: FakeFirecracker): Promise<Vm> {
  const vm = await fake.vmm.restore(await fake.spec(), await fake.frozen());
  await vm.cont();
  return vm;
}

async function stopped(fake: FakeFirecracker): Promise<Vm> {
  const vm = await restored(fake);
  await vm.stop();
  return vm;
}

let saves = 0;

/** Everything that the driver does by the API: what it starts from, and the act. */
const operations = {
  boot: { prepare: undefined, act: async (fake: FakeFirecracker) => fake.vmm.boot(await fake.spec()) },
  restore: {
    prepare: undefined,
    act: async (fake: FakeFirecracker) => fake.vmm.restore(await fake.spec(), await fake.frozen()),
  },
  stop: { prepare: restored, act: (_: FakeFirecracker, vm: Vm) => vm.stop() },
  cont: { prepare: stopped, act: (_: FakeFirecracker, vm: Vm) => vm.cont() },
  describe: { prepare: restored, act: (_: FakeFirecracker, vm: Vm) => vm.describe!({ sandbox_id: "a" }) },
  switchDisk: {
    prepare: stopped,
    act: async (fake: FakeFirecracker, vm: Vm) => vm.switchDisk(await fake.disk(`next-${saves++}`)),
  },
  capture: {
    prepare: stopped,
    act: async (fake: FakeFirecracker, vm: Vm) => {
      const dir = `${fake.dir}/saved-${saves++}`;
      await mkdir(dir);
      await (await vm.capture(dir)).write();
    },
  },
} as const;

type Name = keyof typeof operations;

async function callsOf(name: Name): Promise<string[]> {
  await using fake = await FakeFirecracker.make(limits);
  const { prepare, act } = operations[name];
  const vm = (await prepare?.(fake)) as Vm;
  await fake.fail({});
  await act(fake, vm);
  return (await fake.calls()).map(({ call }) => call);
}

/** The operation with one of its calls failing; then, where its machine may live on, once more. */
async function tryFault(name: Name, call: string, fault: Fault): Promise<void> {
  await using fake = await FakeFirecracker.make(limits);
  const { prepare, act } = operations[name];
  const vm = (await prepare?.(fake)) as Vm;
  await fake.fail({ [call]: fault });
  const what = `${name} with ${fault} of ${call}`;
  const thrown = await Promise.resolve(act(fake, vm)).then(
    () => undefined,
    (error) => error,
  );
  expect(thrown, what).toMatchObject({ code: "agent_error" });
  if (fault === "refusal") expect(thrown.message, what).toContain("scripted refusal");
  await fake.fail({});
  if (!vm) expect(await fake.strays(), what).toEqual([]);
  else if (fault === "death") expect(await vm.exited, what).toContain("SIGKILL");
  if (vm && fault === "death") return;
  await act(fake, vm); // nothing that is left of the failure stands in the way
}

describe("Firecracker's API", () => {
  for (const name of Object.keys(operations) as Name[])
    test(`${name}: any call refused, never answered or deadly is an error that leaves no process, and the next try works`, async () => {
      const calls = await callsOf(name);
      expect(calls.length).toBeGreaterThan(0);
      const faults = ["refusal", "silence", "death"] as const;
      for (const fault of faults) await Promise.all(calls.map((call) => tryFault(name, call, fault)));
    }, 120_000);

  test("each request is what Firecracker's description says, limits in both directions included", async () => {
    await using fake = await FakeFirecracker.make(limits);
    await using vm = await fake.vmm.restore(await fake.spec(), await fake.frozen());
    const bodies = Object.fromEntries((await fake.calls()).map(({ call, body }) => [call, body]));
    const mib = { size: 10 << 20, refill_time: 1_000 };
    expect(bodies["PATCH /drives/rootfs"]).toMatchObject({
      rate_limiter: { bandwidth: mib, ops: { size: 100, refill_time: 1_000 } },
    });
    const megabyte = { bandwidth: { size: 1_000_000, refill_time: 1_000 } };
    expect(bodies["PATCH /network-interfaces/eth0"]).toMatchObject({
      ...{ rx_rate_limiter: megabyte, tx_rate_limiter: megabyte },
    });
    expect(vm.pid).toBeGreaterThan(0);
  });
});

test("a snapshot of another version, processor or kernel is refused before a process is started", async () => {
  await using fake = await FakeFirecracker.make();
  const vm = await stopped(fake);
  const saved = `${fake.dir}/saved`;
  await mkdir(saved);
  await (await vm.capture(saved)).write();
  await fake.fail({});
  const { machine } = fake.vmm;
  for (const other of [
    new Firecracker(machine, "1.17.0", "a processor"),
    new Firecracker(machine, "1.16.1", "another"),
  ])
    await expect(other.restore(await fake.spec(), await fake.frozen(), saved)).rejects.toMatchObject({
      ...{ code: "conflict", message: "the snapshot does not fit this host, and is not tried" },
    });
  expect(await fake.calls()).toEqual([]);
  expect(fake.vmm.fingerprint).toContain(
    process.platform === "linux" ? (await Bun.file("/proc/sys/kernel/osrelease").text()).trim() : "",
  );
});

/** What has arrived at a machine, as its saved state and memory tell. */
async function arrivals(saved: string): Promise<{ state: number; memory: number }> {
  const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let memory = 0;
  await loadGeneration(saved, (page, bytes) => {
    if (page <= 2 && page + bytes.length / 4096 > 2) memory = view(bytes).getUint32((2 - page) * 4096, true);
  });
  return { state: view(await Bun.file(`${saved}/device`).bytes()).getUint32(0, true), memory };
}

test("state and memory are of one instant, whatever arrives at the stopped machine meanwhile", async () => {
  await using fake = await FakeFirecracker.make();
  const vm = await stopped(fake);
  for (const [i, runsOn] of [true, false, true, false].entries()) {
    const saved = `${fake.dir}/instant-${i}`;
    await mkdir(saved);
    await Bun.sleep(10); // something arrives
    await (await vm.capture(saved, { runsOn })).write();
    const { state, memory } = await arrivals(saved);
    expect(state).toBeGreaterThan(0);
    expect(memory).toBe(state);
  }
});

test("a machine that stood still for an agent which was killed goes on with the next", async () => {
  await using fake = await FakeFirecracker.make();
  const spec = await fake.spec();
  const frozen = await fake.frozen();
  const vm = (await fake.vmm.restore(spec, frozen)) as FirecrackerVm;
  await vm.stop();
  const reached = Promise.withResolvers<void>();
  const killed = atOneInstant(vm, `${fake.dir}/device`, () => {
    reached.resolve();
    return new Promise(() => {});
  });
  killed.catch(() => {});
  await reached.promise;
  const next = await fake.vmm.adopt(spec, frozen, vm.handle);
  await next!.cont();
  await next!.stop();
  const saved = `${fake.dir}/after`;
  await mkdir(saved);
  await (await next!.capture(saved)).write();
  expect(await arrivals(saved)).toMatchObject({ state: expect.any(Number) });
});

test("a machine knows which layer it writes to, by the file and not by its name", async () => {
  await using fake = await FakeFirecracker.make();
  const spec = await fake.spec();
  await using vm = await fake.vmm.restore(spec, await fake.frozen());
  const next = await fake.disk("next");
  expect([await vm.writesTo(spec.disk), await vm.writesTo(next)]).toEqual([true, false]);
});

test("device state is known to be whole by its sum; cut or changed it is not", () => {
  const text = (value: string) => new TextEncoder().encode(value);
  expect(crc64(text("123456789"))).toBe(0xe9c6_d914_c4b8_d9can); // the check value of this sum
  expect(crc64(new Uint8Array(16).fill(123))).toBe(0x29d5_3572_1632_6566n); // an example of Firecracker's own
  const whole = new Uint8Array(24).fill(123, 0, 16);
  new DataView(whole.buffer).setBigUint64(16, 0x29d5_3572_1632_6566n, true);
  expect(isWholeState(whole)).toBe(true);
  expect(isWholeState(whole.subarray(0, 23))).toBe(false);
  for (const at of whole.keys()) expect(isWholeState(whole.with(at, whole[at]! ^ 1))).toBe(false);
  expect([isWholeState(new Uint8Array()), isWholeState(new Uint8Array(8))]).toEqual([false, false]);
});
