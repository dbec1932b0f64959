import type { WrennEvent } from "wrenn";
import { session } from "./session.svelte.ts";

/** An event as the server keeps it. */
type Kept = Pick<WrennEvent, "outcome" | "resource" | "actor" | "metadata" | "error"> & {
  event: string;
  timestamp: string;
};

/** Events of the past, newest first; those of one sandbox when it is named. */
export async function pastEvents(limit: number, resource?: string): Promise<WrennEvent[]> {
  const query = new URLSearchParams({ limit: String(limit), ...(resource && { resource }) });
  const found = await session.client.request<Kept[]>("GET", `/v1/events?${query}`);
  return found.map(({ event, timestamp, ...same }) => ({
    ...same,
    kind: event,
    sandbox: undefined,
    at: new Date(timestamp),
  }));
}
