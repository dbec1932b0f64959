import { beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync, statSync } from "node:fs";
import { newSandboxId } from "@wrenn/contract";
import { hostClient } from "../../packages/host/test/support/wire.ts";
import { firecracker, jailer, noJailer, wrennDir } from "../support/bench.ts";
import { leftInTheEnd } from "../support/left.ts";

/**
 * A host that systemd runs, from nothing to jailed sandboxes that outlive their agent: what README's chapter on hosts with
 * KVM tells an operator to do, its commands as they stand there.
 */
const chapter = /## On hosts with KVM\n[\s\S]*?```sh\n([\s\S]*?)```/.exec(
  readFileSync("/lab/repo/README.md", "utf8"),
)![1]!;
const commands = chapter.split("\n").map((line) => line.replace(/ +#.*/, "").replace(/^sudo /, ""));

const sh = (script: string) => {
  const { stdout, stderr, exitCode } = Bun.spawnSync(["bash", "-c", script], { cwd: "/lab/repo" });
  return { code: exitCode, out: `${stdout}${stderr}` };
};

/** What this test cannot type: the editor, and building, which happened outside. */
const replaced: Record<string, string> = {
  "make build images": `mkdir -p /var/lib/wrenn && cp -a --sparse=always ${wrennDir}/kernels ${wrennDir}/images /var/lib/wrenn/`,
  // A pool would take the emulated host's processors for itself.
  "sudoedit /etc/wrenn/agent.env": "sed -i s/^WRENN_POOL=.*/WRENN_POOL=0/ /etc/wrenn/agent.env",
};

const why =
  noJailer ?? (existsSync("/lab/repo/builds/wrenn-agent") ? undefined : "builds/wrenn-agent is not built (make build)");
const rule = (title: string, act: () => Promise<void>) =>
  (why ? test.skip : test)(why ? `${title} — skipped: ${why}` : title, act, 600_000);

beforeAll(async () => {
  // "the two static programs of one Firecracker release in /usr/local/bin"
  for (const program of [firecracker, jailer]) if (program) sh(`install ${program} /usr/local/bin/`);
});

const address = "http://127.0.0.1:50051";
const setting = (name: string) =>
  new RegExp(`^${name}=(.*)$`, "m").exec(readFileSync("/etc/wrenn/agent.env", "utf8"))![1]!;
const agent = () => hostClient(address, setting("WRENN_HOST_TOKEN"));
const mainPid = () => sh("systemctl show -P MainPID wrenn-agent").out.trim();
const vmms = () => sh("pgrep -f '^/firecracker.*--id vm'").out.split("\n").filter(Boolean);

/** Until the agent answers, as a process other than `not`. */
async function serving(not = ""): Promise<void> {
  for (let left = 900; left > 0; left--) {
    const answer = await fetch(`${address}/health`, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
    if (answer?.ok && mainPid() !== not) return;
    await Bun.sleep(100);
  }
  throw new Error(
    `the agent does not serve:\n${sh("systemctl status wrenn-agent; journalctl -u wrenn-agent -n 30").out}`,
  );
}

rule(
  "the commands of README's chapter bring the agent up: as its own user, with the drivers of production",
  async () => {
    for (const command of commands.filter(Boolean)) {
      const done = sh(replaced[command] ?? command);
      expect([command, done.code, done.code === 0 ? "" : done.out]).toEqual([command, 0, ""]);
      if (command === "wrenn-agent probe")
        expect(done.out).toContain("vmm firecracker, accelerator kvm, disk dm-snapshot");
    }
    await serving();
    const status = readFileSync(`/proc/${mainPid()}/status`, "utf8");
    expect(Number(/^Uid:\s*(\d+)/m.exec(status)![1])).toBe(Number(sh("id -u wrenn").out));
    expect(readFileSync("/proc/sys/net/ipv4/ip_forward", "utf8").trim()).toBe("1");
    expect((statSync("/etc/wrenn/agent.env").mode & 0o777).toString(8)).toBe("640");
  },
);

rule("preparing it a second time changes nothing", async () => {
  const again = sh("scripts/prepare-host");
  expect(again.code).toBe(0);
  expect(again.out).not.toMatch(/^ {2}(done|missing) /m);
});

const id = newSandboxId();

rule("a sandbox is jailed, and outside the service that stops", async () => {
  // Of the size that the agent freezes by itself when it starts; on a busy machine its first try may take too long.
  const create = () => agent().createSandbox({ id, run: 1n, template: "minimal" });
  await create().catch(create);
  const status = readFileSync(`/proc/${vmms()[0]}/status`, "utf8");
  expect(/^CapEff:\s*(\w+)/m.exec(status)![1]).toBe("0000000000000000");
  expect(/^Seccomp:\s*(\d)/m.exec(status)![1]).toBe("2");
  expect(readFileSync(`/proc/${vmms()[0]}/cgroup`, "utf8")).toContain("::/wrenn/");
});

rule("an upgrade by reload, and a killed agent, leave the sandbox running in the same VM", async () => {
  const [pid, vmm] = [mainPid(), vmms()];
  const starts = () => sh('journalctl -u wrenn-agent | grep -c \'"msg":"healed"\'').out.trim();
  expect(sh("systemctl reload wrenn-agent").code).toBe(0);
  for (let left = 900; left > 0 && starts() === "0"; left--) await Bun.sleep(100);
  await serving();
  expect([mainPid(), vmms()]).toEqual([pid, vmm]);
  expect((await agent().getSandbox({ id })).sandbox).toMatchObject({ run: 1n });
  sh(`kill -9 ${pid}`);
  await serving(pid);
  expect(vmms()).toEqual(vmm);
  expect((await agent().getSandbox({ id })).sandbox).toMatchObject({ run: 1n });
});

rule(
  "stopping the service pauses, and after the next start the sandbox is resumed and removed without a trace",
  async () => {
    expect(sh("systemctl stop wrenn-agent").code).toBe(0);
    expect(vmms()).toEqual([]);
    expect(sh("systemctl start wrenn-agent").code).toBe(0);
    await serving();
    await agent().resumeSandbox({ id, run: 2n });
    await agent().destroySandbox({ id });
    expect(sh("systemctl stop wrenn-agent").code).toBe(0);
    expect(await leftInTheEnd()).toEqual({ devices: [], loops: [], networks: [], slots: [], vmms: [], groups: [] });
  },
);
