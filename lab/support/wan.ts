import { existsSync } from "node:fs";

/**
 * A world outside for the lab's host, which has none: a network name space with addresses of each kind and a web server
 * that answers on all of them, so that a refusal is the floor's doing and not for want of anybody there.
 */
export const world = {
  internet: "198.51.100.2",
  elsewhere: "203.0.113.9",
  metadata: "169.254.169.254",
  lan: "192.168.77.1",
  private10: "10.99.0.1",
  private172: "172.20.0.1",
  shared: "100.64.0.1",
  /** An address of the lab's host itself, in public space. */
  host: "198.51.100.1",
} as const;

const outside = ["internet", "elsewhere", "metadata", "lan", "private10", "private172", "shared"] as const;

/** Makes it, once for all test files; the host's own resolver is in it. */
export async function makeWorld(): Promise<void> {
  if (existsSync("/run/netns/wan")) return;
  const inside = (...argv: string[]) => ["ip", "netns", "exec", "wan", ...argv];
  const run = (argv: string[]) => Bun.spawnSync(argv, { stderr: "inherit" });
  run(["ip", "netns", "add", "wan"]);
  run(["ip", "link", "add", "wan0", "type", "veth", "peer", "name", "eth0", "netns", "wan"]);
  run(["ip", "addr", "add", `${world.host}/24`, "dev", "wan0"]);
  run(["ip", "link", "set", "wan0", "up"]);
  run(["ip", "route", "replace", "default", "via", world.internet, "dev", "wan0"]);
  run(inside("ip", "link", "set", "lo", "up"));
  run(inside("ip", "link", "set", "eth0", "up"));
  run(inside("ip", "addr", "add", `${world.internet}/24`, "dev", "eth0"));
  for (const name of outside) {
    if (name === "internet") continue;
    run(inside("ip", "addr", "add", `${world[name]}/32`, "dev", "lo"));
    run(["ip", "route", "replace", `${world[name]}/32`, "via", world.internet, "dev", "wan0"]);
  }
  await Bun.write("/etc/resolv.conf", `nameserver ${world.internet}\n`);
  Bun.spawn(inside("bun", `${import.meta.dir}/wan-server.ts`), { stdio: ["ignore", "inherit", "inherit"] });
  Bun.serve({ hostname: "0.0.0.0", port: 80, fetch: () => new Response("host") }); // something of the host to reach
  for (let left = 200; left > 0; left--) {
    const answer = await fetch(`http://${world.elsewhere}/`, { signal: AbortSignal.timeout(1_000) }).catch(() => null);
    if (answer?.ok) return;
    await Bun.sleep(100);
  }
  throw new Error("the world outside does not answer");
}
