import { type rest, type State, WrennError } from "@wrenn/contract";
import type { Api, CallOptions } from "./api.ts";
import { timedOut } from "./errors.ts";

/** A sandbox as the server describes it. */
export type SandboxInfo = {
  id: string;
  /** What its team calls it. */
  name: string | undefined;
  status: State;
  template: string;
  /** Name of the snapshot its memory and disk come from; undefined when they are a template's own. */
  origin: string | undefined;
  vcpus: number;
  memoryMiB: number;
  diskMiB: number;
  /** What its own layers of the disk take; undefined until the host has said. */
  diskUsedMiB: number | undefined;
  /** Whether it is paused without its memory: it boots when it is resumed. */
  diskOnly: boolean;
  /** Milliseconds without activity until its time-out action; 0 means never. */
  timeoutMs: number;
  metadata: Record<string, string>;
  createdAt: Date;
  startedAt: Date | undefined;
  lastActiveAt: Date | undefined;
  /** Whether it is paused in the object store, from where any fitting host resumes it. */
  hibernated: boolean;
  /** Why it ended, when nobody asked for that. */
  error: string | undefined;
};

/** What a pause keeps, and what a resume makes of it. */
export type ResumeOptions = CallOptions & {
  /** Gives memory and processes up; files stay, and the sandbox boots when it runs again. */
  diskOnly?: boolean | undefined;
};

/** How a sandbox is paused. */
export type PauseOptions = ResumeOptions & {
  /** Moves it to the object store too, from where any fitting host resumes it. One that is paused already is moved. */
  hibernate?: boolean | undefined;
};

/** Over a slow line, gigabytes take this long. */
const defaultHibernateMs = 3_600_000;

/** @internal */
export const pausing = ({ hibernate, ...options }: PauseOptions) => ({
  ...options,
  ...(hibernate && { requestTimeoutMs: options.requestTimeoutMs ?? defaultHibernateMs }),
  body: { ...diskOnlyBody(options), ...(hibernate && { hibernate }) },
});

/** @internal */
export const diskOnlyBody = ({ diskOnly }: { diskOnly?: boolean | undefined }) => (diskOnly ? { disk_only: true } : {});

/** A create may boot a template for the first time, a pause may write gigabytes: minutes, on a slow machine. */
const defaultLifecycleMs = 300_000;

/** Half of what is left to wait rarely matters more than this, and a server answers it without effort. */
const maxPollMs = 500;

/** The path of a sandbox in the REST API. */
export const pathOf = (id: string): string => `/v1/capsules/${encodeURIComponent(id)}`;

/** Whole seconds, as the REST API counts; a part of one counts as one. */
export const seconds = (ms: number): number => Math.ceil(ms / 1000);

/** The options of a call that changes a sandbox's state: minutes unless told otherwise. */
export const lifecycle = ({ signal, requestTimeoutMs = defaultLifecycleMs }: CallOptions): CallOptions => ({
  signal,
  requestTimeoutMs,
});

/** States a sandbox leaves by itself; every other one is an answer. */
const passing: readonly State[] = ["pending", "starting", "pausing", "resuming", "stopping", "missing"];

/**
 * Waits until a sandbox has reached one of the states wanted; a server that answers early is asked again.
 * @internal
 */
export async function settle(client: Api, from: rest.Capsule, wanted: readonly State[], call: CallOptions) {
  const deadline = Date.now() + (call.requestTimeoutMs || Number.POSITIVE_INFINITY);
  let capsule = from;
  for (let pollMs = 10; passing.includes(capsule.status); pollMs = Math.min(pollMs * 2, maxPollMs)) {
    if (Date.now() > deadline)
      throw timedOut(`waiting for ${capsule.id}, which is ${capsule.status},`, call.requestTimeoutMs);
    await new Promise((resolve) => setTimeout(resolve, pollMs));
    capsule = await client.request<rest.Capsule>("GET", pathOf(capsule.id), { signal: call.signal });
  }
  if (wanted.includes(capsule.status)) return capsule;
  const why = capsule.error ? `: ${capsule.error}` : "";
  throw new WrennError("invalid_state", `sandbox ${capsule.id} is ${capsule.status}${why}`, {
    remedy: "Create another sandbox.",
    details: { id: capsule.id, state: capsule.status, wanted: wanted.join(" or ") },
  });
}

/** Asks for a change of state and waits for `wanted`; throws `invalid_state` when another one was reached. */
export async function change(
  client: Api,
  path: string,
  wanted: State,
  options: CallOptions & { body?: unknown },
): Promise<void> {
  const call = lifecycle(options);
  const answer = await client.request<rest.Capsule>("POST", path, { ...call, body: options.body });
  await settle(client, answer, [wanted], call);
}

const date = (text: string | undefined): Date | undefined => (text === undefined ? undefined : new Date(text));

/**
 * A sandbox of the REST API in the SDK's words and units.
 * @internal
 */
export function sandboxInfo(capsule: rest.Capsule): SandboxInfo {
  return {
    id: capsule.id,
    name: capsule.name,
    status: capsule.status,
    template: capsule.template,
    origin: capsule.origin,
    vcpus: capsule.vcpus,
    memoryMiB: capsule.memory_mb,
    diskMiB: capsule.disk_size_mb,
    diskUsedMiB: capsule.disk_used_mb,
    diskOnly: capsule.disk_only ?? false,
    timeoutMs: capsule.timeout_sec * 1000,
    metadata: capsule.metadata ?? {},
    createdAt: new Date(capsule.created_at),
    startedAt: date(capsule.started_at),
    lastActiveAt: date(capsule.last_active_at),
    hibernated: capsule.hibernated ?? false,
    error: capsule.error,
  };
}
