/** What the guest's own programs hold to: its agent in an image of nothing, limits on commands, hooks, an agent that dies. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { $ } from "bun";
import type { Sandbox } from "wrenn";
import { until } from "../support/processes.ts";
import { nothingLeft, repository, System } from "../support/system.ts";

let system: System;
let box: Sandbox;

beforeAll(async () => {
  system = await System.start("guest");
  box = await system.create({ envs: { KEPT: "through it all" } });
});

afterAll(async () => {
  await system?.end().then((left) => expect(left).toEqual(nothingLeft));
});

/** Publishes an image made of an empty folder and the agent, for this test's system alone. */
async function publishBare(): Promise<void> {
  const images = `${system.dir}/images`;
  const root = await mkdtemp(`${system.dir}/root-`);
  await mkdir(`${images}/.new`);
  await writeFile(`${images}/.facts`, '{ "defaultUser": "root", "defaultWorkdir": "/root", "env": {} }');
  const asRoot = process.getuid?.() === 0 ? [] : ["fakeroot", "--"];
  const make = `${repository}builds/guest/inject ${root} && PATH=$PATH:/sbin:/usr/sbin mke2fs -q -t ext4 -d ${root} ${images}/.new/rootfs.ext4 400M`;
  await $`${asRoot} sh -c ${make}`.quiet();
  await $`bun ${repository}images/publish.ts ${images}/.new ${images}/bare ${images}/.facts`.quiet();
  await rm(root, { recursive: true });
}

test("an image of nothing runs commands, holds files, pauses and resumes", async () => {
  await publishBare();
  const bare = await system.create({ template: "bare" });
  const { stdout } = await bare.commands.run("ls /usr/local/bin; id -un; cat /proc/1/comm; echo $HOME");
  expect(stdout).toBe("envd\nwrenn-init\nroot\ntini\n/root\n");
  await bare.files.write("/srv/notes", "kept");
  await bare.pause();
  await bare.resume();
  expect((await bare.commands.run("cat /srv/notes; hostname")).stdout).toMatch(/^keptwrenn-/);
  await bare.kill();
});

test("commands are in a group whose limits leave the agent memory, processes and time", async () => {
  const group = "/sys/fs/cgroup/wrenn";
  const lines = `cat /proc/self/cgroup; cat ${group}/pids.max ${group}/memory.max; grep MemTotal /proc/meminfo; cat /proc/$(pidof envd)/cgroup /proc/$(pidof envd)/oom_score_adj /proc/self/oom_score_adj`;
  const { stdout } = await box.commands.run(lines, { user: "root" });
  const [own, pids, memory, total, agents, agentScore, score] = stdout.trim().split("\n");
  expect([own, agents, agentScore, score]).toEqual(["0::/wrenn/user", "0::/", "-1000", "100"]);
  expect(Number(pids)).toBeGreaterThan(1000);
  expect(Number(memory)).toBe((Number(/\d+/.exec(total!)![0]) - 48 * 1024) * 1024);
});

test("a command that forks without end leaves the agent able to answer, and ends when it is killed", async () => {
  const bombed = await system.create();
  // An emulated guest needs minutes to start as many processes as it may: fewer show the same.
  await bombed.commands.run("echo 64 > /sys/fs/cgroup/wrenn/pids.max", { user: "root" });
  const bomb = await bombed.commands.run("f() { f | f & }; f; sleep 600", { background: true, timeoutMs: 0 });
  const read = (name: string) => bombed.files.read(`/sys/fs/cgroup/wrenn/${name}`, { user: "root" });
  await until("a refused process", async () => /^max [1-9]/m.test(await read("user/pids.events")), {
    withinMs: 120_000,
  });
  await bombed.files.write("/home/user/note", "alive");
  expect(await bombed.files.read("/home/user/note")).toBe("alive");
  await bomb.kill();
  await until("the end of its children", async () => Number(await read("pids.current")) < 20, { withinMs: 120_000 });
  expect((await bombed.commands.run("echo alive")).stdout).toBe("alive\n");
  await bombed.kill();
});

test("hooks run after every restore, with the new identity", async () => {
  const hook = "/etc/wrenn/on-restore.d/10-note";
  const script = '#!/bin/sh\necho "$WRENN_SANDBOX_ID $(hostname)" >> /root/restores\n';
  await box.files.write(hook, script, { user: "root" });
  await box.commands.run(`chmod 755 ${hook}; echo exit 1 > ${hook}.off; mkdir -p /etc/wrenn/on-restore.d/20-folder`, {
    user: "root",
  });
  for (const round of [1, 2]) {
    await box.pause();
    await box.resume();
    const told = () => box.commands.run("cat /root/restores 2>/dev/null || true", { user: "root" });
    const lines = await until("the hook's line", async () => {
      const found = (await told()).stdout.trim().split("\n");
      return found.length === round && found[0] ? found : undefined;
    });
    const id = box.id.replace(/^cl-/, "");
    expect(lines.at(-1)).toBe(`${id} wrenn-${id.slice(0, 8)}`);
  }
});

test("an agent that is killed comes back with its token, user and environment", async () => {
  await box.commands.run("kill -9 $(pidof envd)", { user: "root" }).catch(() => {});
  const again = () => box.commands.run("whoami; echo $KEPT").catch(() => undefined);
  expect((await until("the agent", again, { withinMs: 180_000, everyMs: 500 })).stdout).toBe("user\nthrough it all\n");
  const open = await fetch(`${system.agentAddress(box.id)}/envs`);
  expect(open.status).toBe(401);
});
