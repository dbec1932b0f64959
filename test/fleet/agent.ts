/**
 * A host agent as `wrenn-agent` runs it, on machines that live in this process: registration, mutual TLS, heartbeat,
 * journal and recipes are the real ones, so that a fleet fits where real VMs have no room.
 */
import { parseArgs } from "node:util";
import { startTracing } from "@wrenn/contract/start-tracing";
import pino from "pino";
import { FakeWorld, fakeImage } from "../../packages/host/src/drivers/fake.ts";
import { startMember } from "../../packages/host/src/fleet/member.ts";
import { wishOf } from "../../packages/host/src/fleet/membership.ts";

const { env } = process;
const { values } = parseArgs({
  options: { register: { type: "string" }, address: { type: "string" }, dial: { type: "boolean" } },
});
const log = pino(
  { level: env.LOG_LEVEL || "info", base: { program: "fake-agent" }, serializers: { error: pino.stdSerializers.err } },
  pino.destination({ dest: 2, sync: true }),
);
await startTracing("wrenn-agent");
const dir = env.WRENN_DIR!;
await fakeImage(dir, "minimal");
const world = new FakeWorld();
const options = {
  dir,
  listen: env.WRENN_HOST_LISTEN_ADDR,
  token: env.WRENN_HOST_TOKEN,
  poolSize: "0",
  store: env.WRENN_STORE,
};
const agent = await startMember(options, wishOf(values, env), {
  log,
  onDeleted: () => process.exit(0),
  drivers: { vmm: world.vmm, disks: world.disks, nets: world.nets },
});
process.on("SIGTERM", () => void agent.stop({ pause: true }).then(() => process.exit(0)));
console.log(JSON.stringify({ ready: true, address: agent.address }));
