import { afterAll, beforeAll, expect, test } from "bun:test";
import { tapNet } from "../../packages/host/src/drivers/netns/addresses.ts";
import { NetnsTap } from "../../packages/host/src/drivers/netns/netns-tap.ts";
import type { Nic } from "../../packages/host/src/drivers/ports.ts";
import { newAuthority } from "../../packages/host/src/egress/authority.ts";
import { quiet } from "../../packages/host/test/support/host.ts";
import { left } from "../support/left.ts";
import { makeWorld, world } from "../support/wan.ts";

/**
 * What a guest may reach, tried by programs in the guest's place: a name space with the guest's address behind the tap's
 * name. Rules and translation are the real ones; no VM has to boot. One real guest tries the same in sandboxes.test.ts.
 */
let nets: NetnsTap;

beforeAll(async () => {
  await makeWorld();
  nets = await NetnsTap.start({ dir: "/lab/out/rules", gid: 0, ready: 0 }, quiet);
}, 120_000);

afterAll(async () => {
  await nets.settled();
  await nets[Symbol.asyncDispose]();
  expect(left()).toMatchObject({ networks: [], slots: [] });
});

/** A network with programs where its guest would be. */
async function guest(name: string): Promise<AsyncDisposable & { nic: Nic; sh(script: string): Promise<string> }> {
  const nic = await nets.attach(name);
  if (nic.link.kind !== "tap") throw new Error("a tap was expected");
  const [netns, inside] = [nic.link.netns, `guest-${name}`];
  const commands = [
    `netns add ${inside}`,
    `-n ${netns} link del tap0`,
    `-n ${netns} link add tap0 address ${tapNet.gatewayMac} type veth peer name eth0 netns ${inside} address ${tapNet.guestMac}`,
    `-n ${netns} addr add ${tapNet.gateway}/${tapNet.prefix} dev tap0`,
    `-n ${netns} link set tap0 up`,
    `-n ${inside} link set lo up`,
    `-n ${inside} addr add ${tapNet.ip}/${tapNet.prefix} dev eth0`,
    `-n ${inside} link set eth0 up`,
    `-n ${inside} route add default via ${tapNet.gateway}`,
  ];
  for (const command of commands) await Bun.$`ip ${command.split(" ")}`.quiet();
  await Bun.$`mkdir -p /etc/netns/${inside}`;
  await Bun.write(`/etc/netns/${inside}/resolv.conf`, `nameserver ${tapNet.gateway}\noptions timeout:5 attempts:1\n`);
  return {
    nic,
    sh: async (script) => (await Bun.$`ip netns exec ${inside} bash -c ${script}`.nothrow().quiet()).stdout.toString(),
    [Symbol.asyncDispose]: async () => {
      await nic[Symbol.asyncDispose]();
      await Bun.$`ip netns del ${inside}`.nothrow().quiet();
    },
  };
}

type Guest = Awaited<ReturnType<typeof guest>>;

/** The addresses at which somebody answers this guest. */
async function reachable({ sh }: Guest, addresses: readonly string[]): Promise<string[]> {
  const one = (ip: string) => `(timeout 10 bash -c 'exec 3<>/dev/tcp/${ip}/80' 2>/dev/null && echo ${ip}) &`;
  return (await sh(`${addresses.map(one).join("\n")}\nwait`)).split("\n").filter(Boolean).sort();
}

const both = [world.internet, world.elsewhere].sort();

test("public addresses and no other: not metadata, private ranges, this machine, another sandbox", async () => {
  await using a = await guest("a");
  await using b = await guest("b");
  const other = b.nic.reach(80)!.split(":")[0]!;
  const near = [tapNet.gateway, "10.12.0.0", "10.12.0.2", "10.11.0.1"];
  expect(await reachable(a, [...Object.values(world), other, ...near])).toEqual(both);
});

test("an address that is not the guest's own sends nothing, nor does IPv6", async () => {
  await using a = await guest("a");
  await a.sh(
    `ip addr add 203.0.113.77/32 dev eth0; ip route replace default via ${tapNet.gateway} dev eth0 src 203.0.113.77`,
  );
  expect(await reachable(a, both)).toEqual([]);
  expect(
    await a.sh("ip -6 route add default dev eth0; timeout 3 bash -c 'exec 3<>/dev/tcp/2001:db8::1/80' && echo open"),
  ).toBe("");
});

test("names are answered by the host's resolver, and never with an address below the floor", async () => {
  await using a = await guest("a");
  expect(await a.sh("getent ahostsv4 good.test")).toContain(world.internet);
  expect(await a.sh("getent ahostsv4 rebind.test")).toBe("");
});

test("a policy counts at once: nothing, one range, everything but", async () => {
  await using a = await guest("a");
  const set = a.nic.setPolicy!;
  await set({ internet: false, allow: [], deny: [] });
  expect(await reachable(a, both)).toEqual([]);
  await set({ internet: false, allow: ["203.0.113.0/24"], deny: [] });
  expect(await reachable(a, both)).toEqual([world.elsewhere]);
  await set({ internet: true, allow: [], deny: ["198.51.100.0/24"] });
  expect(await reachable(a, both)).toEqual([world.elsewhere]);
});

/** The last line of what a web server says, which `ip` is asked for by the name of `host`. */
const web = ({ sh }: Guest, ip: string, host: string) =>
  sh(
    `exec 3<>/dev/tcp/${ip}/80 && printf 'GET / HTTP/1.1\\r\\nHost: ${host}\\r\\n\\r\\n' >&3; timeout 10 cat <&3 | tail -1`,
  );

