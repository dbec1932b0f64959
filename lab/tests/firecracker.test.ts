import { afterAll, expect, test } from "bun:test";
import { vmmSuite } from "../../packages/host/test/suites/vmm.ts";
import { firecrackerDrivers, networks, noFirecracker, noJailer, vmmBench } from "../support/bench.ts";
import { leftInTheEnd } from "../support/left.ts";

const nets = await networks("firecracker");

const plain = await firecrackerDrivers(nets, { jailed: false }).catch(() => undefined);
vmmSuite("firecracker, plain", () => vmmBench(plain!), noFirecracker);

const jailed = await firecrackerDrivers(nets, { jailed: true }).catch(() => undefined);
vmmSuite("firecracker, jailed", () => vmmBench(jailed!), noJailer);

afterAll(async () => {
  await nets[Symbol.asyncDispose]();
});

test("nothing is left of all these machines", async () => {
  await nets.settled();
  expect(await leftInTheEnd()).toMatchObject({ devices: [], loops: [], vmms: [], groups: [] });
});
