import { z } from "zod";
import { Mounts, VolumeName } from "./volumes.ts";

/** Bodies of the E2B dialect (E2B protocol, sections 3 to 5). Fields that no behaviour depends on are let pass unread. */

/** Longest time to live, seconds: as the Wrenn dialect's. */
const maxTimeoutSec = 30 * 24 * 3600;
/** Most sandboxes that one fork makes. */
const maxForks = 100;

const textMap = z.record(z.string().max(256), z.string().max(32_768));
/** Seconds from now; some clients send what they computed with a fraction. */
const timeout = z
  .number()
  .min(0)
  .max(maxTimeoutSec, `at most ${maxTimeoutSec} seconds`)
  .transform((seconds) => Math.ceil(seconds));

/** Where a sandbox may connect to. */
const egress = {
  allowOut: z.array(z.string().max(255)).max(1_000).nullish(),
  denyOut: z.array(z.string().max(255)).max(1_000).nullish(),
  rules: z.record(z.string(), z.array(z.unknown())).nullish(),
  egressProxy: z.unknown().nullish(),
};

/** `network` of a new sandbox. */
export const Network = z.object({
  ...egress,
  allowPublicTraffic: z.boolean().nullish(),
  maskRequestHost: z.string().max(255).nullish(),
  httpsPorts: z.array(z.int().min(1).max(65_535)).nullish(),
});
export type Network = z.infer<typeof Network>;

/** Body of `PUT /sandboxes/{id}/network`: what it does not name is cleared. */
export const NetworkUpdate = z.object({ ...egress, allow_internet_access: z.boolean().nullish() });
export type NetworkUpdate = z.infer<typeof NetworkUpdate>;

/** Identity tokens that a sandbox's rules may use, by name (E2B protocol, section 4). */
export const Iam = z.object({
  tokens: z
    .record(
      z.string().regex(/^[A-Za-z0-9_-]{1,128}$/, "letters, digits, `_` and `-`"),
      z.object({ audience: z.string().min(1).max(1_024), tokenType: z.literal("JWT-SVID") }),
    )
    .refine((tokens) => Object.keys(tokens).length <= 32, "at most 32 tokens")
    .nullish(),
});
export type Iam = z.infer<typeof Iam>;

/** Body of `POST /sandboxes` and `POST /v2/sandboxes`. */
export const NewSandbox = z.object({
  templateID: z.string().min(1).max(255),
  timeout: timeout.optional(),
  metadata: textMap.nullish(),
  envVars: textMap.nullish(),
  autoPause: z.boolean().nullish(),
  autoPauseMemory: z.boolean().nullish(),
  autoResume: z.object({ enabled: z.boolean() }).nullish(),
  allow_internet_access: z.boolean().nullish(),
  network: Network.nullish(),
  volumeMounts: Mounts.nullish(),
  iam: Iam.nullish(),
});
export type NewSandbox = z.infer<typeof NewSandbox>;

/** Body of `POST /sandboxes/{id}/connect` and `/resume`. */
export const Connect = z.object({ timeout: timeout.optional(), memory: z.boolean().nullish() });
/** Body of `POST /sandboxes/{id}/timeout`. */
export const Timeout = z.object({ timeout });
/** Body of `POST /sandboxes/{id}/refreshes`. */
export const Refresh = z.object({ duration: timeout.optional() });
/** Body of `POST /sandboxes/{id}/pause`. */
export const Pause = z.object({ memory: z.boolean().nullish(), requireHealthyGuest: z.boolean().nullish() });
/** Body of `POST /sandboxes/{id}/fork`. */
export const Fork = z.object({ timeout: timeout.optional(), count: z.int().min(1).max(maxForks).default(1) });
/** Body of `POST /sandboxes/{id}/snapshots`. */
export const NewSnapshot = z.object({ name: z.string().min(1).max(255).nullish(), memory: z.boolean().nullish() });

const byteLength = (text: string): number => new TextEncoder().encode(text).length;
const bytesOf = (map: Record<string, string>): number =>
  Object.entries(map).reduce((sum, [key, value]) => sum + byteLength(key) + byteLength(value), 0);

