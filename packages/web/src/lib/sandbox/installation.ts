import { session } from "#lib/api/session.svelte.ts";
import { act } from "#lib/ui/act.ts";
import { ask } from "#lib/ui/ask.svelte.ts";

/** Makes a template of a sandbox of the installation, which is removed; false when it was left. */
export async function snapshotAndDestroy(id: string): Promise<boolean> {
  const name = await ask({
    ...{ title: "Snapshot and destroy", label: "Name of the template", action: "Make it" },
    hint: "One of this name is replaced. The sandbox is removed.",
    check: (text) =>
      /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/.test(text)
        ? undefined
        : "1 to 64 letters, digits, dots, dashes, underscores.",
  });
  if (!name) return false;
  return act(`${name} is there; the sandbox is gone.`, () =>
    session.client.request("POST", `/v1/admin/capsules/${id}/snapshot`, { body: { name }, requestTimeoutMs: 0 }),
  );
}
