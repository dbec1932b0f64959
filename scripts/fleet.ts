/**
 * A fleet on one machine: control planes on one PostgreSQL, and host agents that registered with them, each a process.
 *
 *   bun scripts/fleet.ts [--planes 2] [--agents 3] [--vms DIR,DIR,DIR] [--kill]
 *
 * Machines live in the agents' processes unless --vms names a WRENN_DIR with kernel and images for each agent. With
 * --kill each kind of part is killed under load, and what clients saw is told; the exit code is 1 if they lost anything.
 */
import { parseArgs } from "node:util";
import { Cluster } from "../test/fleet/cluster.ts";
import { TestFleet } from "../test/fleet/fleet.ts";
import { load } from "../test/fleet/load.ts";

const { values } = parseArgs({
  options: {
    planes: { type: "string", default: "2" },
    agents: { type: "string", default: "3" },
    vms: { type: "string" },
    kill: { type: "boolean", default: false },
  },
});

await using cluster = await Cluster.start();
const vmDirs = values.vms?.split(",");
const agents = vmDirs?.length ?? Number(values.agents);
await using fleet = await TestFleet.start({ databaseUrl: cluster.url, planes: Number(values.planes), agents, vmDirs });

console.log(`
control planes  ${fleet.planes.map(({ address }) => address).join("  ")}
hosts           ${fleet.hosts.join("  ")}
API key         ${fleet.key}
database        ${cluster.url}

  curl -s ${fleet.planes[0]!.address}/v1/hosts -H 'X-API-Key: ${fleet.key}'
`);

const kills: readonly [string, () => Promise<void>, () => Promise<void>][] = [
  ["a control plane", () => fleet.planes.at(-1)!.kill(), () => fleet.planes.at(-1)!.start()],
  ["PostgreSQL", () => cluster.kill(), () => cluster.up()],
  ["a host agent", () => fleet.agents[0]!.kill(), () => fleet.agents[0]!.start()],
];

if (values.kill) await killEach();
else {
  console.log("Ctrl-C ends it.");
  await new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve());
  });
}

async function killEach(): Promise<void> {
  for (const [name, kill, restart] of kills) {
    const disturbed = (async () => {
      await Bun.sleep(2_000);
      await kill();
      await Bun.sleep(1_000);
      await restart();
      await Bun.sleep(2_000);
    })();
    const seen = await load(fleet, 8, disturbed);
    const doubled = seen.made.size - new Set(seen.made.values()).size;
    const told = `${seen.requests} requests, ${seen.retries} tried again, ${seen.failed.length} failed, ${doubled} doubled`;
    console.log(`${name} killed: ${told}`);
    for (const why of seen.failed.slice(0, 5)) console.log(`  ${why}`);
    if (seen.failed.length + doubled > 0) process.exitCode = 1;
    const kept = [...seen.made.values()].filter((id) => !seen.deleted.has(id));
    await Promise.all(kept.map((id) => fleet.fetch(0, "DELETE", `/v1/capsules/${id}`)));
  }
}
