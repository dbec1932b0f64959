import type { rest } from "@wrenn/contract";
import type { Api, CallOptions } from "./api.ts";
import { type SandboxInfo, sandboxInfo } from "./lifecycle.ts";

/** A page of sandboxes and what leads to the next one. */
export type SandboxPage = { sandboxes: SandboxInfo[]; next: string | undefined };

/** Which sandboxes a list holds. */
export type ListOptions = CallOptions & {
  /** States wanted; default all but `stopped` and `error`. */
  states?: readonly string[] | undefined;
  /** The sandbox of this name. */
  name?: string | undefined;
  template?: string | undefined;
  /** Labels that all of them have. */
  metadata?: Record<string, string> | undefined;
  /** At most this many, 1 to 1000. */
  limit?: number | undefined;
  /** `next` of the page before. */
  cursor?: string | undefined;
};

/** One page of the team's sandboxes, newest first. */
export async function listPage(client: Api, options: ListOptions): Promise<SandboxPage> {
  const { states, name, template, metadata, limit, cursor, signal, requestTimeoutMs } = options;
  const asked = {
    status: states?.join(","),
    name,
    template,
    metadata: metadata && JSON.stringify(metadata),
    limit: limit?.toString(),
    cursor,
  };
  const query = new URLSearchParams(Object.entries(asked).filter((pair): pair is [string, string] => pair[1] != null));
  const { value, headers } = await client.answer<rest.Capsule[]>("GET", `/v1/capsules?${query}`, {
    signal,
    requestTimeoutMs,
  });
  return { sandboxes: value.map(sandboxInfo), next: headers.get("X-Next-Cursor") ?? undefined };
}
