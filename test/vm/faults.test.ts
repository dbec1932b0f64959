import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { Sandbox } from "wrenn";
import { until } from "../support/processes.ts";
import { nothingLeft, System } from "../support/system.ts";

let system: System;

beforeAll(async () => {
  system = await System.start("faults");
});
afterAll(async () => {
  expect(await system.end()).toEqual(nothingLeft);
});

const asRoot = { user: "root" } as const;
const mib = 2 ** 20;

/** What a line of shell prints on both outputs, whatever its exit code. */
const sh = async (sandbox: Sandbox, line: string) =>
  (await sandbox.commands.run(`{ ${line}; } 2>&1 || true`, asRoot)).stdout.trim();

describe("a guest that misbehaves", () => {
  test("its disk full: what does not fit is refused, the sandbox pauses and resumes, and works when there is room", async () => {
    await using sandbox = await system.create();
    const most = "$(($(df --output=avail -k / | tail -1) - 1024))K";
    await sh(sandbox, `fallocate -l ${most} /var/tmp/all; dd if=/dev/zero of=/var/tmp/rest bs=64k`);
    expect(await sh(sandbox, "df --output=avail -k / | tail -1")).toBe("0");
    const thrown = await sandbox.files.write("/var/tmp/more", "x".repeat(mib), asRoot).catch((error) => error);
    expect(thrown).toMatchObject({ code: "insufficient_storage" });
    await sandbox.pause();
    await sandbox.resume();
    await sh(sandbox, "rm /var/tmp/all /var/tmp/rest");
    await sandbox.files.write("/var/tmp/more", "fits", asRoot);
    expect(await sandbox.files.read("/var/tmp/more", asRoot)).toBe("fits");
  });

  test("that forks without end disturbs no other, and is paused, resumed and removed as any", async () => {
    const [bomb, other] = await Promise.all([system.create(), system.create()]);
    void bomb!.commands.run("bomb() { bomb | bomb & }; bomb; sleep 60", { timeoutMs: 0 }).catch(() => {});
    await Bun.sleep(3_000);
    expect((await other!.commands.run("echo fine")).stdout).toBe("fine\n");
    await bomb!.pause();
    await bomb!.resume();
    await bomb!.kill();
    await other!.kill();
  });

  test("whose kernel panics is in error and says so, with its files; one that is switched off is gone", async () => {
    const [panicked, off] = await Promise.all([system.create(), system.create()]);
    const end = (sandbox: Sandbox, line: string) => sandbox.commands.run(line, asRoot).catch(() => {});
    void end(panicked!, "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger");
    void end(off!, "echo 1 > /proc/sys/kernel/sysrq; echo o > /proc/sysrq-trigger");
    await until("the panic to show", async () => (await panicked!.info()).status === "error");
    const shown = await (await system.rest("GET", `/v1/capsules/${panicked!.id}`)).json();
    expect(shown).toMatchObject({ status: "error", error: "the VM ended: its kernel panicked or restarted" });
    expect(system.record(panicked!.id)).toHaveProperty("layer");
    await until("the other to be gone", () => system.record(off!.id) === undefined);
    await panicked!.kill();
  });

  test("that kills its agent gets it back, and takes commands again", async () => {
    await using sandbox = await system.create();
    await sh(sandbox, "setsid sh -c 'sleep 0.2; pkill -9 -x envd' >/dev/null 2>&1 &").catch(() => {});
    const answer = async () => (await sandbox.commands.run("echo back").catch(() => undefined))?.stdout;
    await Bun.sleep(500);
    await until("commands again", async () => (await answer()) === "back\n");
  });

  test("that floods its console fills neither the host's disk nor its log", async () => {
    await using sandbox = await system.create();
    void sandbox.commands.run("timeout 5 sh -c 'yes flooding > /dev/console'", asRoot).catch(() => {});
    const { home } = system.record(sandbox.id)!.machine!;
    let largest = 0;
    for (let i = 0; i < 30; i++) {
      largest = Math.max(largest, statSync(`${system.dir}/sandboxes/${home}/console.log`).size);
      await Bun.sleep(200);
    }
    expect(largest).toBeGreaterThan(0);
    expect(largest).toBeLessThan(8 * mib);
    const logs = await system.rest("GET", `/v1/capsules/${sandbox.id}/logs?limit=1000`);
    const { entries } = (await logs.json()) as { entries: { source: string; message: string }[] };
    expect(entries.length).toBeLessThanOrEqual(1_000);
    expect(entries.some(({ source, message }) => source === "console" && message === "flooding")).toBe(true);
  });
});

describe("clients and machines that come and go", () => {
  test("a client that disconnects at any moment of a create leaves no sandbox that nobody knows", async () => {
    for (const ms of [1, 30, 100, 300, 700]) {
      const signal = AbortSignal.timeout(ms);
      const create = { method: "POST", signal };
      await system.rest("POST", "/v1/capsules", { template: "base" }, create).catch(() => {});
    }
    const machines = () => readdirSync(`${system.dir}/sandboxes`).length;
    const listed = async () =>
      (await Sandbox.list({ client: system.client })).filter((one) => one.status === "running");
    await until("every create to have ended", async () => machines() === (await listed()).length);
    for (const { id } of await Sandbox.list({ client: system.client }))
      await Sandbox.kill(id, { client: system.client });
    expect(machines()).toBe(0);
  });

  test("ten sandboxes later the host agent holds no descriptor more, and the folders are empty", async () => {
    const pid = await system.pidOf("wrenn-agent");
    const open = () => readdirSync(`/proc/${pid}/fd`).length;
    const cycle = async () => {
      const sandbox = await system.create();
      await sandbox.commands.run("true");
      await sandbox.kill();
    };
    await cycle();
    const before = open();
    for (let i = 0; i < 5; i++) await Promise.all([cycle(), cycle()]);
    await until("connections to close", async () => open() <= before + 3);
    for (const folder of ["sandboxes", "snapshots", "layers", "bases", "metrics", "journals"])
      expect(await readdir(`${system.dir}/${folder}`)).toEqual([]);
  });
});
