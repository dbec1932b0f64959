import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { NetnsTap } from "../../packages/host/src/drivers/netns/netns-tap.ts";
import { quiet } from "../../packages/host/test/support/host.ts";
import { left } from "../support/left.ts";

const options = { dir: "/lab/out/net", gid: 0, ready: 0 };
let nets: NetnsTap;

beforeAll(async () => {
  nets = await NetnsTap.start(options, quiet);
});
afterEach(async () => {
  await nets.settled();
  expect(left().networks).toEqual([]);
});
afterAll(() => nets[Symbol.asyncDispose]());

const inside = (netns: string, ...argv: string[]) =>
  Bun.spawnSync(["ip", "netns", "exec", netns, ...argv]).stdout.toString();

test("a network has a tap for the VMM, its own rules and every port of the guest reachable; nothing is left of it", async () => {
  await using nic = await nets.attach("a");
  if (nic.link.kind !== "tap") throw new Error("a tap was expected");
  const { netns } = nic.link;
  expect(nic.reach(80)).toMatch(/^10\.11\.\d+\.\d+:80$/);
  expect(inside(netns, "cat", "/proc/sys/net/ipv4/ip_forward").trim()).toBe("1");
  expect(inside(netns, "cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6").trim()).toBe("1");
  expect(inside(netns, "ip", "-o", "-4", "addr")).toContain("169.254.0.22/30");
  expect(inside(netns, "nft", "list", "chain", "inet", "wrenn", "egress")).toContain("@floor goto refused");
});

test("two networks differ in every name and address that this machine sees", async () => {
  await using a = await nets.attach("a");
  await using b = await nets.attach("b");
  expect(a.link).not.toEqual(b.link);
  expect(a.reach(1)).not.toBe(b.reach(1));
});

test("a policy is put in force and replaced as a whole, limits too", async () => {
  await using nic = await nets.attach("a");
  if (nic.link.kind !== "tap") throw new Error("a tap was expected");
  const { netns } = nic.link;
  await nic.setPolicy!({ internet: false, allow: ["203.0.113.0/24"], deny: [], receiveMbit: 10, transmitMbit: 5 });
  expect(inside(netns, "nft", "list", "set", "inet", "wrenn", "allow")).toContain("203.0.113.0/24");
  expect(inside(netns, "tc", "qdisc", "show", "dev", "tap0")).toContain("rate 10Mbit");
  expect(inside(netns, "tc", "qdisc", "show", "dev", "eth0")).toContain("rate 5Mbit");
  await nic.setPolicy!({ internet: true, allow: [], deny: [] });
  expect(inside(netns, "nft", "list", "set", "inet", "wrenn", "allow")).not.toContain("203.0.113");
  expect(inside(netns, "tc", "qdisc", "show", "dev", "tap0")).not.toContain("tbf");
});

test("a new agent finds a sandbox's network again, and removes those that nobody attaches", async () => {
  const mine = await nets.attach("mine");
  await nets.attach("nobody's");
  const next = await NetnsTap.start(options, quiet); // as after kill -9: the first was never disposed
  const again = await next.attach("mine");
  expect(again.link).toEqual(mine.link);
  await next.sweep();
  expect(left().networks).toHaveLength(1);
  await again[Symbol.asyncDispose]();
  await next[Symbol.asyncDispose]();
});

test("with a pool a create takes what is ready, and the pool is filled again", async () => {
  const pooled = await NetnsTap.start({ ...options, dir: "/lab/out/pooled", ready: 2 }, quiet);
  await pooled.settled();
  expect(left().networks).toHaveLength(2);
  const before = readdirSync("/run/netns").sort();
  await using nic = await pooled.attach("a");
  expect(nic.link.kind === "tap" && before.includes(nic.link.netns)).toBe(true);
  await pooled.settled();
  expect(left().networks).toHaveLength(3);
  await nic[Symbol.asyncDispose]();
  await pooled[Symbol.asyncDispose]();
});
