import { capsuleId, type hostagent, type rest } from "@wrenn/contract";
import { hiddenStates } from "../store/phase.ts";
import type { SandboxRow } from "../store/schema.ts";

const mib = 1024 * 1024;

/** A row as the Wrenn dialect shows it. The system's own facts win over metadata of the same name. */
export function capsule(row: SandboxRow): rest.Capsule {
  const metadata = { ...row.metadata, ...row.versions };
  return {
    id: capsuleId(row.id),
    status: row.state,
    template: row.template,
    vcpus: row.vcpus,
    memory_mb: row.memoryMib,
    disk_size_mb: row.diskMib,
    disk_used_mb: Math.ceil(row.diskUsedBytes / mib),
    timeout_sec: row.timeoutSec,
    ...(row.guestIp && { guest_ip: row.guestIp }),
    ...(row.hostIp && { host_ip: row.hostIp }),
    created_at: row.createdAt.toISOString(),
    ...(row.startedAt && { started_at: row.startedAt.toISOString() }),
    ...(row.lastActiveAt && { last_active_at: row.lastActiveAt.toISOString() }),
    last_updated: row.updatedAt.toISOString(),
    ...(row.reason && hiddenStates.includes(row.state) && { error: row.reason }),
    ...(Object.keys(metadata).length > 0 && { metadata }),
  };
}

/** A host's template as the Wrenn dialect lists it. */
export const template = (from: hostagent.Template): rest.Template => ({
  name: from.name,
  type: "base",
  size_bytes: Number(from.sizeBytes),
  created_at: new Date(Number(from.createdAtMs)).toISOString(),
  platform: true,
});
