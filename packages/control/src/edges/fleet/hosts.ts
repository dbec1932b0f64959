import { headers, rest, WrennError } from "@wrenn/contract";
import { z } from "zod";
import { tunnelScheme } from "../../hosts/tunnels.ts";
import type { Drained, Hosts, Registered } from "../../services/fleet/hosts.ts";
import type { LoadedHost } from "../../store/fleet/hosts.ts";
import { type App, endpoint, type Input } from "../endpoint.ts";

/** Routes of host agents, which show tokens of their own: they are added before the door. */
export function openHostRoutes(app: App, hosts: Hosts): void {
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/hosts/register", access: "open", status: 201 },
      ...{ body: rest.RegisterHost, answer: rest.HostIdentity, codes: ["unauthorized", "conflict"] },
      summary: "A machine joins with its registration token and is given its identity.",
    },
    async ({ body }) => identity(await hosts.register(body)),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/hosts/auth/refresh", access: "open", status: 200 },
      ...{ body: rest.RefreshHost, answer: rest.HostIdentity, codes: ["unauthorized"] },
      summary: "A host renews its identity: tokens and certificate. The refresh token is used up.",
    },
    async ({ body }) => identity(await hosts.refresh(body.refresh_token)),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/hosts/{host}/heartbeat", access: "open", status: 204 },
      ...{ headers: z.object({ [headers.registeredHost]: z.string() }) },
      codes: ["unauthorized", "forbidden", "not_found"],
      summary: "A host tells that it lives, with its own token.",
    },
    async ({ c }) => void (await hosts.heartbeat(c.req.param("host")!, c.req.header(headers.registeredHost))),
  );
}

/** `/v1/hosts` (Wrenn REST API 10), for operators, and for the people of a team with hosts of its own. */
export function hostRoutes(app: App, hosts: Hosts): void {
  lifeRoutes(app, hosts);
  modeRoutes(app, hosts);
  tagRoutes(app, hosts);
}

const one = ["not_found", "forbidden"] as const;

function lifeRoutes(app: App, hosts: Hosts): void {
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/hosts", status: 201, body: rest.CreateHost, answer: rest.RegistrableHost },
      summary: "Make a host and the token that one machine registers with, within the hour.",
      codes: ["forbidden"],
    },
    async ({ caller, body }) => registrable(await hosts.create(caller, body)),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/hosts", status: 200, answer: z.array(rest.Host) },
      summary: "Every host, for operators; for others, those of their team.",
    },
    async ({ caller }) => (await hosts.list(caller)).map(show),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/hosts/{host}", status: 200, answer: rest.Host, codes: one },
      summary: "One host.",
      tagged: decided,
    },
    async ({ caller, c }) => show(await hosts.get(caller, c.req.param("host")!)),
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/hosts/{host}/token", status: 201, answer: rest.RegistrableHost },
      summary: "A new registration token of a host that has not registered; the one before opens nothing any more.",
      codes: ["invalid_request", ...one],
    },
    async ({ caller, c }) => registrable(await hosts.token(caller, c.req.param("host")!)),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/hosts/{host}/delete-preview", status: 200, answer: rest.HostDeletion, codes: one },
      summary: "What a deletion of the host would end.",
    },
    async ({ caller, c }) => {
      const { host, sandboxes, snapshots, canMove } = await hosts.preview(caller, c.req.param("host")!);
      return { host: show(host), sandbox_ids: sandboxes, snapshots, can_drain: canMove };
    },
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/hosts/{host}", status: 204, codes: ["has_active_sandboxes", ...one] },
      query: z.object({ force: z.enum(["true", "false"]).optional() }),
      summary: "Take a host out; with force, after its sandboxes were ended.",
    },
    async ({ caller, query, c }) => {
      try {
        await hosts.remove(caller, c.req.param("host")!, query.force === "true");
      } catch (thrown) {
        if (!(thrown instanceof WrennError) || thrown.code !== "has_active_sandboxes") throw thrown;
        // Existing clients read the ids as a list beside the code (Wrenn REST API 10).
        const { error } = thrown.toJSON();
        return c.json({ error: { ...error, sandbox_ids: error.details?.sandbox_ids?.split(",") ?? [] } }, 409);
      }
      return undefined;
    },
  );
}

/** Of a host, what its operators decide; its load and what its agent tells change all the time. */
const decided = ({ id, type, team_id, provider, availability_zone, mode }: rest.Host) => ({
  ...{ id, type, team_id, provider, availability_zone, mode },
});

const modes = [
  ["cordon", "cordoned", "Keep new sandboxes away; what is there goes on."],
  ["uncordon", "active", "Let the host take new sandboxes again."],
  ["maintenance", "maintenance", "Say that the host is being worked on; it takes no new sandboxes."],
] as const;

