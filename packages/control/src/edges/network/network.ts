import { capsuleId, type hostagent, rest, type SandboxId } from "@wrenn/contract";
import type { Networks, Seen } from "../../services/network/networks.ts";
import { type App, endpoint } from "../endpoint.ts";
import { eventFrame, eventStream, keepAlive } from "../event-stream.ts";
import { untilGone } from "../telemetry/gone.ts";

const codes = ["invalid_state", "conflict", "unimplemented", "host_unavailable", "agent_error"] as const;

/** Between two questions to the host for a client that follows: what people still take for at once. */
const followEveryMs = 1_000;

/** `/v1/capsules/{id}/network`: what a sandbox may reach, and what it reached. */
export function networkRoutes(app: App, networks: Networks): void {
  endpoint(
    app,
    {
      method: "get",
      path: "/v1/capsules/{id}/network",
      summary:
        "What a sandbox may reach, what it reached, and what it was refused. With `follow=true` as server-sent events.",
      query: rest.NetworkQuery,
      status: 200,
      answer: rest.CapsuleNetwork,
      codes: ["host_unavailable", "agent_error"],
    },
    async ({ caller, id, query: { follow }, c }) => {
      const read = async () => show(id, await networks.get(caller, id));
      const first = await read();
      if (follow !== "true") return first;
      return eventStream(followNetwork(first, read, c.req.raw.signal));
    },
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

/** The network as it is, then whenever it is another, until the client goes or the sandbox is gone. */
async function* followNetwork(
  first: rest.CapsuleNetwork,
  read: () => Promise<rest.CapsuleNetwork>,
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  let told = "";
  for (let now: rest.CapsuleNetwork | undefined = first; now; now = await untilGone(read())) {
    const frame = eventFrame("network", now);
    yield frame === told ? keepAlive : frame;
    told = frame;
    await Bun.sleep(followEveryMs);
    if (signal.aborted) return;
  }
  yield eventFrame("end", {});
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
