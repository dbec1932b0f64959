/** Machines that wait for their sandboxes: what they rehearsed is nothing that a sandbox could know of. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Sandbox } from "wrenn";
import { isAlive, until, vmsOf } from "../support/processes.ts";
import { nothingLeft, System } from "../support/system.ts";

let system: System;
const metricsToken = "of the pool's test";

beforeAll(async () => {
  system = await System.start("pool", { WRENN_POOL: "1", WRENN_METRICS_TOKEN: metricsToken });
});

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** Whether a machine is on the shelf: a create that comes before that has one of its own raised. */
async function isPooled(): Promise<boolean> {
  const port = readFileSync(`${system.dir}/agent.port`, "utf8").trim();
  const headers = { authorization: `Bearer ${metricsToken}` };
  const told = await (await fetch(`http://127.0.0.1:${port}/metrics`, { headers })).text();
  return /^wrenn_host_pooled_machines 1$/m.test(told);
}

/** Process id of a machine that no sandbox has, once one can be claimed. */
async function waiting(taken: readonly Sandbox[]): Promise<number> {
  const owned = taken.map(({ id }) => system.vmPid(id));
  await until("a machine of the pool", async () => (await isPooled()) || undefined);
  return vmsOf(system.dir).find(({ pid }) => !owned.includes(pid))!.pid;
}

/** Time that the process has had of a processor: proc(5), fields 14 and 15 of `stat`. */
function processorTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** What a sandbox shows of who it is and what was done in it. */
async function expectItself(box: Sandbox): Promise<void> {
  const id = box.id.replace(/^cl-/, "");
  const { stdout } = await box.commands.run(
    "hostname; cat /etc/hostname /run/wrenn/.WRENN_SANDBOX_ID; echo; echo $WRENN_SANDBOX_ID; getent hosts $(hostname)",
  );
  expect(stdout.trim().split(/\s+/)).toEqual([
    ...[`wrenn-${id.slice(0, 8)}`, `wrenn-${id.slice(0, 8)}`, id, id],
    ...["127.0.1.1", `wrenn-${id.slice(0, 8)}`],
  ]);
  const look = "cat /etc/machine-id; ls -A /tmp; find / -xdev -newer /proc/1 -name '*rehearsal*' 2>/dev/null";
  const [machineId, ...files] = (await box.commands.run(look, { user: "root" })).stdout.trim().split("\n");
  expect(machineId).toMatch(/^(?!0{32})[0-9a-f]{32}$/);
  expect(files).toEqual([]);
  const told = (await Sandbox.logs(box.id, { client: system.client }))
    .filter(({ source }) => source === "process")
    .map(({ message }) => message);
  expect(told.every((message) => message.includes("hostname") || message.includes("machine-id"))).toBe(true);
  expect(await box.commands.list()).toEqual([]);
}

test("a claim takes the waiting machine, whether it still rehearses or has ended that, and finds nothing of it", async () => {
  const first = await system.create();
  const rehearsing = await waiting([first]);
  const second = await system.create();
  expect(system.vmPid(second.id)).toBe(rehearsing);
  await expectItself(second);
  const ready = await waiting([first, second]);
  await until("it rests", async () => {
    const before = processorTicks(ready);
    await Bun.sleep(1_500);
    return processorTicks(ready) === before || undefined;
  });
  const third = await system.create();
  expect(system.vmPid(third.id)).toBe(ready);
  await expectItself(third);
  const random = async (box: Sandbox) => (await box.commands.run("head -c 16 /dev/urandom | od -An -tx1")).stdout;
  expect(await random(second)).not.toBe(await random(third));
  for (const box of [first, second, third]) await box.kill();
  expect(isAlive(ready)).toBe(false);
});