/** What a team says about a secret; the limits are those of E2B's published description. */
const secretMetadata = z
  .record(z.string(), z.string())
  .refine((map) => Object.keys(map).length <= 32, "at most 32 entries")
  .refine((map) => Object.keys(map).every((key) => byteLength(key) <= 128), "keys of at most 128 bytes")
  .refine((map) => Object.values(map).every((value) => byteLength(value) <= 1024), "values of at most 1024 bytes")
  .refine((map) => bytesOf(map) <= 8192, "at most 8192 bytes in all")
  .nullish();
const secretValue = z.string().min(1).max(65_536);

/** Body of `POST /secrets`. Names are kept in small letters. */
export const NewSecret = z.object({
  name: z
    .string()
    .max(128)
    .regex(/^[a-zA-Z0-9_-]+$/, "letters, digits, `_` and `-`")
    .toLowerCase(),
  value: secretValue,
  metadata: secretMetadata,
});
export type NewSecret = z.infer<typeof NewSecret>;

/** Body of `POST /secrets/{id or name}`. */
export const SecretUpdate = z.object({ value: secretValue, metadata: secretMetadata });
export type SecretUpdate = z.infer<typeof SecretUpdate>;

/** A secret, without its value. */
export type Secret = {
  secretID: string;
  name: string;
  currentVersion: number;
  metadata: Record<string, string>;
  createdAt: string;
  updatedAt: string;
};

/** Body of `POST /volumes`. */
export const NewVolume = z.object({ name: VolumeName });

const ownerId = z.coerce.number().int().min(0).max(0xffff_fffe);
const fileMode = z.coerce.number().int().min(0).max(0o7777);
const flag = z.enum(["true", "false"]).transform((text) => text === "true");

/** Owner and permission bits of a volume's entry; what is absent stays, or is the usual. */
export const VolumeOwnership = z.object({
  uid: ownerId.optional(),
  gid: ownerId.optional(),
  mode: fileMode.optional(),
});

/** The query of `/volumecontent/{id}/dir`, `/path` and `/file`. */
export const VolumeQuery = VolumeOwnership.extend({
  path: z.string().max(4096).default("/"),
  depth: z.coerce.number().int().min(1).max(64).default(1),
  force: flag.optional(),
});
export type VolumeQuery = z.infer<typeof VolumeQuery>;

/** A volume as lists show it. */
export type Volume = { volumeID: string; name: string };
/** A volume with what opens its content. */
export type VolumeAndToken = Volume & { token: string };

/** An entry of a volume; `path` begins with `/`, `mode` is the permission bits, `target` a link's. */
export type VolumeEntry = {
  name: string;
  type: "unknown" | "file" | "directory" | "symlink";
  path: string;
  size: number;
  mode: number;
  uid: number;
  gid: number;
  atime: string;
  mtime: string;
  ctime: string;
  target?: string;
};

/** A sandbox as create, connect and fork answer it. */
export type Sandbox = {
  templateID: string;
  sandboxID: string;
  clientID: string;
  envdVersion: string;
  alias?: string;
  envdAccessToken: string;
  trafficAccessToken: string | null;
  domain: string;
};

/** A sandbox as lists show it. */
export type ListedSandbox = {
  templateID: string;
  alias?: string;
  sandboxID: string;
  clientID: string;
  startedAt: string;
  endAt: string;
  cpuCount: number;
  memoryMB: number;
  diskSizeMB: number;
  envdVersion: string;
  state: "running" | "paused";
  metadata: Record<string, string>;
  volumeMounts: { name: string; path: string }[];
};

/** A sandbox as `GET /sandboxes/{id}` shows it. */
export type SandboxDetail = ListedSandbox & {
  envdAccessToken: string;
  domain: string;
  allowInternetAccess: boolean | null;
  network: Network;
  lifecycle: { autoResume: boolean; onTimeout: "pause" | "kill" };
  pauseMode?: "full" | "filesystem";
};

/** One point of a sandbox's load; sizes in bytes. */
export type Metric = {
  timestamp: string;
  timestampUnix: number;
  cpuCount: number;
  cpuUsedPct: number;
  memUsed: number;
  memTotal: number;
  memCache: number;
  diskUsed: number;
  diskTotal: number;
};

/** A team. `apiKey` is the one that was shown, as no other can be told; empty for a person. */
export type Team = { teamID: string; name: string; apiKey: string; isDefault: boolean };

/** An error; `code` is the HTTP status, which clients decide by. */
export type ErrorBody = { code: number; message: string };
