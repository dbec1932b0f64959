import { stat } from "node:fs/promises";
import { type MessageInitShape, create as message } from "@bufbuild/protobuf";
import { hostagent } from "@wrenn/contract";
import type { Flow } from "./drivers/ports.ts";
import type { Image } from "./images.ts";
import type { Entry } from "./logs/book.ts";
import type { Sent } from "./move/moves.ts";
import { defaultsOf, type Kitchen } from "./recipes.ts";
import type { SandboxRecord, SnapshotRecord } from "./record.ts";

const { SandboxSchema, SandboxState, TimeoutAction } = hostagent;

type SnapshotWire = MessageInitShape<typeof hostagent.SnapshotSchema>;
/** What a snapshot is described from. */
type Snapshotted = Pick<Kitchen, "paths" | "templates">;
type SandboxWire = MessageInitShape<typeof SandboxSchema>;

/** A sandbox as the control plane is told of it. */
export function sandboxToWire(record: Readonly<SandboxRecord>): SandboxWire {
  const { spec, state } = record;
  return message(SandboxSchema, {
    id: record.id,
    state: SandboxState[state.toUpperCase() as keyof typeof SandboxState] ?? SandboxState.UNSPECIFIED,
    run: BigInt(record.run),
    template: spec.template,
    vcpus: spec.vcpus,
    memoryMib: spec.memoryMib,
    diskMib: spec.diskMib,
    timeoutSec: spec.timeoutSec,
    timeoutAction: spec.timeoutAction === "kill" ? TimeoutAction.KILL : TimeoutAction.PAUSE,
    createdAtMs: BigInt(record.createdAtMs),
    startedAtMs: BigInt(record.startedAtMs),
    lastActiveAtMs: BigInt(record.lastActiveAtMs),
    versions: record.versions,
    reason: record.reason,
    version: BigInt(record.version),
    defaultUser: record.defaultUser,
    origin: record.origin ?? "",
    diskOnly: state === "paused" && record.isDiskOnly === true,
    diskUsedBytes: BigInt(record.diskUsedBytes ?? 0), // absent in rows of an earlier agent
  });
}

/** Traffic of a sandbox with one destination. */
export const flowToWire = ({
  sentBytes,
  receivedBytes,
  ...flow
}: Flow): MessageInitShape<typeof hostagent.NetworkFlowSchema> => ({
  ...flow,
  count: BigInt(flow.count),
  lastAtMs: BigInt(flow.lastAtMs),
  ...(sentBytes !== undefined && { sentBytes: BigInt(sentBytes) }),
  ...(receivedBytes !== undefined && { receivedBytes: BigInt(receivedBytes) }),
});

/** An entry of a sandbox's log. */
export const entryToWire = ({
  cursor,
  timestampMs,
  ...entry
}: Entry): MessageInitShape<typeof hostagent.LogEntrySchema> => ({
  ...entry,
  cursor: BigInt(cursor),
  timestampMs: BigInt(timestampMs),
});

/** A checkpoint, with the space that its disk layer takes and what commands in its sandbox got. */
export async function snapshotToWire(row: SnapshotRecord, kitchen: Snapshotted): Promise<SnapshotWire> {
  const [disk, template] = await Promise.all([
    stat(kitchen.paths.layer(row.layer)).catch(() => undefined),
    kitchen.templates.byKey(row.templateKey).catch(() => undefined), // a folder that is gone spoils no list
  ]);
  const defaults = row.spec.defaults ?? (template && defaultsOf(row.spec, template.image));
  return {
    id: row.id,
    sandboxId: row.sandbox,
    parent: row.parent ?? "",
    template: row.spec.template,
    vcpus: row.spec.vcpus,
    memoryMib: row.spec.memoryMib,
    diskMib: row.spec.diskMib,
    createdAtMs: BigInt(row.createdAtMs),
    memoryBytes: BigInt(row.memoryBytes),
    diskOnly: row.isDiskOnly === true,
    diskBytes: BigInt((disk?.blocks ?? 0) * 512),
    ...(defaults && { defaults: { ...defaults, env: { ...defaults.env } } }),
  };
}

/** What of a sandbox went to the object store. */
export const parcelToWire = ({ bytes, sentBytes, ...sent }: Sent): MessageInitShape<typeof hostagent.ParcelSchema> => ({
  ...sent,
  bytes: BigInt(bytes),
  sentBytes: BigInt(sentBytes),
});

/** An image; `ready` when its template is frozen. */
export const imageToWire = (image: Image, ready: boolean): MessageInitShape<typeof hostagent.TemplateSchema> => ({
  name: image.name,
  digest: image.digest,
  sizeBytes: BigInt(image.sizeBytes),
  defaultUser: image.defaultUser,
  defaultWorkdir: image.defaultWorkdir,
  env: { ...image.env },
  ready,
  createdAtMs: BigInt(Date.parse(image.createdAt) || 0),
  source: image.source ?? "",
});
