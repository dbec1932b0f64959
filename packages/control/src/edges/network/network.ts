import { capsuleId, type hostagent, rest, type SandboxId } from "@wrenn/contract";
import type { Networks, Seen } from "../../services/network/networks.ts";
import { type App, endpoint } from "../endpoint.ts";

const codes = ["invalid_state", "conflict", "unimplemented", "host_unavailable", "agent_error"] as const;

/** `/v1/capsules/{id}/network`: what a sandbox may reach, and what it reached. */
export function networkRoutes(app: App, networks: Networks): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules/{id}/network",
      summary: "What a sandbox may reach, what it reached, and what it was refused.",
      status: 200,
      answer: rest.CapsuleNetwork,
      codes: ["host_unavailable", "agent_error"],
    },
    async ({ caller, id }) => show(id, await networks.get(caller, id)),
  );
  endpoint(
    app,
    {
      method: "put",
      path: "/v1/capsules/{id}/network",
      summary: "Replace what a sandbox may reach; connections that it forbids end at once.",
      body: rest.NetworkPolicy,
      status: 200,
      answer: rest.CapsuleNetwork,
      codes,
    },
    async ({ caller, id, body }) => {
      await networks.set(caller, id, body);
      return show(id, await networks.get(caller, id));
    },
  );
}

const show = (id: SandboxId, { policy, detail, connections, denials }: Seen): rest.CapsuleNetwork => ({
  sandbox_id: capsuleId(id),
  policy,
  detail,
  connections: connections.map(flow),
  denials: denials.map(flow),
});

const flow = ({ host, ip, port, protocol, ...counts }: hostagent.NetworkFlow): rest.NetworkFlow => ({
  ...(host && { host }),
  ...(ip && { ip }),
  port,
  protocol: protocol === "udp" ? "udp" : "tcp",
  count: Number(counts.count),
  last_at: new Date(Number(counts.lastAtMs)).toISOString(),
  ...(counts.sentBytes !== undefined && { sent_bytes: Number(counts.sentBytes) }),
  ...(counts.receivedBytes !== undefined && { received_bytes: Number(counts.receivedBytes) }),
});
