import { Sandbox } from "wrenn";
import { session } from "#lib/api/session.svelte.ts";

/** Sandboxes whose handles are kept. */
const maxKept = 16;
const kept = new Map<string, Promise<Sandbox>>();

/** The SDK's handle of a running sandbox; made once. */
export function handleOf(id: string): Promise<Sandbox> {
  const found = kept.get(id);
  if (found) return found;
  const made = Sandbox.connect(id, { client: session.client });
  made.catch(() => kept.delete(id));
  kept.set(id, made);
  if (kept.size > maxKept) kept.delete(kept.keys().next().value!);
  return made;
}
