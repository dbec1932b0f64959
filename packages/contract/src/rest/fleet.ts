import { z } from "zod";

/** Shapes of hosts in the Wrenn dialect (Wrenn REST API 10). */

const word = (max: number) =>
  z
    .string()
    .trim()
    .max(max)
    .regex(/^[\w.:/@ -]*$/, "letters, digits, blanks and . : / @ - _");

/** What a host is to its users. `draining` and `offline` are asked for by an operator. */
export const HostStatus = z.enum(["pending", "online", "unreachable", "draining", "offline"]);

/** A machine that runs sandboxes. */
export const Host = z
  .object({
    id: z.string(),
    type: z.enum(["regular", "byoc"]),
    team_id: z.string().optional(),
    team_name: z.string().optional(),
    provider: z.string().optional(),
    availability_zone: z.string().optional(),
    arch: z.string().optional(),
    cpu_cores: z.int().optional(),
    memory_mb: z.int().optional(),
    disk_gb: z.int().optional(),
    address: z.string().optional(),
    dials: z.boolean().optional().meta({ description: "Its agent connects to the control plane; it has no address." }),
    status: HostStatus,
    mode: z.enum(["active", "cordoned", "draining", "maintenance"]),
    last_heartbeat_at: z.iso.datetime().optional(),
    load: z
      .object({
        sandboxes: z.int(),
        vcpus_reserved: z.int(),
        memory_mb_reserved: z.int(),
        memory_mb_capacity: z.int().meta({ description: "0 while the host has not told its size." }),
      })
      .meta({ description: "What sandboxes have reserved." }),
    move_class: z
      .string()
      .optional()
      .meta({ description: "Hosts of the same class and store can resume each other's sandboxes." }),
    store: z.string().optional().meta({ description: "Names the object store of the host." }),
    cert_expires_at: z.iso.datetime().optional(),
    created_by: z.string(),
    created_at: z.iso.datetime(),
    updated_at: z.iso.datetime(),
  })
  .meta({ id: "Host" });
export type Host = z.infer<typeof Host>;

/** Body of `POST /v1/hosts`. */
export const CreateHost = z
  .object({
    type: z.enum(["regular", "byoc"]).default("regular"),
    team_id: z.string().optional().meta({ description: "Of a `byoc` host: the only team that it serves." }),
    provider: word(64).optional(),
    availability_zone: word(64).optional(),
  })
  .meta({ id: "CreateHost" });
export type CreateHost = z.infer<typeof CreateHost>;

/** A host and the token that one machine registers with, within the hour. */
export const RegistrableHost = z.object({ host: Host, registration_token: z.string() }).meta({ id: "RegistrableHost" });
export type RegistrableHost = z.infer<typeof RegistrableHost>;

/** Body of `POST /v1/hosts/register`. */
export const RegisterHost = z
  .object({
    token: z.string().min(1).max(256),
    arch: word(32).default(""),
    cpu_cores: z.int().min(0).max(100_000).default(0),
    memory_mb: z.int().min(0).default(0),
    disk_gb: z.int().min(0).default(0),
    address: z
      .string()
      .max(300)
      .regex(/^(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9.-]+):\d{1,5}$/, "HOST:PORT that the control plane reaches")
      .optional()
      .meta({ example: "10.0.0.7:50051" }),
    dials: z.boolean().default(false).meta({
      description: "In place of an address: the host opens `/v1/hosts/{host}/tunnel` and needs no open port.",
    }),
  })
  .refine(({ address, dials }) => (address !== undefined) !== dials, {
    path: ["address"],
    error: "HOST:PORT that the control plane reaches, unless the host dials",
  })
  .meta({ id: "RegisterHost" });
export type RegisterHost = z.infer<typeof RegisterHost>;

/** Body of `POST /v1/hosts/auth/refresh`. */
export const RefreshHost = z.object({ refresh_token: z.string().min(1).max(256) }).meta({ id: "RefreshHost" });

/** What a host agent keeps: who it is, and what proves it. */
export const HostIdentity = z
  .object({
    host: Host,
    token: z.string().meta({ description: "Opens this host's own routes, as `X-Host-Token`." }),
    refresh_token: z.string().meta({ description: "Gets the next identity, once." }),
    agent_token: z.string().meta({ description: "What the control plane shows to the agent." }),
    cert_pem: z.string(),
    key_pem: z.string(),
    ca_cert_pem: z.string(),
  })
  .meta({ id: "HostIdentity" });
export type HostIdentity = z.infer<typeof HostIdentity>;

/** What a deletion would end. */
export const HostDeletion = z
  .object({
    host: Host,
    sandbox_ids: z.array(z.string()),
    snapshots: z
      .array(z.string())
      .meta({ description: "Names of snapshots that are on this host alone; a drain leaves them." }),
    can_drain: z.boolean().meta({ description: "Whether a drain would take them to other hosts first." }),
  })
  .meta({ id: "HostDeletion" });
export type HostDeletion = z.infer<typeof HostDeletion>;

/** Body of `POST /v1/hosts/{host}/tags`. */
export const HostTag = z
  .object({
    tag: z
      .string()
      .trim()
      .min(1)
      .max(64)
      .regex(/^[\w.:=/-]+$/, "letters, digits and . : = / - _"),
  })
  .meta({ id: "HostTag" });

/** How far the emptying of a host has come. */
export const HostDrain = z
  .object({
    host: Host,
    running: z.int().meta({ description: "Sandboxes that still hold memory of it." }),
    total: z.int().meta({ description: "Sandboxes that it began with." }),
    moved: z.array(z.string()).meta({ description: "Those that run on another host." }),
    hibernated: z
      .array(z.string())
      .meta({ description: "Those that are in the object store; any fitting host resumes them." }),
    paused: z
      .array(z.string())
      .meta({ description: "Those that are paused where they are: no other host could resume them." }),
    failed: z.record(z.string(), z.string()).meta({ description: "Those that could not leave, and why." }),
    started_at: z.iso.datetime(),
    finished_at: z.iso.datetime().optional(),
  })
  .meta({ id: "HostDrain" });
export type HostDrain = z.infer<typeof HostDrain>;
