import { expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { compile } from "../../packages/host/src/config.ts";
import { probe } from "../../packages/host/src/probe.ts";

test("the lab's host has what production needs: device mapper, loop devices, TUN, and name spaces for networks", () => {
  for (const device of ["/dev/mapper/control", "/dev/loop-control", "/dev/net/tun"])
    expect(statSync(device).isCharacterDevice()).toBe(true);
  expect(existsSync("/proc/self/ns/net")).toBe(true);
});

test("KVM works in it: the probe's tiny guest comes up, so the agent chooses it by itself", async () => {
  const found = await probe(compile({ dir: process.env.WRENN_DIR, token: "a token of the test" }));
  expect(found.probes.find(({ name }) => name === "kvm")).toMatchObject({ ok: true });
  expect(found.accelerator).toBe("kvm");
});
