import { afterAll, beforeAll, expect, test } from "bun:test";
import { Sandbox } from "wrenn";
import { isAlive, processesOf, until } from "../support/processes.ts";
import { nothingLeft, System } from "../support/system.ts";

/** Each test kills something with SIGKILL; what a sandbox held in memory and on disk must be there afterwards. */
let system: System;
let box: Sandbox;

/** Text in the guest's memory, and random bytes on its disk with their sum. */
const word = crypto.randomUUID();
let sum: string;

beforeAll(async () => {
  system = await System.start("crash");
  box = await system.create();
  await box.files.write("/dev/shm/word", word);
  await box.commands.run("head -c 5000000 /dev/urandom > random && sync");
  sum = await sh("sha256sum random");
  const counter = "n=0; while sleep 0.05; do n=$((n+1)); echo $n; done > /dev/shm/count";
  (await box.commands.run(counter, { background: true, timeoutMs: 0 })).disconnect();
});

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

async function sh(line: string): Promise<string> {
  return (await box.commands.run(line)).stdout.trimEnd();
}

/** The same memory, disk and processes as ever. */
async function expectWhole(): Promise<void> {
  expect(await sh("cat /dev/shm/word; echo; sha256sum random")).toBe(`${word}\n${sum}`);
  const count = Number(await sh("tail -1 /dev/shm/count"));
  await until("a higher count", async () => Number(await sh("tail -1 /dev/shm/count")) > count);
  // One number a line without a gap: the process was never started anew.
  expect(await sh("awk 'NR != $1' /dev/shm/count | head -1")).toBe("");
}

/** Kills a program that `wrenn up` keeps running and waits until another has taken its place and answers. */
async function killAndAwait(name: "wrenn-cp" | "wrenn-agent" | "PostgreSQL"): Promise<void> {
  const pid = await system.pidOf(name);
  process.kill(pid, "SIGKILL");
  await until(`another ${name}`, async () => {
    const next = await system.pidOf(name);
    return next !== pid && isAlive(next);
  });
  const answers = () => Promise.all([box.commands.run("true"), box.info()]).catch(() => undefined);
  await until("a sandbox that takes commands", answers, { everyMs: 200 });
}

test("wrenn-agent killed: the same VM runs on and is adopted by the next one", async () => {
  const vm = system.vmPid(box.id);
  await killAndAwait("wrenn-agent");
  expect(system.vmPid(box.id)).toBe(vm);
  expect(isAlive(vm)).toBe(true);
  await expectWhole();
});

test("wrenn-cp killed: the next one knows every sandbox, and the host nothing of it", async () => {
  const vm = system.vmPid(box.id);
  await killAndAwait("wrenn-cp");
  expect(await Sandbox.list({ client: system.client })).toMatchObject([{ id: box.id, status: "running" }]);
  expect(system.vmPid(box.id)).toBe(vm);
  await expectWhole();
});

test("PostgreSQL killed: requests are told so until it has recovered, then work again", async () => {
  const codes = new Set<string>();
  const recovered = killAndAwait("PostgreSQL").finally(() => codes.add("over"));
  while (!codes.has("over")) {
    await Sandbox.list({ client: system.client }).catch((thrown) => codes.add(thrown.code));
    await Bun.sleep(10);
  }
  await recovered;
  expect([...codes]).not.toContain("internal_error");
  expect(await Sandbox.list({ client: system.client })).toMatchObject([{ id: box.id, status: "running" }]);
  await box.pause();
  await box.resume();
  await expectWhole();
});

test("a VM killed: its sandbox says so, can be removed, and leaves nothing", async () => {
  const doomed = await system.create();
  const vm = system.vmPid(doomed.id);
  process.kill(vm, "SIGKILL");
  const status = await until("an error", async () => {
    const info = await doomed.info();
    return info.status === "error" ? info : undefined;
  });
  expect(status.error).toMatch(/VM ended/);
  expect(await doomed.commands.run("true").catch((thrown) => thrown)).toMatchObject({ code: "invalid_state" });
  expect(await doomed.kill()).toBe(true);
  expect(system.record(doomed.id)).toBeUndefined();
  expect(await Sandbox.list({ client: system.client })).toMatchObject([{ id: box.id }]);
  await expectWhole();
});

test("wrenn up killed: the next one has every sandbox, running or resumable, with its memory", async () => {
  const before = processesOf(system.dir).map(({ pid }) => pid);
  await system.stop("SIGKILL");
  await system.up();
  const old = before.filter((pid) => isAlive(pid) && processesOf(system.dir).some((one) => one.pid === pid));
  // Of the old processes at most the VM is left: two databases or servers on one folder would destroy it.
  expect(processesOf(system.dir).filter(({ pid, command }) => old.includes(pid) && !/qemu/.test(command))).toEqual([]);
  box = await Sandbox.connect(box.id, { client: system.client });
  await expectWhole();
});

test("SIGTERM pauses what runs; the next start resumes it with memory, processes and files", async () => {
  expect(await system.stop("SIGTERM")).toBe(0);
  expect(processesOf(system.dir)).toEqual([]);
  await system.up();
  // A server that says it is ready knows what its host did before.
  expect((await Sandbox.info(box.id, { client: system.client })).status).toBe("paused");
  box = await Sandbox.connect(box.id, { client: system.client });
  await expectWhole();
});
