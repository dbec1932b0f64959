import { afterAll, expect, test } from "bun:test";
import { type Booted, bootTemplate, vmmSuite } from "../../packages/host/test/suites/vmm.ts";
import { firecrackerDrivers, networks, noFirecracker, noJailer, vmmBench } from "../support/bench.ts";
import { leftInTheEnd } from "../support/left.ts";

const nets = await networks("firecracker");

/** Booted once, in a jail where there is one: what was taken in one home is restored in any other. */
let template: Promise<Booted> | undefined;
const booted = async () => {
  template ??= vmmBench(noJailer ? plain! : jailed!).then(bootTemplate);
  return (await template).frozen;
};

const plain = await firecrackerDrivers(nets, { jailed: false }).catch(() => undefined);
vmmSuite("firecracker, plain", () => vmmBench(plain!), {
  ...{ skip: noFirecracker, booted },
  skipBoots: noJailer ? undefined : "a jailed machine is booted so, which takes half a minute",
});

const jailed = await firecrackerDrivers(nets, { jailed: true }).catch(() => undefined);
vmmSuite("firecracker, jailed", () => vmmBench(jailed!), { skip: noJailer, booted });

afterAll(async () => {
  await (await template)?.[Symbol.asyncDispose]();
  await nets[Symbol.asyncDispose]();
});

test("nothing is left of all these machines", async () => {
  await nets.settled();
  expect(await leftInTheEnd("devices", "loops", "vmms", "groups")).toMatchObject({
    devices: [],
    loops: [],
    vmms: [],
    groups: [],
  });
});