function modeRoutes(app: App, hosts: Hosts): void {
  for (const [word, mode, summary] of modes)
    endpoint(
      app,
      {
        ...{ method: "post", path: `/v1/hosts/{host}/${word}`, status: 200, answer: rest.Host, codes: one },
        ...{ summary, tagged: decided },
        changes: async ({ caller, c }) => decided(show(await hosts.get(caller, c.req.param("host")!))),
      },
      async ({ caller, c }) => show(await hosts.setMode(caller, c.req.param("host")!, mode)),
    );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/hosts/{host}/drain", status: 200, answer: rest.HostDrain, codes: one },
      query: z.object({
        wait: z
          .enum(["true", "false"])
          .default("true")
          .meta({ description: "`false` answers at once; a GET of the same path tells how far it has come." }),
      }),
      summary:
        "Empty a host: what runs on it moves to other hosts, or is paused where none could resume it; new ones stay away.",
    },
    async ({ caller, query, c }) => drained(await hosts.drain(caller, c.req.param("host")!, query.wait === "true")),
  );
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/hosts/{host}/drain", status: 200, answer: rest.HostDrain, codes: one },
      summary: "How far the emptying of a host has come.",
    },
    async ({ caller, c }) => drained(await hosts.drained(caller, c.req.param("host")!)),
  );
}

function tagRoutes(app: App, hosts: Hosts): void {
  const { store } = hosts.ground;
  const all = async ({ caller, c }: Pick<Input<unknown, unknown>, "caller" | "c">) =>
    store.tags((await hosts.get(caller, c.req.param("host")!)).id);
  endpoint(
    app,
    {
      ...{ method: "get", path: "/v1/hosts/{host}/tags", status: 200, answer: z.array(z.string()), codes: one },
      summary: "The host's tags.",
      tagged: true,
    },
    all,
  );
  endpoint(
    app,
    {
      ...{ method: "post", path: "/v1/hosts/{host}/tags", status: 204, body: rest.HostTag, codes: one },
      summary: "Tag the host.",
      changes: all,
    },
    async ({ caller, body, c }) =>
      void (await store.tag((await hosts.owned(caller, c.req.param("host")!)).id, body.tag, true)),
  );
  endpoint(
    app,
    {
      ...{ method: "delete", path: "/v1/hosts/{host}/tags/{tag}", status: 204, codes: one },
      summary: "Take a tag off the host.",
      changes: all,
    },
    async ({ caller, c }) =>
      void (await store.tag((await hosts.owned(caller, c.req.param("host")!)).id, c.req.param("tag")!, false)),
  );
}

const statusOf = ({ status, mode }: LoadedHost): rest.Host["status"] => {
  if (status !== "online") return status;
  return mode === "draining" ? "draining" : mode === "maintenance" ? "offline" : "online";
};

const latest = (...times: (Date | null)[]): Date | undefined =>
  times.filter((time) => time !== null).sort((a, b) => b.getTime() - a.getTime())[0];

/** A host as the API shows it. */
export function show(host: LoadedHost): rest.Host {
  const heard = latest(host.lastSeenAt, host.lastHeartbeatAt);
  return {
    ...{ id: host.id, type: host.type, status: statusOf(host), mode: host.mode, created_by: host.createdBy },
    ...(host.teamId !== null && { team_id: host.teamId }),
    ...(host.provider && { provider: host.provider }),
    ...(host.zone && { availability_zone: host.zone }),
    ...(host.arch && { arch: host.arch }),
    ...(host.cpuCores > 0 && { cpu_cores: host.cpuCores }),
    ...(host.memoryMib > 0 && { memory_mb: host.memoryMib }),
    ...(host.diskMib > 0 && { disk_gb: Math.floor(host.diskMib / 1024) }),
    ...(host.address.startsWith(tunnelScheme)
      ? { dials: true }
      : host.address && { address: new URL(host.address).host }),
    ...(heard && { last_heartbeat_at: heard.toISOString() }),
    ...(host.certExpiresAt && { cert_expires_at: host.certExpiresAt.toISOString() }),
    load: {
      sandboxes: host.load.sandboxes,
      vcpus_reserved: host.load.vcpus,
      memory_mb_reserved: host.load.memoryMib,
      memory_mb_capacity: host.capacityMib,
    },
    ...(host.moveClass && { move_class: host.moveClass }),
    ...(host.storeId && { store: host.storeId }),
    created_at: host.createdAt.toISOString(),
    updated_at: host.updatedAt.toISOString(),
  };
}

function drained({ host, drain }: Drained): rest.HostDrain {
  const ids = (wanted: string) =>
    Object.entries(drain.outcomes).flatMap(([id, { outcome }]) => (outcome === wanted ? [id] : []));
  const failed = Object.entries(drain.outcomes).filter(([, { outcome }]) => outcome === "failed");
  return {
    ...{ host: show(host), running: host.load.sandboxes, total: drain.total },
    ...{ moved: ids("moved"), hibernated: ids("hibernated"), paused: ids("paused") },
    failed: Object.fromEntries(failed.map(([id, { error = "" }]) => [id, error])),
    started_at: drain.startedAt.toISOString(),
    ...(drain.finishedAt && { finished_at: drain.finishedAt.toISOString() }),
  };
}

const registrable = ({ host, token }: { host: LoadedHost; token: string }): rest.RegistrableHost => ({
  host: show(host),
  registration_token: token,
});

const identity = ({ host, pair, identity: issued, agentToken, ca }: Registered): rest.HostIdentity => ({
  host: show(host),
  token: pair.access,
  refresh_token: pair.refresh,
  agent_token: agentToken,
  cert_pem: issued.cert,
  key_pem: issued.key,
  ca_cert_pem: ca,
});
