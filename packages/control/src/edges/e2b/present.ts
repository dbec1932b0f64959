import { envdVersion, type rest, type SandboxId } from "@wrenn/contract";
import type { Context } from "hono";
import { defaultTag } from "../../services/e2b/names.ts";
import type { SandboxRow, SnapshotRow } from "../../store/schema/index.ts";
import type { Env } from "../endpoint.ts";

/** What shows rows: it knows their tokens, and where their ports are reached. */
export type Presenter = {
  readonly domain: string;
  agentToken(id: SandboxId): string;
  trafficToken(id: SandboxId): string;
};

/** What shows the answer to a request. */
export type Shows = (c: Context<Env>) => Presenter;

/** Clients of this dialect read it, and nothing depends on it any more. */
const clientID = "wrenn";
/** Clients need an end for every sandbox; those that have none live longer than any client. */
const never = new Date("2999-12-31T00:00:00Z");

const named = (row: SandboxRow) => ({
  templateID: row.template,
  alias: row.template,
  sandboxID: row.id as string,
  clientID,
  envdVersion,
});

/** As create, connect and fork answer it. */
export const sandbox = (row: SandboxRow, shows: Presenter): rest.e2b.Sandbox => ({
  ...named(row),
  envdAccessToken: shows.agentToken(row.id),
  trafficAccessToken: row.terms?.network?.allowPublicTraffic === false ? shows.trafficToken(row.id) : null,
  domain: shows.domain,
});

/** As lists show it. What is on its way to a pause or back counts as paused. */
export const listed = (row: SandboxRow): rest.e2b.ListedSandbox => ({
  ...named(row),
  startedAt: row.createdAt.toISOString(),
  endAt: (row.endAt ?? never).toISOString(),
  cpuCount: row.vcpus,
  memoryMB: row.memoryMib,
  diskSizeMB: row.diskMib,
  state: (pausedStates as readonly string[]).includes(row.state) ? "paused" : "running",
  metadata: row.metadata,
  volumeMounts: (row.mounts ?? []).map(({ name, path }) => ({ name, path })),
});

/** States that this dialect calls `paused`. */
export const pausedStates = ["pausing", "paused", "resuming"] as const;
/** States that this dialect calls `running`; one whose host is out of reach will be there again with it. */
export const runningStates = ["pending", "starting", "running", "missing"] as const;

/** With everything there is to know about it. */
export const detail = (row: SandboxRow, shows: Presenter): rest.e2b.SandboxDetail => ({
  ...listed(row),
  envdAccessToken: shows.agentToken(row.id),
  domain: shows.domain,
  allowInternetAccess: row.terms?.allowInternetAccess ?? null,
  network: row.terms?.network ?? {},
  lifecycle: { autoResume: row.terms?.autoResume ?? false, onTimeout: row.timeoutAction },
  ...(row.state === "paused" && { pauseMode: row.diskOnly ? "filesystem" : "full" }),
});

/** A snapshot: its id is what create takes as a template. */
export const snapshot = ({ name }: SnapshotRow) => ({
  snapshotID: `${name}:${defaultTag}`,
  names: [`${name}:${defaultTag}`],
});
