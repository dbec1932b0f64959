import { statfs } from "node:fs/promises";
import { arch } from "node:os";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { hostagent, parseSandboxId, type SandboxId, toConnectError, version, WrennError } from "@wrenn/contract";
import type { Logger } from "pino";
import { machineSize } from "./config.ts";
import { networkOf } from "./egress/keep.ts";
import type { Scribe } from "./logs/scribe.ts";
import type { Sampler } from "./metrics/sampler.ts";
import { metricsOf } from "./metrics/wire.ts";
import type { Keys, Moves } from "./move/moves.ts";
import type { ImageSource } from "./oci/importer.ts";
import { waitForPort } from "./proxy.ts";
import { Queue } from "./queue.ts";
import { findSnapshot } from "./recipes.ts";
import type { SandboxRecord, SandboxSpec } from "./record.ts";
import type { Sandboxes } from "./sandboxes.ts";
import { sizeOf } from "./templates.ts";
import { entryToWire, flowToWire, imageToWire, parcelToWire, sandboxToWire, snapshotToWire } from "./wire.ts";

const { HostAgentService, TimeoutAction } = hostagent;

/** What a sandbox gets that does not say: enough for an interpreter and a small server. */
export const defaults = { vcpus: 1, memoryMib: 512 };

/** A silent stream is taken for dead by what lies between; a word now and then keeps it. */
const keepAliveMs = 15_000;

/** Whom the control plane's calls are for. */
export type Told = {
  readonly sandboxes: Sandboxes;
  readonly sampler: Sampler;
  readonly scribe: Scribe;
  readonly moves: Moves;
};

