import { capsuleId, type hostagent, type rest } from "@wrenn/contract";
import type { BuiltNow } from "../services/snapshots.ts";
import { hiddenStates, isStored } from "../store/phase.ts";
import type { SandboxRow, SnapshotRow } from "../store/schema/index.ts";

const mib = 1024 * 1024;

/** Names of snapshots by id. */
export type Names = ReadonlyMap<string, string>;

/** A row as the Wrenn dialect shows it. The system's own facts win over metadata of the same name. */
export function capsule(row: SandboxRow, names: Names): rest.Capsule {
  const origin = names.get(row.origin);
  const metadata = { ...row.metadata, ...row.versions };
  return {
    id: capsuleId(row.id),
    ...(row.name && { name: row.name }),
    status: row.state,
    template: row.template,
    vcpus: row.vcpus,
    memory_mb: row.memoryMib,
    disk_size_mb: row.diskMib,
    ...(row.diskOnly && { disk_only: true }),
    disk_used_mb: Math.ceil(row.diskUsedBytes / mib),
    timeout_sec: row.timeoutSec,
    ...(row.guestIp && { guest_ip: row.guestIp }),
    ...(row.hostIp && { host_ip: row.hostIp }),
    created_at: row.createdAt.toISOString(),
    ...(row.startedAt && { started_at: row.startedAt.toISOString() }),
    ...(row.lastActiveAt && { last_active_at: row.lastActiveAt.toISOString() }),
    last_updated: row.updatedAt.toISOString(),
    ...(origin !== undefined && { origin }),
    ...(row.reason && hiddenStates.includes(row.state) && { error: row.reason }),
    ...(isStored(row) && { hibernated: true }),
    ...(Object.keys(metadata).length > 0 && { metadata }),
    ...(row.mounts && { volumes: row.mounts.map(({ name, path }) => ({ name, path })) }),
  };
}

/** Rows that stay in memory are written as text once. */
const texts = new WeakMap<SandboxRow, string>();

/** {@link capsule} as JSON text. What a snapshot is called may change while its row does not. */
export function capsuleText(row: SandboxRow, names: Names): string {
  if (row.origin !== "") return JSON.stringify(capsule(row, names));
  const text = texts.get(row) ?? JSON.stringify(capsule(row, names));
  texts.set(row, text);
  return text;
}

/** A host's template as the Wrenn dialect lists it. */
export const template = (from: hostagent.Template): rest.Template => ({
  name: from.name,
  type: "base",
  size_bytes: Number(from.sizeBytes),
  created_at: new Date(Number(from.createdAtMs)).toISOString(),
  platform: true,
});

/** A template that was built, as its present version is. */
export const builtNow = ({ name, platform, createdAt, current }: BuiltNow): rest.Template => ({
  ...{ name, type: "base", platform, vcpus: current.vcpus, memory_mb: current.memoryMib },
  size_bytes: current.sizeBytes,
  created_at: (current.completedAt ?? createdAt).toISOString(),
});

/** A snapshot's row as the Wrenn dialect shows it. */
export function snapshot(row: SnapshotRow, names: Names): rest.Snapshot {
  const parent = names.get(row.parentId);
  return {
    name: row.name,
    type: "snapshot",
    vcpus: row.vcpus,
    memory_mb: row.memoryMib,
    size_bytes: row.sizeBytes,
    created_at: row.createdAt.toISOString(),
    platform: false,
    template: row.template,
    capsule_id: capsuleId(row.sandboxId),
    ...(parent !== undefined && { parent }),
    ...(Object.keys(row.metadata).length > 0 && { metadata: row.metadata }),
  };
}
