import { mkdir, open, rename, rm } from "node:fs/promises";
import { agentPort, type InitRequest, WrennError } from "@wrenn/contract";
import type { Drivers, VmSpec } from "./drivers/ports.ts";
import { GuestAgent } from "./guest-agent.ts";
import type { Paths } from "./paths.ts";
import type { Running, Sandbox } from "./sandbox.ts";
import type { Template, Templates } from "./templates.ts";

/** What the recipes work with. */
export type Kitchen = { readonly drivers: Drivers; readonly templates: Templates; readonly paths: Paths };

/** Layers deeper than this cost every read of the guest; a pause then merges them. */
const deepestLayers = 8;

/** Bytes of fresh entropy for a restored guest: the kernel's generator has a 256-bit state. */
const entropyBytes = 32;

/** Restores the template copy-on-write, with an empty disk layer and an identity of its own. On any throw nothing is left. */
export async function create(sandbox: Sandbox, { drivers, templates, paths }: Kitchen): Promise<Running> {
  const { id, spec } = sandbox.record;
  const template = await templates.ready(spec.template, spec);
  sandbox.note({ templateKey: template.key, defaultUser: template.image.defaultUser });
  await using files = new AsyncDisposableStack();
  files.defer(() => rm(paths.sandbox(id), { recursive: true, force: true }));
  await mkdir(paths.sandbox(id), { recursive: true, mode: 0o700 });

  await using undo = new AsyncDisposableStack();
  const disk = undo.use(await drivers.disks.create(template.frozen.disk, paths.layer(id, 0)));
  const nic = undo.use(await drivers.nets.attach(id));
  const vm = undo.use(await drivers.vmm.restore(vmSpec(sandbox, paths, disk, nic), template.frozen));
  sandbox.note({ vm: vm.handle });
  await vm.cont();
  await identify(sandbox, template, new GuestAgent(nic.reach(agentPort)));
  files.move();
  return { disk, nic, vm, held: undo.move() };
}

/**
 * Writes a running sandbox's memory and devices to a durable snapshot and gives its name; the VM is stopped then, and its
 * disk layer is of the same instant. On any throw the VM runs on as before.
 */
export async function pause(sandbox: Sandbox, { vm }: Running, { paths }: Kitchen): Promise<string> {
  const name = `${sandbox.id}-${sandbox.record.run}`;
  const unfinished = paths.unfinishedSnapshot(name);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(unfinished, { recursive: true, force: true }));
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true, mode: 0o700 });

  undo.defer(() => vm.cont());
  await vm.stop();
  await vm.save(unfinished);
  await syncFolder(unfinished);
  await rename(unfinished, paths.snapshot(name));
  await syncFolder(paths.snapshot("."));
  undo.move();
  return name;
}

/** Starts a paused sandbox on a new disk layer over the paused one, so that on any throw it is still paused as before. */
export async function resume(sandbox: Sandbox, { drivers, templates, paths }: Kitchen): Promise<Running> {
  const { id, layer, snapshot, token, templateKey } = sandbox.record;
  if (!snapshot) throw new WrennError("internal_error", `the paused sandbox ${id} has no snapshot`);
  const template = await templates.byKey(templateKey);
  await using files = new AsyncDisposableStack();
  files.defer(() => rm(paths.layer(id, layer + 1), { force: true }));
  await rm(paths.layer(id, layer + 1), { force: true });

  await using undo = new AsyncDisposableStack();
  const paused = { path: paths.layer(id, layer), format: drivers.disks.gives };
  const disk = undo.use(await drivers.disks.create(paused, paths.layer(id, layer + 1)));
  const nic = undo.use(await drivers.nets.attach(id));
  const spec = vmSpec(sandbox, paths, disk, nic);
  const vm = undo.use(await drivers.vmm.restore(spec, template.frozen, paths.snapshot(snapshot)));
  sandbox.note({ vm: vm.handle });
  await vm.cont();
  await identify(sandbox, template, new GuestAgent(nic.reach(agentPort)), token);
  files.move();
  return { disk, nic, vm, held: undo.move() };
}

/** After a pause: merges the layers when there are many. The sandbox is paused, so nothing reads them. */
export async function flattenIfDeep(sandbox: Sandbox, { drivers, templates, paths }: Kitchen): Promise<void> {
  const { id, layer, templateKey } = sandbox.record;
  if (layer < deepestLayers) return;
  const { frozen } = await templates.byKey(templateKey);
  await drivers.disks.flatten(paths.layer(id, layer), frozen.disk);
  for (let below = 0; below < layer; below++) await rm(paths.layer(id, below), { force: true });
}

/** What the driver needs to run the VM of a sandbox. */
export function vmSpec(sandbox: Sandbox, paths: Paths, disk: VmSpec["disk"], nic: VmSpec["nic"]): VmSpec {
  const { id, spec } = sandbox.record;
  return { name: id, dir: paths.sandbox(id), vcpus: spec.vcpus, memoryMib: spec.memoryMib, disk, nic };
}

/** Gives the guest its identity; without its acknowledgement the sandbox is never handed out. */
async function identify(sandbox: Sandbox, template: Template, agent: GuestAgent, presentToken?: string): Promise<void> {
  const { id, token, spec } = sandbox.record;
  const { image } = template;
  const request: InitRequest = {
    accessToken: token,
    envVars: { ...image.env, ...spec.envs, WRENN_SANDBOX: "true", WRENN_SANDBOX_ID: id, WRENN_TEMPLATE_ID: image.name },
    defaultUser: image.defaultUser,
    defaultWorkdir: image.defaultWorkdir,
    timestamp: new Date().toISOString(),
    sandboxId: id,
    templateId: image.name,
    hostname: `wrenn-${id.slice(0, 8)}`,
    machineId: crypto.randomUUID().replaceAll("-", ""),
    entropy: Buffer.from(crypto.getRandomValues(new Uint8Array(entropyBytes))).toString("base64"),
  };
  const taken = await agent.identify(request, presentToken);
  sandbox.record.versions = {
    ...sandbox.record.versions,
    kernel_version: template.kernel,
    envd_version: taken.version,
  };
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync(); // the names in it survive a power cut
}