/** Adds the host agent's RPC service to a router: decodes, calls a recipe, encodes. */
export function hostService(router: ConnectRouter, { sandboxes, sampler, scribe, moves }: Told): ConnectRouter {
  const answered = answering(sandboxes.log);
  const { vault } = sandboxes.kitchen;
  return router.service(HostAgentService, {
    getHost: () =>
      answered(async () => ({
        ...(await describeHost(sandboxes)),
        moveClass: moves.moveClass,
        store: await moves.storeId(),
      })),
    createSandbox: (request) =>
      answered(async () => {
        const spec = await specOf(request, sandboxes);
        return shown(await sandboxes.create(idOf(request.id), Number(request.run), spec, request.accessToken));
      }),
    pauseSandbox: ({ id, diskOnly }) => answered(async () => shown(await sandboxes.pause(idOf(id), "", diskOnly))),
    resumeSandbox: ({ id, run, timeoutSec, diskOnly, parcel, vaults, network }) =>
      answered(async () => {
        const wish = { timeoutSec, diskOnly, network: networkOf(network, vault) };
        if (parcel) await moves.bring(idOf(id), parcel, keysOf(vaults));
        return shown(await sandboxes.resume(idOf(id), Number(run), wish));
      }),
    hibernateSandbox: ({ id, vaults }) =>
      answered(() => moves.send(idOf(id), keysOf(vaults)).then((sent) => ({ parcel: parcelToWire(sent) }))),
    discardParcels: ({ parcels, vaults }) =>
      answered(async () => {
        await moves.discard(parcels, keysOf(vaults));
        return {};
      }),
    destroySandbox: ({ id, pausedRun }) =>
      answered(async () => {
        if (pausedRun === undefined) await sandboxes.destroy(idOf(id));
        else await sandboxes.destroyPaused(idOf(id), Number(pausedRun));
        return {};
      }),
    checkpointSandbox: ({ id, diskOnly, children }) =>
      answered(async () => ({
        snapshot: await snapshotToWire(await sandboxes.checkpoint(idOf(id), diskOnly, children), sandboxes.kitchen),
      })),
    rollbackSandbox: ({ id, run, snapshot, network }) =>
      answered(async () => shown(await sandboxes.rollback(idOf(id), Number(run), snapshot, networkOf(network, vault)))),
    listSnapshots: () =>
      answered(async () => {
        const rows = sandboxes.journal.snapshots.all().filter((row) => row.kind === "checkpoint");
        return { snapshots: await Promise.all(rows.map((row) => snapshotToWire(row, sandboxes.kitchen))) };
      }),
    deleteSnapshot: ({ id }) =>
      answered(async () => {
        await sandboxes.deleteSnapshot(id);
        return {};
      }),
    setSandboxTimeout: ({ id, timeoutSec }) =>
      answered(async () => shown(await sandboxes.setTimeout(idOf(id), timeoutSec))),
    pingSandbox: ({ id }) =>
      answered(async () => {
        const sandbox = sandboxes.find(idOf(id));
        void sandbox.machine; // throws unless it runs
        sandbox.touch();
        return {};
      }),
    setSandboxNetwork: ({ id, network }) =>
      answered(async () => {
        const policy = networkOf(network, vault);
        if (!policy) throw new WrennError("invalid_request", "there is no policy in the request");
        await sandboxes.setNetwork(idOf(id), policy);
        return {};
      }),
    getSandboxNetwork: ({ id }) =>
      answered(async () => {
        const { allowed, denied } = await sandboxes.flows(idOf(id));
        const { detail } = sandboxes.kitchen.drivers.nets.egress;
        return { connections: allowed.map(flowToWire), denials: denied.map(flowToWire), detail };
      }),
    getSandbox: ({ id }) =>
      answered(async () => {
        const sandbox = sandboxes.find(idOf(id));
        const { layer } = sandbox.record;
        const disk = layer === undefined ? 0 : await sandboxes.kitchen.layers.usedBytes(layer);
        return { sandbox: { ...sandboxToWire(sandbox.record), diskUsedBytes: BigInt(disk) } };
      }),
    waitForPort: ({ id, port, timeoutMs }) =>
      answered(async () => {
        await waitForPort(sandboxes.find(idOf(id)), port, timeoutMs);
        return {};
      }),
    getSandboxLogs: ({ id, after, limit, newest }) =>
      answered(async () => {
        const which = { newest, ...(limit > 0 && { limit }) };
        const entries = await scribe.entries(sandboxes.find(idOf(id)), Number(after), which);
        return { entries: entries.map(entryToWire) };
      }),
    getSandboxMetrics: (request) => answered(() => metricsOf(sandboxes.find(idOf(request.id)), request, sampler)),
    listSandboxes: () => answered(async () => ({ sandboxes: sandboxes.list().map(sandboxToWire) })),
    importImage: (request) => imported(request, sandboxes),
    watchSandboxes: (_, { signal }) => changes(sandboxes, signal),
  });
}

const shown = (record: SandboxRecord) => ({ sandbox: sandboxToWire(record) });

/** Keys of the store come with each request: a host keeps none. */
function keysOf(vaults: hostagent.Vaults | undefined): Keys {
  const { team, common } = vaults ?? {};
  for (const vault of [team, common])
    if (!/^[0-9a-z]{1,64}$/.test(vault?.name ?? "") || vault!.key.length !== 32)
      throw new WrennError("invalid_request", "the keys of the store are missing or have a wrong shape");
  return { team: team!, common: common! };
}

function idOf(text: string): SandboxId {
  const id = parseSandboxId(text);
  if (!id) throw new WrennError("invalid_request", `"${text}" is not a sandbox id`);
  return id;
}

/** Completes and checks sizes: what the template gives, what this host has. */
async function specOf(request: hostagent.CreateSandboxRequest, sandboxes: Sandboxes): Promise<SandboxSpec> {
  if (request.snapshot) {
    // Memory and disk are the checkpoint's, and so are their sizes.
    const { spec } = findSnapshot(sandboxes.kitchen, request.snapshot);
    return { ...spec, ...wishesOf(request, sandboxes), snapshot: request.snapshot, extraDiskMib: 0 };
  }
  const image = await sandboxes.kitchen.templates.image(request.template);
  const usual = sizeOf(image, defaults);
  return {
    template: image.name,
    vcpus: request.vcpus || usual.vcpus,
    memoryMib: request.memoryMib || usual.memoryMib,
    diskMib: Math.max(image.diskMib, request.diskMib),
    extraDiskMib: Math.max(0, request.diskMib - image.diskMib),
    ...wishesOf(request, sandboxes),
  };
}