test("a name in a policy is looked for in what the guest says, whatever address it dials", async () => {
  await using a = await guest("a");
  await a.nic.setPolicy!({ internet: false, allow: ["good.test"], deny: [] });
  expect(await a.sh("getent ahostsv4 elsewhere.test")).toBe("");
  expect(await a.sh("getent ahostsv4 good.test")).toContain(world.internet);
  expect(await web(a, world.internet, "good.test")).toBe("world");
  expect(await web(a, world.elsewhere, "good.test")).toBe("world"); // led to where the name really is
  expect(await web(a, world.internet, "elsewhere.test")).toContain("does not allow this host");
  expect(await web(a, world.metadata, "rebind.test")).toContain("does not allow this host");
  expect(await a.sh(`exec 3<>/dev/tcp/${world.internet}/80; echo hello >&3; timeout 10 cat <&3`)).toBe("");
  await a.nic.setPolicy!({ internet: false, allow: ["*"], deny: [] });
  expect(await web(a, world.internet, "elsewhere.test")).toBe("world");
  expect(await web(a, world.metadata, "rebind.test")).toContain("does not allow this host");
  await a.nic.setPolicy!({ internet: true, allow: [], deny: [] });
  expect(await web(a, world.internet, "anything.test")).toBe("world");
});

test("headers are set on requests to the hosts that a rule names, and stand in no file of the host", async () => {
  await using a = await guest("a");
  const rewrites = { "good.test": { "x-key": "a secret of the team" } };
  await a.nic.setPolicy!({ internet: true, allow: [], deny: [], rewrites, authority: await newAuthority() });
  expect(await web(a, world.internet, "good.test")).toBe("world with a secret of the team");
  expect(await web(a, world.internet, "elsewhere.test")).toBe("world");
  expect(
    (await Bun.$`grep -rl "a secret of the team" /run/wrenn /lab/out/rules`.nothrow().quiet()).stdout.toString(),
  ).toBe("");
});

test("while no agent is there a name is reached by nobody, and by the next one again", async () => {
  await using a = await guest("a");
  const policy = { internet: false, allow: ["good.test"], deny: [] };
  await a.nic.setPolicy!(policy);
  await nets[Symbol.asyncDispose](); // what a killed agent leaves: rules, and nobody who listens
  expect(await web(a, world.internet, "good.test")).toBe("");
  nets = await NetnsTap.start({ dir: "/lab/out/rules", gid: 0, ready: 0 }, quiet);
  const again = await nets.attach("a");
  await again.setPolicy!(policy);
  expect(await web(a, world.internet, "good.test")).toBe("world");
  await again[Symbol.asyncDispose]();
});

test("a connection that a new policy forbids ends", async () => {
  await using a = await guest("a");
  const talk = a.sh(
    `exec 3<>/dev/tcp/${world.internet}/80; sleep 4; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; timeout 5 head -c 8 <&3`,
  );
  await Bun.sleep(2_000);
  await a.nic.setPolicy!({ internet: false, allow: [], deny: [] });
  expect(await talk).toBe("");
});

test("an isolated sandbox reaches nothing, also after the agent was restarted", async () => {
  const isolated = await nets.attach("isolated", true);
  expect(isolated.link.kind).toBe("tap");
  await isolated[Symbol.asyncDispose]();
  await using a = await guest("a");
  await a.nic.setPolicy!({ internet: false, allow: [], deny: [] });
  const next = await NetnsTap.start({ dir: "/lab/out/rules", gid: 0, ready: 0 }, quiet); // as after kill -9
  await next.attach("a");
  expect(await reachable(a, both)).toEqual([]);
  expect(await a.sh("getent ahostsv4 good.test")).toBe("");
  await nets[Symbol.asyncDispose]();
  nets = next;
});

test("what a guest reached and was refused is listed, direct or by name, also by the next agent", async () => {
  await using a = await guest("listed");
  await a.nic.setPolicy!({ internet: true, allow: [], deny: ["203.0.113.0/24"] });
  await reachable(a, [world.internet, world.elsewhere, world.metadata]);
  const direct = async (nic: Nic) => {
    const { allowed, denied } = await nic.flows!();
    const list = (flows: typeof allowed) => flows.map(({ ip, port, protocol }) => `${protocol} ${ip}:${port}`).sort();
    return { allowed: list(allowed), denied: list(denied) };
  };
  const expected = {
    allowed: [`tcp ${world.internet}:80`],
    denied: [`tcp ${world.metadata}:80`, `tcp ${world.elsewhere}:80`],
  };
  expect(await direct(a.nic)).toEqual(expected);
  await nets[Symbol.asyncDispose]();
  nets = await NetnsTap.start({ dir: "/lab/out/rules", gid: 0, ready: 0 }, quiet);
  const again = await nets.attach("listed");
  expect(await direct(again)).toEqual(expected);
  await again.setPolicy!({ internet: false, allow: ["good.test"], deny: [] });
  await web(a, world.internet, "good.test");
  const { allowed } = await again.flows!();
  expect(allowed).toContainEqual(expect.objectContaining({ host: "good.test", port: 80, count: 1 }));
  await again[Symbol.asyncDispose]();
});

test("what goes through it is counted", async () => {
  await using a = await guest("c");
  const before = await a.nic.counters!();
  await a.sh(`exec 3<>/dev/tcp/${world.internet}/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`);
  const after = await a.nic.counters!();
  expect(after.sentPackets - before.sentPackets).toBeGreaterThan(2);
  expect(after.receivedBytes - before.receivedBytes).toBeGreaterThan(100);
});
