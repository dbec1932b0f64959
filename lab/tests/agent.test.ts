import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { hostagent, newSandboxId } from "@wrenn/contract";
import { hostClient } from "../../packages/host/test/support/wire.ts";
import { firecracker, jailer, noJailer, wrennDir } from "../support/bench.ts";
import { left, leftInTheEnd } from "../support/left.ts";

/** The capabilities that the unit gives the agent: this test runs it with these and no others. */
const unit = readFileSync(`${import.meta.dir}/../../deploy/systemd/wrenn-agent.service`, "utf8");
const capabilities = /^AmbientCapabilities=(.*)$/m.exec(unit)![1]!.split(" ");
const as = { uid: 7_001, gid: statSync("/dev/kvm").gid };
const token = "a token of the test";

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(`${wrennDir}/agent-`);
  await Bun.$`ln -s ${wrennDir}/kernels ${wrennDir}/images ${dir} && chown -h ${as.uid}:${as.gid} ${dir} && chmod 755 ${dir}`;
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** The agent's program, as systemd would start it. `ready` settles when it has said `times` times that it serves. */
async function startAgent() {
  const list = capabilities.map((name) => `+${name.replace("CAP_", "").toLowerCase()}`).join(",");
  const how = [
    `--reuid=${as.uid}`,
    `--regid=${as.gid}`,
    "--clear-groups",
    `--inh-caps=${list}`,
    `--ambient-caps=${list}`,
  ];
  const said = `${dir}/said-${crypto.randomUUID()}`;
  const child = Bun.spawn(["setpriv", ...how, `--bounding-set=-all,${list}`, "bun", "packages/host/src/main.ts"], {
    cwd: "/lab/repo",
    env: {
      ...{ PATH: process.env.PATH ?? "", HOME: dir, WRENN_DIR: dir, WRENN_HOST_TOKEN: token, WRENN_POOL: "0" },
      ...{ WRENN_HOST_LISTEN_ADDR: "127.0.0.1:0", FIRECRACKER_BIN: firecracker ?? "", JAILER_BIN: jailer ?? "" },
    },
    stdio: ["ignore", Bun.file(said), Bun.file(`${dir}/log`)],
  });
  const ready = async (times: number) => {
    for (let left = 1_200; left > 0 && child.exitCode === null; left--) {
      const lines = (await Bun.file(said).text()).split("\n").filter((line) => line.includes('"ready":true'));
      if (lines.length >= times) return hostClient((JSON.parse(lines.at(-1)!) as { address: string }).address, token);
      await Bun.sleep(100);
    }
    throw new Error(`the agent did not start: ${await Bun.file(`${dir}/log`).text()}`);
  };
  return { child, ready, client: await ready(1) };
}

/** Firecracker processes. */
const vmms = () =>
  Bun.spawnSync(["pgrep", "-f", "^/firecracker.*--id vm"]).stdout.toString().split("\n").filter(Boolean);

const title = "the agent, not root, runs jailed sandboxes with what its unit gives it, and its VMMs have none of that";
(noJailer ? test.skip : test)(
  noJailer ? `${title} — skipped: ${noJailer}` : title,
  async () => {
    const { child, client, ready } = await startAgent();
    const log = await Bun.file(`${dir}/log`).text();
    expect(log).toContain('"vmm":"firecracker"');
    const id = newSandboxId();
    const made = await client.createSandbox({ id, run: 1n, template: "minimal" }).catch(async (thrown) => {
      throw new Error(`${thrown}\n${await Bun.file(`${dir}/log`).text()}`);
    });
    expect(made.sandbox?.id).toBe(id);
    const pid = Number(vmms()[0]);
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    expect(/^CapEff:\s*(\w+)/m.exec(status)![1]).toBe("0000000000000000");
    expect(/^CapBnd:/m.test(status)).toBe(true);
    expect(/^Seccomp:\s*(\d)/m.exec(status)![1]).toBe("2");
    expect(Number(/^Uid:\s*(\d+)/m.exec(status)![1])).toBeGreaterThan(0x6000_0000 - 1);
    expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toContain("/wrenn/");
    child.kill("SIGUSR2"); // hands over to its program, which adopts
    const upgraded = await ready(2);
    expect(vmms()).toEqual([`${pid}`]);
    expect((await upgraded.getSandbox({ id })).sandbox).toMatchObject({
      state: hostagent.SandboxState.RUNNING,
      run: 1n,
    });
    child.kill("SIGTERM"); // pauses first
    expect(await child.exited).toBe(0);
    expect(left()).toMatchObject({ vmms: [], groups: [] });
    const next = await startAgent();
    await next.client.resumeSandbox({ id, run: 2n });
    await next.client.destroySandbox({ id });
    next.child.kill("SIGTERM");
    await next.child.exited;
    expect(await leftInTheEnd()).toMatchObject({ devices: [], networks: [], vmms: [], groups: [] });
  },
  900_000,
);