/** What a caller chooses for a sandbox whatever it starts from. */
const wishesOf = (request: hostagent.CreateSandboxRequest, { kitchen }: Sandboxes) => {
  const { timeoutSec, timeoutAction, envs, teamId, defaults, isolated, mounts } = request;
  return {
    ...{ timeoutSec, envs, teamId, isolated },
    mounts: mounts.map(({ volume, path }) => ({ volume, path })),
    ...(defaults && { defaults: { user: defaults.user, workdir: defaults.workdir, env: { ...defaults.env } } }),
    timeoutAction: timeoutAction === TimeoutAction.KILL ? ("kill" as const) : ("pause" as const),
    network: networkOf(request.network, kitchen.vault),
  };
};

async function describeHost({ kitchen }: Sandboxes): Promise<MessageInitShape<typeof hostagent.GetHostResponseSchema>> {
  const { drivers, templates, paths } = kitchen;
  const [images, disk] = await Promise.all([templates.list(defaults), statfs(paths.root)]);
  const { cpuCores, memoryMib } = machineSize();
  const mib = (blocks: number) => BigInt(Math.floor((blocks * disk.bsize) / 2 ** 20));
  return {
    version,
    arch: arch(),
    cpuCores,
    memoryMib: BigInt(memoryMib),
    diskMib: mib(disk.blocks),
    diskFreeMib: mib(disk.bavail),
    vmm: drivers.vmm.name,
    accelerator: drivers.vmm.accelerator,
    vmmVersion: drivers.vmm.version,
    templates: images.map(({ image, ready }) => imageToWire(image, ready)),
  };
}

/** Present states, then `synced`, then every change in order, until the caller goes. */
async function* changes(sandboxes: Sandboxes, signal: AbortSignal) {
  if (signal.aborted) return;
  const events = new Queue<MessageInitShape<typeof hostagent.WatchSandboxesResponseSchema>>();
  const tell = (record: Readonly<SandboxRecord>) =>
    events.push({ event: { case: "changed", value: sandboxToWire(record) } });
  sandboxes.watch(tell, signal);
  sandboxes.list().forEach(tell);
  events.push({ event: { case: "synced", value: {} } });
  const timer = setInterval(() => events.push({ event: { case: "keepalive", value: {} } }), keepAliveMs);
  signal.addEventListener("abort", () => events.close(), { once: true });
  try {
    yield* events;
  } finally {
    clearInterval(timer);
  }
}

/** What is under way, then the image. */
async function* imported(request: hostagent.ImportImageRequest, { kitchen, log }: Sandboxes) {
  const { reference, username, password, archive } = request;
  const source: ImageSource = archive
    ? { kind: "archive", sha256: archive }
    : { kind: "registry", reference, username, password };
  const told = new Queue<string>();
  const work = answering(log)(() => kitchen.templates.importer.import(source, (text) => told.push(text)));
  const close = () => told.close();
  work.then(close, close);
  for await (const value of told) yield { event: { case: "progress" as const, value } };
  yield { event: { case: "image" as const, value: imageToWire(await work, false) } };
}

/** Every refusal leaves as a Connect error with our detail; what a stranger threw is in the log only. */
const answering =
  (log: Logger) =>
  async <T>(act: () => Promise<T>): Promise<T> => {
    try {
      return await act();
    } catch (thrown) {
      const error = WrennError.from(thrown);
      if (error.status >= 500) log.error({ code: error.code, error: error.cause ?? error }, error.message);
      throw toConnectError(error);
    }
  };
