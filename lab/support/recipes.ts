import type { SandboxId } from "@wrenn/contract";
import type { Drivers } from "../../packages/host/src/drivers/ports.ts";
import { firecracker, firecrackerDrivers, jailer, networks, qemuDrivers } from "./bench.ts";
import type { RealHost } from "./real-host.ts";

/** Firecracker, in its jail where there is one; else QEMU with KVM: what faults are tried on. */
export async function driversFor(name: string, ready = 0): Promise<Drivers> {
  const nets = await networks(name, ready);
  return firecracker ? firecrackerDrivers(nets, { jailed: !!jailer }) : qemuDrivers(nets);
}

const running = async (host: RealHost) => (await host.create()).id;

async function paused(host: RealHost): Promise<SandboxId> {
  const id = await running(host);
  await host.sandboxes.pause(id);
  return id;
}

type Recipe = {
  readonly prepare: (host: RealHost) => Promise<SandboxId | undefined>;
  readonly run: (host: RealHost, id?: SandboxId) => unknown;
  readonly after: "running" | "paused" | undefined;
};

/** Each recipe from a prepared sandbox, and the state in which it is found when the recipe fails or the agent is killed. */
export const recipes = {
  create: { prepare: async () => undefined, run: (host) => host.create(), after: undefined },
  pause: { prepare: running, run: (host, id) => host.sandboxes.pause(id!), after: "running" },
  resume: { prepare: paused, run: (host, id) => host.sandboxes.resume(id!, 2), after: "paused" },
  checkpoint: { prepare: running, run: (host, id) => host.sandboxes.checkpoint(id!), after: "running" },
} as const satisfies Record<string, Recipe>;

export type RecipeName = keyof typeof recipes;
